"""What OpenAI clients send, as it stands on the wire: types, not meaning.

Nothing is converted but an integral float where an integer is wanted. Null
equals absence. Unknown fields are ignored, since clients of every age send
fields of every age. Ranges and meaning are decode's.

Source: OpenAI API reference, chat completions, completions and embeddings,
with the sampling fields that LM Studio and llama.cpp's server added.
"""

from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.types import FailFast


def _integral(value: object) -> object:
    """Turn 100.0 into 100; JavaScript and Lua cannot tell them apart."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


Int = Annotated[int, BeforeValidator(_integral)]


class Wire(BaseModel):
    """Base of the models: strict types, extra fields ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", populate_by_name=True)


class CalledFunction(Wire):
    """The function of a tool call; `arguments` is JSON text."""

    name: str
    arguments: str


class PastToolCall(Wire):
    """A call that an assistant message carries."""

    function: CalledFunction | None = None
    id: str | None = None
    type: str | None = None


class ChatMessage(Wire):
    """One message; `content` is a string, an array of parts or null."""

    role: str
    content: Any = None
    name: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: Annotated[list[PastToolCall] | None, FailFast()] = None
    tool_call_id: str | None = None
    function_call: CalledFunction | None = None


class StreamOptions(Wire):
    """Options of a streamed answer."""

    include_usage: bool | None = None


class Sampled(Wire):
    """Fields that chat and text completions share."""

    model: str
    temperature: float | None = None
    top_k: Int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = Field(
        default=None,
        validation_alias=AliasChoices("repeat_penalty", "repetition_penalty"),
    )
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: Int | None = None
    logit_bias: Annotated[dict[str, float] | None, FailFast()] = None
    stop: Any = None
    max_tokens: Int | None = None
    n: Int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class ChatRequest(Sampled):
    """Body of `POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], FailFast()]
    max_completion_tokens: Int | None = None
    logprobs: bool | None = None
    top_logprobs: Int | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None
    grammar: Any = None
    json_schema: Any = None
    modalities: Annotated[list[str] | None, FailFast()] = None
    audio: Any = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class CompletionRequest(Sampled):
    """Body of `POST /v1/completions`."""

    prompt: Any
    suffix: str | None = None
    echo: bool | None = None
    logprobs: Int | None = None
    best_of: Int | None = None
    response_format: dict[str, Any] | None = None
    grammar: Any = None
    json_schema: Any = None


class EmbeddingRequest(Wire):
    """Body of `POST /v1/embeddings`."""

    model: str
    input: Any
    encoding_format: str | None = None
    dimensions: Int | None = None

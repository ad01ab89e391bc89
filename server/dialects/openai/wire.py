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


def _named(value: object) -> object:
    """Turn null into "", which names no model."""
    return "" if value is None else value


Int = Annotated[int, BeforeValidator(_integral)]

Named = Annotated[str, BeforeValidator(_named)]


class Wire(BaseModel):
    """Base of the models: strict types, extra fields ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", populate_by_name=True)


class CalledFunction(Wire):
    """The function of a tool call; `arguments` is JSON text, or the object itself."""

    name: str
    arguments: Any = None


class PastToolCall(Wire):
    """A call that an assistant message carries."""

    function: CalledFunction | None = None
    id: str | None = None
    type: str | None = None


class ChatMessage(Wire):
    """One message; `content` is a string, an array of parts or null."""

    role: str
    content: Any = None
    refusal: str | None = None
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
    typical_p: float | None = Field(
        default=None,
        validation_alias=AliasChoices("typical_p", "typ_p", "typical"),
    )
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    mirostat: Int | None = Field(
        default=None, validation_alias=AliasChoices("mirostat", "mirostat_mode")
    )
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    adaptive_target: float | None = None
    adaptive_decay: float | None = None
    repeat_penalty: float | None = Field(
        default=None,
        validation_alias=AliasChoices("repeat_penalty", "repetition_penalty"),
    )
    repeat_last_n: Int | None = Field(
        default=None,
        validation_alias=AliasChoices(
            "repeat_last_n", "penalty_last_n", "repetition_range"
        ),
    )
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: Int | None = None
    dry_penalty_last_n: Int | None = Field(
        default=None,
        validation_alias=AliasChoices("dry_penalty_last_n", "dry_range"),
    )
    dry_sequence_breakers: Any = None
    samplers: Any = None
    seed: Int | None = None
    logit_bias: Annotated[dict[str, float] | None, FailFast()] = None
    stop: Any = None
    max_tokens: Int | None = None
    n: Int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class Constrained(Sampled):
    """Fields that say what form the answer must have, of three families.

    Source: OpenAI (`response_format`), llama.cpp's server (`json_schema`,
    `grammar`), vLLM (`structured_outputs` and the older `guided_…`).
    """

    response_format: dict[str, Any] | None = None
    json_schema: Any = None
    grammar: Any = None
    grammar_syntax: str | None = None
    regex: Any = None
    choice: Any = None
    structured_outputs: dict[str, Any] | None = None
    guided_json: Any = None
    guided_grammar: Any = None
    guided_regex: Any = None
    guided_choice: Any = None
    ignore_eos: bool | None = None
    cache_prompt: bool | None = None


class ChatRequest(Constrained):
    """Body of `POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], FailFast()]
    max_completion_tokens: Int | None = None
    logprobs: bool | None = None
    top_logprobs: Int | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    modalities: Annotated[list[str] | None, FailFast()] = None
    audio: Any = None
    chat_template_kwargs: dict[str, Any] | None = None
    enable_thinking: bool | None = None
    reasoning_effort: str | None = None
    reasoning: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    reasoning_budget: Int | None = None
    reasoning_budget_tokens: Int | None = None
    thinking_budget: Int | None = None
    thinking_budget_tokens: Int | None = None
    reasoning_format: str | None = None
    include_reasoning: bool | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None


class CompletionRequest(Constrained):
    """Body of `POST /v1/completions`."""

    prompt: Any
    suffix: str | None = None
    echo: bool | None = None
    logprobs: Int | None = None
    best_of: Int | None = None


class TemplateRequest(ChatRequest):
    """Body of `POST /apply-template`; "" stands for the only model there is."""

    model: Named = ""


class TokenizeRequest(Wire):
    """Body of `POST /tokenize`.

    Source: llama.cpp, tools/server/README.md.
    """

    content: str
    model: Named = ""
    add_special: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None


class DetokenizeRequest(Wire):
    """Body of `POST /detokenize`.

    Source: llama.cpp, tools/server/README.md.
    """

    tokens: list[Any]
    model: Named = ""


class EmbeddingRequest(Wire):
    """Body of `POST /v1/embeddings`."""

    model: str
    input: Any
    encoding_format: str | None = None
    dimensions: Int | None = None

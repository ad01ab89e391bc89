"""What a client can ask for, whatever protocol it spoke.

One request type serves every dialect, so it is as wide as the widest of them.
All values are checked by a dialect's `decode` before they get here: a
`Generate` is always well-formed, though its model may be unknown and its
prompt too long.
"""

from typing import Any

from msgspec import Struct


class Text(Struct, frozen=True, tag="text"):
    """A run of text inside a message."""

    text: str


class ToolCall(Struct, frozen=True):
    """A call that an assistant message of the past made.

    `arguments` is the JSON text as the client sent it.
    """

    id: str
    name: str
    arguments: str


class Message(Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation.

    `content` is None where the client sent none (an assistant turn that only
    called tools). `role` is one of system, user, assistant, tool.
    """

    role: str
    content: tuple[Text, ...] | None = None
    name: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class ChatPrompt(Struct, frozen=True, tag="chat"):
    """A conversation, to be rendered by the model's own chat template.

    `template_kwargs` are extra variables for the template (JSON values).
    """

    messages: tuple[Message, ...]
    template_kwargs: dict[str, Any] = {}


class TextPrompt(Struct, frozen=True, tag="text_prompt"):
    """Raw text; control tokens written in it are honoured.

    With `suffix` the model fills in the middle between `text` and `suffix`.
    """

    text: str
    suffix: str | None = None


class TokenPrompt(Struct, frozen=True, tag="token_prompt"):
    """Token ids as the client counted them; nothing is added."""

    tokens: tuple[int, ...]


Prompt = ChatPrompt | TextPrompt | TokenPrompt


class Sampling(Struct, frozen=True, omit_defaults=True):
    """How the next token is drawn. Defaults are LM Studio's.

    Ranges: `temperature` 0 to 2 and more (0 is greedy), `top_k` 0 is off,
    `top_p`, `min_p`, `typical_p` 0 to 1 (1, 0 and 1 are off),
    `repeat_penalty` above 0 (1 is off), `presence_penalty` and
    `frequency_penalty` -2 to 2. `seed` None draws a new one for each request;
    otherwise 0 to 2**32 - 1. `logit_bias` holds (token id, -100 to 100).
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    repeat_penalty: float = 1.1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()


class Generate(Struct, frozen=True):
    """Continue a prompt.

    Args:
        id: Unique among the requests of this server's life.
        model: A name as the client wrote it; the engine resolves it.
        prompt: What to continue.
        n: How many independent continuations share the prompt, at least 1.
        max_tokens: Upper bound of generated tokens for each continuation;
            None means until the context ends.
        stop: Strings that end a continuation and are not part of its text.
        top_logprobs: None for no log probabilities; otherwise how many
            alternatives are listed for each token, 0 to 20.
        echo: The prompt's own tokens are reported first, as text of each
            continuation, with log probabilities where asked for.
        sampling: How tokens are drawn.
    """

    id: str
    model: str
    prompt: Prompt
    n: int = 1
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    echo: bool = False
    sampling: Sampling = Sampling()


class Embed(Struct, frozen=True):
    """Turn texts into vectors.

    Each input is text or token ids. `dimensions` None keeps the model's own
    length; a smaller number cuts the vectors and scales them to length 1.
    """

    id: str
    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None

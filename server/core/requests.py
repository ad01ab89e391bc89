"""What a client can ask for, whatever protocol it spoke.

One request type serves every dialect, so it is as wide as the widest of them.
All values are checked by a dialect's `decode` before they get here: a
`Generate` is always well-formed, though its model may be unknown and its
prompt too long.
"""

from typing import Any, Literal

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


class Tool(Struct, frozen=True, omit_defaults=True):
    """A function that the model may call.

    `parameters` is a JSON Schema of an object; None means no parameters.
    `strict` asks that arguments always validate, also where the model itself
    decides to call.
    """

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool = False


class ToolChoice(Struct, frozen=True, omit_defaults=True):
    """Whether tools are called, and which.

    `mode` none hides them from the model, auto leaves the choice to it,
    required makes it call. `names` None allows all tools.
    """

    mode: Literal["none", "auto", "required"] = "auto"
    names: tuple[str, ...] | None = None
    parallel: bool = True


class Reasoning(Struct, frozen=True, omit_defaults=True):
    """Whether and how long the model thinks before it answers.

    `enabled` None leaves it to the template; `effort` is a word that the
    template may know. `budget_tokens` None sets no bound, 0 closes the thought
    as soon as it opens.
    """

    enabled: bool | None = None
    effort: str | None = None
    budget_tokens: int | None = None


class ChatPrompt(Struct, frozen=True, tag="chat", omit_defaults=True):
    """A conversation, to be rendered by the model's own chat template.

    `template_kwargs` are extra variables for the template (JSON values). With
    `continues` the last message is an assistant's whose turn goes on.
    """

    messages: tuple[Message, ...]
    template_kwargs: dict[str, Any] = {}
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    reasoning: Reasoning = Reasoning()
    continues: bool = False


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


class JsonSchema(Struct, frozen=True, tag="json_schema"):
    """The answer is JSON that validates against a schema.

    With `strict` a keyword that cannot be enforced is an error; without, it is
    relaxed and a warning says so.
    """

    schema: dict[str, Any] | bool
    strict: bool = False


class Regex(Struct, frozen=True, tag="regex"):
    """The whole answer matches a regular expression."""

    pattern: str


class OneOf(Struct, frozen=True, tag="one_of"):
    """The answer is one of these texts."""

    options: tuple[str, ...]


class Grammar(Struct, frozen=True, tag="grammar"):
    """The answer follows a grammar in llama.cpp's GBNF or in Lark."""

    text: str
    syntax: Literal["gbnf", "lark"] = "gbnf"


Constraint = JsonSchema | Regex | OneOf | Grammar


class Sampling(Struct, frozen=True, omit_defaults=True):
    """How a client wants the next token drawn.

    None leaves a field to the model's own default, and where it has none to
    the server's (`server.core.sampling`, which tells meanings and ranges).
    `seed` None draws a new one for each request; otherwise 0 to 2**32 - 1.
    `logit_bias` holds (token id, -100 to 100).
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    adaptive_target: float | None = None
    adaptive_decay: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: tuple[str, ...] | None = None
    samplers: tuple[str, ...] | None = None
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
        constraint: What form the answer must have, after any reasoning and
            instead of tool calls; None for any.
        ignore_eos: Go on where the model would end.
        cache_prompt: Reuse what earlier requests computed.
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
    constraint: Constraint | None = None
    ignore_eos: bool = False
    cache_prompt: bool = True


class Embed(Struct, frozen=True):
    """Turn texts into vectors.

    Each input is text or token ids. `dimensions` None keeps the model's own
    length; a smaller number cuts the vectors and scales them to length 1.
    """

    id: str
    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None


class Tokenize(Struct, frozen=True, tag="tokenize"):
    """Turn text into token ids.

    `add_special` adds the tokens that the model wants at the ends;
    `parse_special` reads the texts of control tokens as those tokens.
    """

    id: str
    model: str
    text: str
    add_special: bool = False
    parse_special: bool = True


class Detokenize(Struct, frozen=True, tag="detokenize"):
    """Turn token ids into text, control tokens by name."""

    id: str
    model: str
    tokens: tuple[int, ...]


class RenderPrompt(Struct, frozen=True, tag="render_prompt"):
    """Write a prompt as the model would read it, and count its tokens."""

    id: str
    model: str
    prompt: Prompt


Inquiry = Tokenize | Detokenize | RenderPrompt
"""A question about text that needs the model's vocabulary and no decode step."""


class Tokenized(Struct, frozen=True, tag="tokenized"):
    """The answer to `Tokenize`; `pieces` are the bytes of each token."""

    tokens: tuple[int, ...]
    pieces: tuple[bytes, ...]


class Detokenized(Struct, frozen=True, tag="detokenized"):
    """The answer to `Detokenize`; broken UTF-8 is replaced."""

    text: str


class Rendered(Struct, frozen=True, tag="rendered"):
    """The answer to `RenderPrompt`."""

    text: str
    n_tokens: int


InquiryResult = Tokenized | Detokenized | Rendered

"""What happens to a request, whatever protocol reports it.

Order of one generation, as an engine yields it:

    Loading* Started (PromptProgress | deltas | ChoiceFinished)* (Finished | Failed)

`Started` comes once the prompt is known to fit, before any work on it.
Exactly one of `Finished` and `Failed` ends every generation; `Failed` may
come at any place, also instead of `Started`. Deltas of different choices
interleave; those of one choice are in order, and its `ChoiceFinished` comes
after the last of them. Text of a delta is never empty and never ends inside
a character. A token's text may arrive with a later token (a stop string or
a character may still be incomplete); its log probability arrives with it.
"""

from enum import StrEnum

from msgspec import Struct

from server.core.errors import ErrorInfo


class FinishReason(StrEnum):
    """Why a continuation ended; the names are LM Studio's stop reasons."""

    EOS = "eosFound"
    STOP_STRING = "stopStringFound"
    MAX_TOKENS = "maxPredictedTokensReached"
    CONTEXT = "contextLengthReached"
    TOOL_CALLS = "toolCalls"


class TopLogprob(Struct, frozen=True, array_like=True):
    """An alternative at one position. `bytes` may be part of a character."""

    token_id: int
    bytes: bytes
    logprob: float


class TokenLogprob(Struct, frozen=True, array_like=True):
    """A generated token with its natural log probability.

    `logprob` is None for the first token of an echoed prompt, which nothing
    precedes. `top` is ordered from the most probable down.
    """

    token_id: int
    bytes: bytes
    logprob: float | None
    top: tuple[TopLogprob, ...] = ()


class Usage(Struct, frozen=True, array_like=True):
    """Token counts of one request.

    `cached_tokens` is the part of `prompt_tokens` that the prefix cache
    saved; `completion_tokens` sums over all choices and includes
    `reasoning_tokens`.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class Timings(Struct, frozen=True, array_like=True):
    """Seconds, measured in the worker from the arrival of the request.

    `first_token_s` is None where no token was generated.
    """

    queued_s: float
    first_token_s: float | None
    total_s: float


class Loading(Struct, frozen=True, tag="loading"):
    """The model is being loaded; `done` runs from 0.0 to 1.0."""

    instance_id: str
    done: float


class Started(Struct, frozen=True, tag="started", omit_defaults=True):
    """The request was accepted; `instance_id` names who answers.

    `warnings` say what was asked for and will not be kept to the letter, such
    as a keyword of a schema that was relaxed; one sentence each.
    """

    instance_id: str
    prompt_tokens: int
    warnings: tuple[str, ...] = ()


class PromptProgress(Struct, frozen=True, tag="prompt_progress"):
    """So many of the prompt's tokens are in the KV cache."""

    done: int
    total: int


class TextDelta(Struct, frozen=True, tag="text", omit_defaults=True):
    """More visible text of a choice."""

    choice: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class ReasoningDelta(Struct, frozen=True, tag="reasoning", omit_defaults=True):
    """More of the model's thinking, apart from its answer."""

    choice: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class ToolCallStarted(Struct, frozen=True, tag="tool_started"):
    """A tool call begins; `index` counts from 0 within its choice."""

    choice: int
    index: int
    id: str
    name: str


class ToolCallArgs(Struct, frozen=True, tag="tool_args"):
    """More of the JSON text of a call's arguments."""

    choice: int
    index: int
    text: str


class ToolCallEnded(Struct, frozen=True, tag="tool_ended"):
    """The call is complete; `arguments` is its whole JSON text."""

    choice: int
    index: int
    arguments: str


class ChoiceFinished(Struct, frozen=True, tag="choice_finished"):
    """A choice is complete; `stop` is the stop string that ended it."""

    choice: int
    reason: FinishReason
    stop: str | None = None


class Finished(Struct, frozen=True, tag="finished"):
    """The whole request is complete."""

    usage: Usage
    timings: Timings


class Failed(Struct, frozen=True, tag="failed"):
    """The request ended in an error; text reported before stays valid."""

    error: ErrorInfo


Event = (
    Loading
    | Started
    | PromptProgress
    | TextDelta
    | ReasoningDelta
    | ToolCallStarted
    | ToolCallArgs
    | ToolCallEnded
    | ChoiceFinished
    | Finished
    | Failed
)


class Embeddings(Struct, frozen=True):
    """The answer to `Embed`.

    `vectors` holds `[n_inputs, n_embd] float32`, little-endian, row by row
    in the order of the inputs; each row has length 1.
    """

    instance_id: str
    n_embd: int
    vectors: bytes
    prompt_tokens: int

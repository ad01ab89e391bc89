"""From events to OpenAI's chat completion, whole or in chunks. Pure.

Source: OpenAI API reference, "The chat completion object" and "The chat
completion chunk object"; `reasoning_content`, `stats` and the fingerprint are
as LM Studio gives them.
"""

from collections.abc import Iterator, Sequence
from typing import Any, assert_never

from msgspec import Struct

from server.core.events import (
    ChoiceFinished,
    Event,
    Failed,
    Finished,
    FinishReason,
    Loading,
    PromptProgress,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallArgs,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
)
from server.core.fold import Choice, Fold

Json = dict[str, Any]

LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON lacks, as in OpenAI's own answers."""


class Head(Struct, frozen=True):
    """What is the same in all chunks of an answer.

    `created_s` is in Unix seconds.
    """

    id: str
    created_s: int


class Showing(Struct, frozen=True):
    """What a client wants to see, and how.

    Args:
        logprobs: Whether log probabilities were asked for.
        reasoning: Whether thoughts are shown.
        legacy_call: Whether the first call is shown as the older
            `function_call`, and others not at all.
    """

    logprobs: bool = False
    reasoning: bool = True
    legacy_call: bool = False


class ChatChunks:
    """Turns the events of one generation into chunks, in order.

    Args:
        head: Identity of the answer.
        n: How many choices there are.
        showing: What the client wants to see.
        include_usage: Whether a chunk with token counts comes last.
    """

    def __init__(
        self, head: Head, *, n: int, showing: Showing, include_usage: bool
    ) -> None:
        self._head = head
        self._n = n
        self._showing = showing
        self._include_usage = include_usage
        self._model = ""

    def chunks(self, event: Event) -> Iterator[Json]:
        """Yield the chunks that this event causes; often one, maybe none.

        `Failed` yields nothing: an error has no chunk.
        """
        match event:
            case Started():
                self._model = event.instance_id
                for choice in range(self._n):
                    yield self._chunk(choice, {"role": "assistant"})
            case TextDelta():
                yield self._chunk(
                    event.choice, {"content": event.text}, logprobs=event.logprobs
                )
            case ReasoningDelta() | ToolCallStarted() | ToolCallArgs():
                delta = self._delta(event)
                if delta is not None:
                    yield self._chunk(event.choice, delta)
            case ChoiceFinished():
                reason = finish_reason(event.reason, self._showing)
                yield self._chunk(event.choice, {}, reason=reason)
            case Finished():
                if self._include_usage:
                    yield {
                        **self._envelope(),
                        "choices": [],
                        "usage": usage(event.usage),
                    }
            case Loading() | PromptProgress() | ToolCallEnded() | Failed():
                pass
            case _:
                assert_never(event)

    def _delta(
        self, event: ReasoningDelta | ToolCallStarted | ToolCallArgs
    ) -> Json | None:
        """Show what is not answer; None where there is nothing to show."""
        if not isinstance(event, ReasoningDelta):
            return _call_delta(event, legacy=self._showing.legacy_call)
        return {"reasoning_content": event.text} if self._showing.reasoning else None

    def _envelope(self) -> Json:
        return {
            "id": self._head.id,
            "object": "chat.completion.chunk",
            "created": self._head.created_s,
            "model": self._model,
            "system_fingerprint": self._model,
        }

    def _chunk(
        self,
        choice: int,
        delta: Json,
        *,
        logprobs: Sequence[TokenLogprob] = (),
        reason: str | None = None,
    ) -> Json:
        chunk = self._envelope()
        chunk["choices"] = [
            {
                "index": choice,
                "delta": delta,
                "logprobs": _logprobs(logprobs)
                if self._showing.logprobs and logprobs
                else None,
                "finish_reason": reason,
            }
        ]
        if self._include_usage:
            chunk["usage"] = None
        return chunk


def encode_chat(head: Head, fold: Fold, *, showing: Showing) -> Json:
    """Show a finished generation as a chat completion.

    Raises:
        ValueError: The generation has not finished.
    """
    if fold.usage is None:
        raise ValueError("the generation has not finished")
    return {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created_s,
        "model": fold.instance_id,
        "choices": [
            _choice(number, choice, showing)
            for number, choice in enumerate(fold.choices)
        ],
        "usage": usage(fold.usage),
        "stats": {},
        "system_fingerprint": fold.instance_id,
    }


def usage(counts: Usage) -> Json:
    """Show token counts as OpenAI's usage object."""
    return {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": counts.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
    }


def finish_reason(reason: FinishReason, showing: Showing | None = None) -> str:
    """Name the end of a choice in OpenAI's words."""
    match reason:
        case FinishReason.EOS | FinishReason.STOP_STRING:
            return "stop"
        case FinishReason.MAX_TOKENS | FinishReason.CONTEXT:
            return "length"
        case FinishReason.TOOL_CALLS:
            legacy = showing is not None and showing.legacy_call
            return "function_call" if legacy else "tool_calls"
        case _:
            assert_never(reason)


def finite(logprob: float) -> float:
    """Bring a log probability into what JSON can say."""
    return max(logprob, LEAST_LOGPROB)


def escaped(data: bytes, *, prefix: str = "") -> str:
    r"""Show a token as text; one that is no UTF-8 as `prefix` and `\xe2\x9d`."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return prefix + "".join(f"\\x{byte:02x}" for byte in data)


def _choice(number: int, choice: Choice, showing: Showing) -> Json:
    message: Json = {
        "role": "assistant",
        "content": choice.text or (None if choice.tool_calls else ""),
        "refusal": None,
    }
    if choice.reasoning and showing.reasoning:
        message["reasoning_content"] = choice.reasoning
    if choice.tool_calls and showing.legacy_call:
        first = choice.tool_calls[0]
        message["function_call"] = {"name": first.name, "arguments": first.arguments}
    elif choice.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in choice.tool_calls
        ]
    # An answer of calls alone has no tokens of text to speak of.
    shows_logprobs = showing.logprobs and bool(choice.logprobs or not choice.tool_calls)
    return {
        "index": number,
        "message": message,
        "logprobs": _logprobs(choice.logprobs) if shows_logprobs else None,
        "finish_reason": None
        if choice.reason is None
        else finish_reason(choice.reason, showing),
    }


def _call_delta(event: ToolCallStarted | ToolCallArgs, *, legacy: bool) -> Json | None:
    """Show the next piece of a call; None where there is nothing to show."""
    # Clients concatenate id and name, so each is sent once.
    if isinstance(event, ToolCallArgs):
        if not event.text:
            return None
        function = {"arguments": event.text}
        shown: Json = {"index": event.index, "function": function}
    else:
        function = {"name": event.name, "arguments": ""}
        shown = {
            "index": event.index,
            "id": event.id,
            "type": "function",
            "function": function,
        }
    if not legacy:
        return {"tool_calls": [shown]}
    return None if event.index else {"function_call": function}


def _logprobs(tokens: Sequence[TokenLogprob]) -> Json:
    return {
        "content": [
            {
                **_token(token.bytes, token.logprob),
                "top_logprobs": [_token(top.bytes, top.logprob) for top in token.top],
            }
            for token in tokens
        ],
        "refusal": None,
    }


def _token(data: bytes, logprob: float | None) -> Json:
    return {
        "token": escaped(data),
        "bytes": list(data),
        "logprob": finite(LEAST_LOGPROB if logprob is None else logprob),
    }

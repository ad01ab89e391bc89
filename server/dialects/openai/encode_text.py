"""From events to OpenAI's text completion, whole or in chunks. Pure.

One answer may hold several prompts: choice `i` of prompt `p` has the index
`p * n + i`. Offsets of tokens count characters of the choice's own text.

Source: OpenAI API reference, "The completion object" (legacy).
"""

from codecs import getincrementaldecoder
from collections.abc import Iterator, Sequence
from typing import Any, assert_never

from server.core.events import (
    ChoiceFinished,
    Event,
    Failed,
    Finished,
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
from server.dialects.openai.encode import (
    Head,
    Json,
    escaped,
    finish_reason,
    finite,
    usage,
)


class LegacyLogprobs:
    """Log probabilities of one choice, in OpenAI's older shape.

    Offsets run on from call to call, as the pieces of a stream do.
    """

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._n_chars = 0

    def encode(self, tokens: Sequence[TokenLogprob]) -> Json:
        """Show the next tokens."""
        shown: dict[str, list[Any]] = {
            "tokens": [],
            "token_logprobs": [],
            "top_logprobs": [],
            "text_offset": [],
        }
        for token in tokens:
            shown["tokens"].append(_text(token.bytes))
            logprob = None if token.logprob is None else finite(token.logprob)
            shown["token_logprobs"].append(logprob)
            shown["top_logprobs"].append(_alternatives(token))
            shown["text_offset"].append(self._n_chars)
            self._n_chars += len(self._decoder.decode(token.bytes))
        return shown


class CompletionChunks:
    """Turns the events of one or more generations into chunks.

    Args:
        head: Identity of the answer.
        n_prompts: How many generations there are.
        n: How many choices each has.
        logprobs: Whether they were asked for.
        include_usage: Whether a chunk with token counts comes last.
    """

    def __init__(
        self,
        head: Head,
        *,
        n_prompts: int,
        n: int,
        logprobs: bool,
        include_usage: bool,
    ) -> None:
        self._head = head
        self._n = n
        self._include_usage = include_usage
        self._logprobs = (
            tuple(LegacyLogprobs() for _ in range(n_prompts * n)) if logprobs else ()
        )
        self._model = ""
        self._usages: list[Usage] = []
        self._n_prompts = n_prompts

    def chunks(self, prompt: int, event: Event) -> Iterator[Json]:
        """Yield the chunks that this event of a prompt causes.

        What only chats have yields nothing, and so does `Failed`: an error
        has no chunk.
        """
        match event:
            case Started():
                self._model = event.instance_id
            case TextDelta():
                index = prompt * self._n + event.choice
                logprobs = None
                if self._logprobs and event.logprobs:
                    logprobs = self._logprobs[index].encode(event.logprobs)
                yield self._chunk(index, event.text, logprobs=logprobs)
            case ChoiceFinished():
                index = prompt * self._n + event.choice
                yield self._chunk(index, "", reason=finish_reason(event.reason))
            case Finished():
                self._usages.append(event.usage)
                if self._include_usage and len(self._usages) == self._n_prompts:
                    total = usage(total_usage(self._usages))
                    yield {**self._envelope(), "choices": [], "usage": total}
            case (
                Loading()
                | PromptProgress()
                | ReasoningDelta()
                | ToolCallStarted()
                | ToolCallArgs()
                | ToolCallEnded()
                | Failed()
            ):
                pass
            case _:
                assert_never(event)

    def _envelope(self) -> Json:
        return {
            "id": self._head.id,
            "object": "text_completion",
            "created": self._head.created_s,
            "model": self._model,
            "system_fingerprint": self._model,
        }

    def _chunk(
        self,
        index: int,
        text: str,
        *,
        logprobs: Json | None = None,
        reason: str | None = None,
    ) -> Json:
        chunk = self._envelope()
        chunk["choices"] = [
            {
                "index": index,
                "text": text,
                "logprobs": logprobs,
                "finish_reason": reason,
            }
        ]
        if self._include_usage:
            chunk["usage"] = None
        return chunk


def encode_completion(head: Head, folds: Sequence[Fold], *, logprobs: bool) -> Json:
    """Show finished generations, one for each prompt, as one completion.

    Raises:
        ValueError: A generation has not finished.
    """
    usages = [fold.usage for fold in folds if fold.usage is not None]
    if len(usages) != len(folds):
        raise ValueError("a generation has not finished")
    choices = [choice for fold in folds for choice in fold.choices]
    return {
        "id": head.id,
        "object": "text_completion",
        "created": head.created_s,
        "model": folds[0].instance_id,
        "choices": [
            _choice(index, choice, logprobs=logprobs)
            for index, choice in enumerate(choices)
        ],
        "usage": usage(total_usage(usages)),
        "stats": {},
        "system_fingerprint": folds[0].instance_id,
    }


def total_usage(usages: Sequence[Usage]) -> Usage:
    """Add the token counts of several generations."""
    return Usage(
        prompt_tokens=sum(each.prompt_tokens for each in usages),
        completion_tokens=sum(each.completion_tokens for each in usages),
        cached_tokens=sum(each.cached_tokens for each in usages),
        reasoning_tokens=sum(each.reasoning_tokens for each in usages),
    )


def _choice(index: int, choice: Choice, *, logprobs: bool) -> Json:
    return {
        "index": index,
        "text": choice.text,
        "logprobs": LegacyLogprobs().encode(choice.logprobs) if logprobs else None,
        "finish_reason": None
        if choice.reason is None
        else finish_reason(choice.reason),
    }


def _alternatives(token: TokenLogprob) -> dict[str, float] | None:
    """Map the likeliest tokens to log probabilities, the chosen one included."""
    if token.logprob is None:
        return None
    shown = {_text(top.bytes): finite(top.logprob) for top in token.top}
    shown.setdefault(_text(token.bytes), finite(token.logprob))
    return shown


def _text(data: bytes) -> str:
    return escaped(data, prefix="bytes:")

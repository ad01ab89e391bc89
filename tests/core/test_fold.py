import pytest

from server.core.errors import ErrorInfo
from server.core.events import (
    ChoiceFinished,
    Failed,
    Finished,
    FinishReason,
    Loading,
    PromptProgress,
    ReasoningDelta,
    Started,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallArgs,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
)
from server.core.fold import Choice, Fold
from server.core.requests import ToolCall

TIMINGS = Timings(queued_s=0.0, first_token_s=0.1, total_s=0.5)
USAGE = Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=2)


def fold(*events, n=1):
    folded = Fold(n)
    for event in events:
        folded.add(event)
    return folded


def test_pieces_of_interleaved_choices_are_joined_apart():
    token = TokenLogprob(token_id=1, bytes=b"b", logprob=-0.5)
    folded = fold(
        Loading("m", 0.5),
        Started("m:2", 7),
        PromptProgress(3, 7),
        TextDelta(0, "a"),
        TextDelta(1, "x"),
        TextDelta(0, "b", (token,)),
        ChoiceFinished(1, FinishReason.MAX_TOKENS),
        ChoiceFinished(0, FinishReason.STOP_STRING, stop="END"),
        Finished(USAGE, TIMINGS),
        n=2,
    )
    assert folded.choices == (
        Choice("ab", "", (), (token,), FinishReason.STOP_STRING, "END"),
        Choice("x", "", (), (), FinishReason.MAX_TOKENS, None),
    )
    assert ("m:2", USAGE, TIMINGS, None) == (
        folded.instance_id,
        folded.usage,
        folded.timings,
        folded.error,
    )


def test_reasoning_and_tool_calls_stand_beside_the_text():
    hidden = TokenLogprob(token_id=2, bytes=b"h", logprob=-0.1)
    folded = fold(
        ReasoningDelta(0, "h", (hidden,)),
        ReasoningDelta(0, "m"),
        ToolCallStarted(0, 0, "id0", "add"),
        ToolCallArgs(0, 0, '{"a"'),
        ToolCallStarted(0, 1, "id1", "sub"),
        ToolCallArgs(0, 0, ":1}"),
        ToolCallArgs(0, 1, "{"),
        ToolCallEnded(0, 1, "{}"),
    )
    (choice,) = folded.choices
    assert ("", "hm", ()) == (choice.text, choice.reasoning, choice.logprobs)
    assert choice.tool_calls == (
        ToolCall("id0", "add", '{"a":1}'),
        ToolCall("id1", "sub", "{}"),
    )


def test_a_generation_has_ended_with_its_result_or_its_error():
    assert not fold(Started("m", 1), TextDelta(0, "a")).ended
    assert fold(Finished(USAGE, TIMINGS)).ended
    error = ErrorInfo(code="worker_crashed", message="It died.")
    failed = fold(TextDelta(0, "a"), Failed(error))
    assert failed.ended
    assert error == failed.error
    assert "a" == failed.choices[0].text


def test_a_choice_that_was_never_asked_for_is_an_error():
    with pytest.raises(IndexError):
        fold(TextDelta(1, "a"))

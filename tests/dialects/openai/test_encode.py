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
    TopLogprob,
    Usage,
)
from server.core.fold import Fold
from server.dialects.openai.encode import (
    ChatChunks,
    Head,
    Showing,
    encode_chat,
    escaped,
    finish_reason,
)

HEAD = Head(id="chatcmpl-1", created_s=1760000000)
USAGE = Usage(
    prompt_tokens=12, completion_tokens=9, cached_tokens=4, reasoning_tokens=5
)
SHOWN_USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 9,
    "total_tokens": 21,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
FINISHED = Finished(USAGE, Timings(0.0, 0.1, 0.5))
TOKEN = TokenLogprob(
    5, b"\xe2\x9d", -0.25, (TopLogprob(5, b"\xe2\x9d", -0.25), TopLogprob(6, b"a", -2))
)
SHOWN_TOKEN = {
    "token": "\\xe2\\x9d",
    "bytes": [0xE2, 0x9D],
    "logprob": -0.25,
    "top_logprobs": [
        {"token": "\\xe2\\x9d", "bytes": [0xE2, 0x9D], "logprob": -0.25},
        {"token": "a", "bytes": [97], "logprob": -2},
    ],
}
THOUGHT_AND_CALLS = (
    Loading("m:2", 0.5),
    Started("m:2", 12),
    PromptProgress(12, 12),
    ReasoningDelta(0, "6*"),
    ReasoningDelta(0, "7"),
    ToolCallStarted(0, 0, "id0", "get-it"),
    ToolCallArgs(0, 0, '{"a"'),
    ToolCallArgs(0, 0, ":1}"),
    ToolCallEnded(0, 0, '{"a":1}'),
    ToolCallStarted(0, 1, "id1", "sub.x"),
    ToolCallArgs(0, 1, "{}"),
    ToolCallEnded(0, 1, "{}"),
    ChoiceFinished(0, FinishReason.TOOL_CALLS),
    FINISHED,
)
TWO_CHOICES = (
    Started("m", 12),
    TextDelta(1, "x", (TOKEN,)),
    TextDelta(0, "4"),
    TextDelta(0, "2"),
    ChoiceFinished(0, FinishReason.EOS),
    ChoiceFinished(1, FinishReason.MAX_TOKENS),
    FINISHED,
)


def whole(events, *, n=1, **showing):
    fold = Fold(n)
    for event in events:
        fold.add(event)
    return encode_chat(HEAD, fold, showing=Showing(**showing))


def chunks(events, *, n=1, include_usage=False, **showing):
    encoder = ChatChunks(
        HEAD, n=n, showing=Showing(**showing), include_usage=include_usage
    )
    return [chunk for event in events for chunk in encoder.chunks(event)]


def test_a_whole_answer_has_openais_shape():
    assert whole(TWO_CHOICES, n=2) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1760000000,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "42", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            },
            {
                "index": 1,
                "message": {"role": "assistant", "content": "x", "refusal": None},
                "logprobs": None,
                "finish_reason": "length",
            },
        ],
        "usage": SHOWN_USAGE,
        "stats": {},
        "system_fingerprint": "m",
    }


def test_thinking_and_tool_calls_are_shown_where_there_are_any():
    (choice,) = whole(THOUGHT_AND_CALLS)["choices"]
    assert "tool_calls" == choice["finish_reason"]
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "6*7",
        "tool_calls": [
            {
                "id": "id0",
                "type": "function",
                "function": {"name": "get-it", "arguments": '{"a":1}'},
            },
            {
                "id": "id1",
                "type": "function",
                "function": {"name": "sub.x", "arguments": "{}"},
            },
        ],
    }


def test_log_probabilities_are_shown_where_they_were_asked_for():
    first, second = whole(TWO_CHOICES, n=2, logprobs=True)["choices"]
    assert {"content": [], "refusal": None} == first["logprobs"]
    assert {"content": [SHOWN_TOKEN], "refusal": None} == second["logprobs"]


def test_an_impossible_token_has_a_number_that_json_knows():
    token = TokenLogprob(1, b"a", float("-inf"))
    events = (Started("m", 1), TextDelta(0, "a", (token,)), *TWO_CHOICES[4:])
    (choice, _) = whole(events, n=2, logprobs=True)["choices"]
    assert -9999.0 == choice["logprobs"]["content"][0]["logprob"]


def test_an_empty_answer_is_an_empty_text():
    events = (Started("m", 1), ChoiceFinished(0, FinishReason.EOS), FINISHED)
    assert "" == whole(events)["choices"][0]["message"]["content"]


def test_an_unfinished_generation_is_not_shown():
    with pytest.raises(ValueError, match="has not finished"):
        whole(TWO_CHOICES[:-1], n=2)


def test_chunks_share_their_head_and_end_with_the_reason():
    shown = chunks(TWO_CHOICES, n=2)
    for chunk in shown:
        assert ("chatcmpl-1", "chat.completion.chunk", 1760000000, "m", "m") == (
            chunk["id"],
            chunk["object"],
            chunk["created"],
            chunk["model"],
            chunk["system_fingerprint"],
        )
        assert "usage" not in chunk
    assert [
        (0, {"role": "assistant"}, None),
        (1, {"role": "assistant"}, None),
        (1, {"content": "x"}, None),
        (0, {"content": "4"}, None),
        (0, {"content": "2"}, None),
        (0, {}, "stop"),
        (1, {}, "length"),
    ] == [
        (choice["index"], choice["delta"], choice["finish_reason"])
        for chunk in shown
        for choice in chunk["choices"]
    ]


def test_usage_is_null_until_its_own_chunk():
    *others, last = chunks(TWO_CHOICES, n=2, include_usage=True)
    assert {None} == {chunk["usage"] for chunk in others}
    assert ([], SHOWN_USAGE) == (last["choices"], last["usage"])


def test_log_probabilities_travel_with_their_text():
    shown = chunks(TWO_CHOICES, n=2, logprobs=True)
    assert [None, None, {"content": [SHOWN_TOKEN], "refusal": None}] == [
        chunk["choices"][0]["logprobs"] for chunk in shown[:3]
    ]


def test_streamed_calls_send_id_and_name_once():
    deltas = [c["choices"][0]["delta"] for c in chunks(THOUGHT_AND_CALLS)]
    assert [
        {"role": "assistant"},
        {"reasoning_content": "6*"},
        {"reasoning_content": "7"},
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "id0",
                    "type": "function",
                    "function": {"name": "get-it", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
        {
            "tool_calls": [
                {
                    "index": 1,
                    "id": "id1",
                    "type": "function",
                    "function": {"name": "sub.x", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ] == deltas


def test_a_call_without_a_piece_of_arguments_brings_no_empty_delta():
    events = (
        Started("m", 1),
        ToolCallStarted(0, 0, "id0", "f"),
        ToolCallArgs(0, 0, ""),
        ToolCallArgs(0, 0, "{}"),
        ToolCallEnded(0, 0, "{}"),
        ChoiceFinished(0, FinishReason.TOOL_CALLS),
    )
    deltas = [c["choices"][0]["delta"] for c in chunks(events)]
    assert ["", "{}"] == [
        delta["tool_calls"][0]["function"]["arguments"]
        for delta in deltas
        if "tool_calls" in delta
    ]
    assert [{"role"}, {"tool_calls"}, {"tool_calls"}, set()] == list(map(set, deltas))


def test_nothing_is_shown_of_calls_and_thoughts_that_are_not_there():
    message = whole(TWO_CHOICES, n=2)["choices"][0]["message"]
    assert {"role", "content", "refusal"} == set(message)
    for chunk in chunks(TWO_CHOICES, n=2):
        assert set(chunk["choices"][0]["delta"]) <= {"role", "content"}


def test_the_older_form_shows_one_call_without_index_and_id():
    (choice,) = whole(THOUGHT_AND_CALLS, legacy_call=True)["choices"]
    assert "function_call" == choice["finish_reason"]
    assert "tool_calls" not in choice["message"]
    assert {"name": "get-it", "arguments": '{"a":1}'} == (
        choice["message"]["function_call"]
    )
    shown = [c["choices"][0] for c in chunks(THOUGHT_AND_CALLS, legacy_call=True)]
    assert [
        {"name": "get-it", "arguments": ""},
        {"arguments": '{"a"'},
        {"arguments": ":1}"},
    ] == [c["delta"]["function_call"] for c in shown if "function_call" in c["delta"]]
    assert not any("tool_calls" in c["delta"] for c in shown)
    assert "function_call" == shown[-1]["finish_reason"]


def test_thoughts_that_are_not_wanted_are_left_out_but_counted():
    (choice,) = (answer := whole(THOUGHT_AND_CALLS, reasoning=False))["choices"]
    assert "reasoning_content" not in choice["message"]
    assert 5 == answer["usage"]["completion_tokens_details"]["reasoning_tokens"]
    for chunk in chunks(THOUGHT_AND_CALLS, reasoning=False):
        assert "reasoning_content" not in chunk["choices"][0]["delta"]


def test_log_probabilities_are_those_of_the_answer_alone():
    events = (
        Started("m", 1),
        ReasoningDelta(0, "hm", (TOKEN,)),
        TextDelta(0, "a", (TOKEN,)),
        ChoiceFinished(0, FinishReason.EOS),
        FINISHED,
    )
    (choice,) = whole(events, logprobs=True)["choices"]
    assert {"content": [SHOWN_TOKEN], "refusal": None} == choice["logprobs"]
    shown = [c["choices"][0]["logprobs"] for c in chunks(events, logprobs=True)]
    assert [None, None, {"content": [SHOWN_TOKEN], "refusal": None}, None] == shown


def test_an_error_is_no_chunk():
    assert [] == chunks([Failed(ErrorInfo(code="c", message="m"))])


@pytest.mark.parametrize("events", [TWO_CHOICES, THOUGHT_AND_CALLS])
def test_streamed_pieces_joined_equal_the_whole(events):
    whole_answer = whole(events, n=2)
    for choice in whole_answer["choices"]:
        deltas = [
            part["delta"]
            for chunk in chunks(events, n=2)
            for part in chunk["choices"]
            if part["index"] == choice["index"]
        ]
        for field in ("content", "reasoning_content"):
            joined = "".join(delta.get(field, "") for delta in deltas)
            assert (choice["message"].get(field) or "") == joined


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        (FinishReason.EOS, "stop"),
        (FinishReason.STOP_STRING, "stop"),
        (FinishReason.MAX_TOKENS, "length"),
        (FinishReason.CONTEXT, "length"),
        (FinishReason.TOOL_CALLS, "tool_calls"),
    ],
)
def test_every_end_has_a_name(reason, shown):
    assert shown == finish_reason(reason)


def test_bytes_that_are_no_text_are_escaped():
    assert "é" == escaped("é".encode())
    assert "bytes:\\xff" == escaped(b"\xff", prefix="bytes:")

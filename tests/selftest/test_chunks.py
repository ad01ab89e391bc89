"""A stream folds to the whole answer, whatever pieces it came in."""

import json

import pytest

from server.selftest.chunks import END, fold_chunks
from server.selftest.report import CheckFailed


def chunk(reason=None, **delta):
    return json.dumps({"choices": [{"delta": delta, "finish_reason": reason}]})


def piece(index, arguments=None, **fields):
    function = {} if arguments is None else {"arguments": arguments}
    return {"index": index, "function": function | fields.pop("function", {}), **fields}


def begin(index, call_id, name):
    named = {"name": name}
    return piece(index, "", id=call_id, type="function", function=named)


def call(call_id, name, arguments):
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def test_text_is_joined_and_its_end_found():
    folded = fold_chunks(
        [
            chunk(role="assistant"),
            chunk(content="Hel"),
            chunk(content="lo"),
            chunk("stop"),
            json.dumps({"choices": [], "usage": {}}),
            END,
        ]
    )
    assert ("Hel", "lo") == folded.texts
    assert ("Hello", (), 0, "stop") == (
        folded.text,
        folded.calls,
        folded.n_arguments,
        folded.reason,
    )


def test_deltas_of_calls_are_joined_by_their_index():
    folded = fold_chunks(
        [
            chunk(tool_calls=[begin(1, "b", "set"), begin(0, "a", "get")]),
            chunk(tool_calls=[piece(0, '{"x"'), piece(1, "{")]),
            chunk(tool_calls=[piece(0, ": 1}")]),
            chunk(tool_calls=[piece(1, "}")]),
            chunk("tool_calls"),
            END,
        ]
    )
    assert (call("a", "get", '{"x": 1}'), call("b", "set", "{}")) == folded.calls
    assert ("tool_calls", 4) == (folded.reason, folded.n_arguments)


def test_a_name_or_an_end_that_comes_twice_shows():
    twice = [chunk(tool_calls=[begin(0, "a", "get")]), chunk("stop")] * 2
    folded = fold_chunks([*twice, END])
    assert "getget" == folded.calls[0]["function"]["name"]
    assert "aa" == folded.calls[0]["id"]
    assert "stopstop" == folded.reason


@pytest.mark.parametrize("data", [[], [chunk("stop")], [END, chunk("stop")]])
def test_a_stream_without_its_end_is_told(data):
    with pytest.raises(CheckFailed) as raised:
        fold_chunks(data)
    assert "[DONE] at the end of the stream" == raised.value.expected


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("{", ValueError),
        ("{}", LookupError),
        (chunk(tool_calls=[{"index": 0}]), LookupError),
    ],
)
def test_a_chunk_of_another_shape_is_an_error(data, error):
    with pytest.raises(error):
        fold_chunks([data, END])

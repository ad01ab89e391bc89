"""A call of a wrong shape is shown as it came; a right one in short."""

import json

import pytest

from server.selftest.comparison import expect_call, quote
from server.selftest.report import CheckFailed
from tests.selftest.recorded_engine import make_recorded

ANSWER = make_recorded().of_kind("calls")
GOOD = {
    "id": "a",
    "type": "function",
    "function": {"name": "get", "arguments": '{"city": "Rome"}'},
}


@pytest.mark.parametrize("text", [None, ""])
@pytest.mark.parametrize("arguments", ['{"city":"Rome"}', '{ "city" : "Rome" }'])
def test_the_recorded_call_passes_whatever_its_spaces(text, arguments):
    call = GOOD | {"function": {"name": "get", "arguments": arguments}}
    shown = expect_call(ANSWER, [call], text, "tool_calls")
    assert 'get {"city": "Rome"}' == shown


@pytest.mark.parametrize(
    "call",
    [
        "get",
        {},
        GOOD | {"id": ""},
        GOOD | {"type": "tool"},
        GOOD | {"function": {"name": "get"}},
        GOOD | {"function": {"name": "get", "arguments": "{"}},
        GOOD | {"function": {"name": "get", "arguments": '"Rome"'}},
        # Clients parse the text themselves; an object would break them.
        GOOD | {"function": {"name": "get", "arguments": {"city": "Rome"}}},
        {key: GOOD[key] for key in ("type", "function")},
    ],
)
def test_a_call_of_another_shape_is_shown_as_it_came(call):
    with pytest.raises(CheckFailed) as raised:
        expect_call(ANSWER, [call], None, "tool_calls")
    assert f"tool_calls {json.dumps(call)}, " in raised.value.actual


def test_a_quotation_ends_with_a_whole_word():
    assert '"one two"' == quote("one\ntwo")
    assert '"I can add small numbers, call…"' == quote(
        "I can add small numbers, call tools, write JSON"
    )

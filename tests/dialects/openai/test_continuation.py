import pytest

from server.core.errors import InvalidRequest
from server.core.requests import Message, Text, ToolCall
from server.dialects.openai.continuation import decode_continuation
from server.dialects.openai.wire import ChatRequest

USER = Message(role="user", content=(Text("hi"),))
SAID = Message(role="assistant", content=(Text("He"),))
THOUGHT = Message(role="assistant", reasoning="hm")
CALLED = Message(role="assistant", tool_calls=(ToolCall("i", "f", "{}"),))
RESULT = Message(role="tool", content=(Text("1"),))


def decode(*messages, **fields):
    wire = ChatRequest.model_validate({"model": "m", "messages": [], **fields})
    return decode_continuation(wire, messages)


@pytest.mark.parametrize(
    ("last", "fields", "expected"),
    [
        (USER, {}, False),
        (RESULT, {}, False),
        (SAID, {}, True),
        (THOUGHT, {}, True),
        (CALLED, {}, False),
        (SAID, {"continue_final_message": True}, True),
        (
            SAID,
            {"continue_final_message": True, "add_generation_prompt": False},
            True,
        ),
        (SAID, {"add_generation_prompt": False}, True),
        (SAID, {"continue_final_message": False}, False),
        (SAID, {"add_generation_prompt": True}, False),
        (
            SAID,
            {"continue_final_message": False, "add_generation_prompt": True},
            False,
        ),
        (USER, {"continue_final_message": False}, False),
        (USER, {"add_generation_prompt": True}, False),
    ],
)
def test_the_assistants_words_go_on_unless_told_otherwise(last, fields, expected):
    assert expected is decode(USER, last, **fields)


@pytest.mark.parametrize(
    ("last", "fields", "param", "text"),
    [
        (
            SAID,
            {"continue_final_message": True, "add_generation_prompt": True},
            "continue_final_message",
            "it is true, and so is 'add_generation_prompt'.",
        ),
        (
            SAID,
            {"continue_final_message": False, "add_generation_prompt": False},
            "add_generation_prompt",
            "it is false, and so is 'continue_final_message'",
        ),
        (
            USER,
            {"continue_final_message": True},
            "continue_final_message",
            "but the last one is of the role user.",
        ),
        (
            RESULT,
            {"add_generation_prompt": False},
            "add_generation_prompt",
            "but the last one is of the role tool.",
        ),
        (
            CALLED,
            {"continue_final_message": True},
            "continue_final_message",
            "the last message calls tools, so it is complete.",
        ),
    ],
)
def test_what_cannot_go_on_is_refused(last, fields, param, text):
    with pytest.raises(InvalidRequest) as caught:
        decode(USER, last, **fields)
    info = caught.value.to_info()
    assert (400, param) == (info.http_status, info.param)
    assert text in info.message

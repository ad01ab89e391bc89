import pytest

from server.core.errors import InvalidRequest
from server.core.requests import Message, Text, ToolCall
from server.dialects.openai.messages import decode_messages
from server.dialects.openai.wire import ChatMessage


def messages(*values):
    return decode_messages([ChatMessage.model_validate(value) for value in values])


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("system", "system"),
        ("developer", "system"),
        ("user", "user"),
        ("assistant", "assistant"),
        ("tool", "tool"),
        ("function", "tool"),
    ],
)
def test_every_role_has_its_meaning(role, expected):
    (message,) = messages({"role": role, "content": "x", "name": "n"})
    assert Message(role=expected, content=(Text("x"),), name="n") == message


def test_parts_of_text_stay_apart():
    (message,) = messages(
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "text", "text": ""},
                {"type": "refusal", "refusal": "no"},
            ],
        }
    )
    assert (Text("a"), Text(""), Text("no")) == message.content


def test_a_past_tool_call_and_its_result_are_kept():
    call = {"name": "add", "arguments": '{"a": 1}'}
    past, result = messages(
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    )
    assert past.content is None
    assert (ToolCall("c1", "add", '{"a": 1}'),) == past.tool_calls
    assert "c1" == result.tool_call_id
    (old,) = messages({"role": "assistant", "function_call": call})
    assert (ToolCall("call00000", "add", '{"a": 1}'),) == old.tool_calls


ASSISTANT = {"role": "assistant", "content": None}


def call(name, arguments="{}", **fields):
    return {"function": {"name": name, "arguments": arguments}, **fields}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ({"a": ["é", None]}, '{"a":["é",null]}'),
        ('{"a": ', '{"a": '),
        ("", "{}"),
        (None, "{}"),
    ],
)
def test_arguments_come_as_text_or_as_an_object(arguments, text):
    (message,) = messages({**ASSISTANT, "tool_calls": [call("f", arguments)]})
    assert text == message.tool_calls[0].arguments


def test_calls_and_results_without_ids_find_each_other():
    past, second, first, again, result = messages(
        {**ASSISTANT, "tool_calls": [call("f"), call("g"), call("h", id="call00001")]},
        {"role": "function", "name": "g", "content": "2"},
        {"role": "tool", "content": "1"},
        {**ASSISTANT, "tool_calls": [call("f", id="", type="")]},
        {"role": "tool", "tool_call_id": "", "content": "3"},
    )
    assert ["call00000", "call00002", "call00001"] == [c.id for c in past.tool_calls]
    assert ("call00002", "call00000") == (second.tool_call_id, first.tool_call_id)
    assert again.tool_calls[0].id == result.tool_call_id == "call00003"


def test_results_without_ids_and_names_answer_in_order():
    results = messages(
        {**ASSISTANT, "tool_calls": [call("f", id="a"), call("g", id="b")]},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
        {"role": "tool", "content": "3"},
    )[1:]
    assert ["a", "b", None] == [result.tool_call_id for result in results]


def test_a_result_that_answers_nothing_has_no_id():
    past, first, second = messages(
        {**ASSISTANT, "tool_calls": [call("f", id="a")]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "content": "2"},
    )
    assert ("a", None) == (first.tool_call_id, second.tool_call_id)
    assert "a" == past.tool_calls[0].id


def test_ids_are_the_same_every_time():
    past = {**ASSISTANT, "tool_calls": [call("f"), call("g")]}
    assert messages(past, past) == messages(past, past)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("x", (Text("x"),)),
        (
            [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            (Text("a"), Text("b")),
        ),
        ({"ok": True, "n": [1]}, (Text('{"ok":true,"n":[1]}'),)),
        (None, (Text(""),)),
        ([], (Text(""),)),
    ],
)
def test_a_result_may_be_of_any_form(content, expected):
    (message,) = messages({"role": "tool", "tool_call_id": "a", "content": content})
    assert expected == message.content


def test_an_answer_is_taken_as_the_server_gave_it():
    (message,) = messages(
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "reasoning_content": "6*7",
            "tool_calls": [{"id": "i", "type": "function", **call("get-it.x:y")}],
        }
    )
    assert (
        Message(
            role="assistant",
            reasoning="6*7",
            tool_calls=(ToolCall("i", "get-it.x:y", "{}"),),
        )
        == message
    )
    (refused,) = messages({**ASSISTANT, "refusal": "no"})
    assert (Text("no"),) == refused.content


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_the_thinking_of_the_past_comes_back(field):
    (message,) = messages({"role": "assistant", field: "hm"})
    assert Message(role="assistant", reasoning="hm") == message


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}


@pytest.mark.parametrize(
    ("message", "code", "param", "text"),
    [
        (
            {"role": "wizard", "content": "x"},
            "invalid_value",
            "messages[1].role",
            "expected one of system, developer, user, assistant, tool, function.",
        ),
        (
            {"role": "user"},
            "missing_required_parameter",
            "messages[1].content",
            "Missing required parameter: 'messages[1].content'.",
        ),
        (
            {"role": "assistant", "content": None},
            "missing_required_parameter",
            "messages[1].content",
            "Only an assistant message with tool_calls or reasoning_content",
        ),
        (
            {"role": "user", "content": {"type": "text"}},
            "invalid_type",
            "messages[1].content",
            "expected a string or an array of parts, but got an object.",
        ),
        (
            {"role": "user", "content": ["x"]},
            "invalid_type",
            "messages[1].content[0]",
            "expected an object, but got a string.",
        ),
        (
            {"role": "user", "content": [{"text": "x"}]},
            "missing_required_parameter",
            "messages[1].content[0].type",
            "Missing required parameter",
        ),
        (
            {"role": "user", "content": [{"type": 5}]},
            "invalid_type",
            "messages[1].content[0].type",
            "expected a string, but got a number.",
        ),
        (
            {"role": "user", "content": [{"type": "poem"}]},
            "invalid_value",
            "messages[1].content[0].type",
            "expected 'text'.",
        ),
        (
            {"role": "user", "content": [{"type": "text"}]},
            "missing_required_parameter",
            "messages[1].content[0].text",
            "Missing required parameter",
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": None}]},
            "invalid_type",
            "messages[1].content[0].text",
            "expected a string, but got null.",
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": "see"}, IMAGE]},
            "unsupported_content",
            "messages[1].content[1]",
            "is of type image_url, but this model has no vision.",
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]},
            "invalid_value",
            "messages[1].tool_calls[0].type",
            "expected 'function'.",
        ),
        (
            {**ASSISTANT, "tool_calls": [call("f", [1])]},
            "invalid_type",
            "messages[1].tool_calls[0].function.arguments",
            "expected a JSON text or an object, but got an array.",
        ),
        (
            {"role": "tool", "content": 5},
            "invalid_type",
            "messages[1].content",
            "expected a string or an array of parts, but got a number.",
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "a"}]},
            "missing_required_parameter",
            "messages[1].tool_calls[0].function",
            "Missing required parameter",
        ),
    ],
)
def test_a_wrong_message_is_refused_by_its_place(message, code, param, text):
    with pytest.raises(InvalidRequest) as caught:
        messages({"role": "user", "content": "ok"}, message)
    info = caught.value.to_info()
    assert (400, code, param) == (info.http_status, info.code, info.param)
    assert text in info.message


def test_a_conversation_has_a_message():
    with pytest.raises(InvalidRequest, match="Send at least one message"):
        messages()

"""Messages reach templates with the keys and shapes they know."""

import json

import pytest

from server.core.requests import Message, Text, Tool, ToolCall
from server.text.turns import (
    JsonArguments,
    JsonList,
    JsonMapping,
    complete_ids,
    fold_system_messages,
    make_tool,
    make_turn,
    map_strings,
    simplify_tool,
    walk_strings,
    wrap_arguments,
)


def say(role: str, text: str) -> Message:
    return Message(role, (Text(text),))


def test_a_plain_message_has_a_role_and_a_text_and_nothing_else() -> None:
    message = Message("user", (Text("a"), Text("b")))
    assert make_turn(message) == {"role": "user", "content": "ab"}
    assert make_turn(Message("assistant")) == {"role": "assistant", "content": ""}


def test_a_full_message_has_every_key() -> None:
    call = ToolCall("id1", "add", '{"a": 1}')
    message = Message("assistant", None, "bob", "hmm", (call,), "id0")
    assert make_turn(message) == {
        "role": "assistant",
        "content": "",
        "name": "bob",
        "reasoning_content": "hmm",
        "tool_call_id": "id0",
        "tool_calls": [
            {
                "id": "id1",
                "type": "function",
                "function": {"name": "add", "arguments": {"a": 1}},
            }
        ],
    }


def test_arguments_that_are_no_object_stay_the_text_they_were() -> None:
    for text in ("{", "[1]", "7", "[" * 100_000):
        call = ToolCall("i", "f", text)
        turn = make_turn(Message("assistant", tool_calls=(call,)))
        assert turn["tool_calls"][0]["function"]["arguments"] == text


def test_arguments_are_a_mapping_and_their_own_json_text() -> None:
    arguments = JsonArguments({"a": [1]}, '{"a":[1]}')
    assert json.dumps(arguments) == '{"a": [1]}'
    assert "<" + arguments + ">" == '<{"a":[1]}>'
    assert f"{arguments}" == '{"a":[1]}'


def test_system_messages_go_before_the_user_message_that_follows() -> None:
    folded = fold_system_messages(
        (
            say("system", "s1"),
            say("system", "s2"),
            say("user", "u1"),
            say("assistant", "a1"),
            say("system", "s3"),
            say("user", "u2"),
            say("user", "u3"),
            say("system", "s4"),
        )
    )
    assert folded == (
        say("user", "s1\n\ns2\n\nu1"),
        say("assistant", "a1"),
        say("user", "s3\n\nu2"),
        say("user", "u3"),
        say("user", "s4"),
    )


def test_without_system_messages_folding_changes_nothing() -> None:
    messages = (say("user", "u"), Message("assistant"), say("tool", "t"))
    assert fold_system_messages(messages) == messages


def test_walk_strings_finds_keys_values_and_the_json_text() -> None:
    value = [{"k": ["v", 1, None]}, JsonArguments({"a": "b"}, "text")]
    assert sorted(walk_strings(value)) == ["a", "b", "k", "text", "v"]


def test_map_strings_changes_all_but_roles_and_known_keys() -> None:
    value = {
        "role": "user",
        "content": "hi",
        "x": [True, None, 1.5, JsonArguments({"k": "v"}, "t")],
    }
    changed = map_strings(value, str.upper)
    expected = {"role": "user", "content": "HI", "X": [True, None, 1.5, {"K": "V"}]}
    assert changed == expected
    assert str(changed["X"][3]) == "T"


def test_values_inside_of_arguments_are_json_where_they_become_text() -> None:
    call = ToolCall("i", "f", '{"a": [true, {"b": null}], "c": {"d": "é"}}')
    turn = make_turn(Message("assistant", tool_calls=(call,)))
    arguments = turn["tool_calls"][0]["function"]["arguments"]
    for values in (arguments, map_strings(arguments, lambda text: text)):
        assert '[true, {"b": null}] {"d": "é"}' == f"{values['a']} {values['c']!r}"
        assert (JsonList, JsonMapping) == (type(values["a"]), type(values["c"]))
        assert '{"b": null}' == str(values["a"][1])


@pytest.mark.parametrize("text", ["", " \n"])
def test_no_arguments_at_all_are_an_empty_object(text) -> None:
    turn = make_turn(Message("assistant", tool_calls=(ToolCall("i", "f", text),)))
    arguments = turn["tool_calls"][0]["function"]["arguments"]
    assert ({}, "{}") == (arguments, str(arguments))


def test_arguments_that_are_no_object_are_wrapped_into_one() -> None:
    calls = tuple(ToolCall("i", "f", text) for text in ('{"a": 1}', "[1]", '{"a', ""))
    messages = (say("user", "x"), Message("assistant", tool_calls=calls))
    user, made = wrap_arguments(messages)
    assert say("user", "x") == user
    assert ['{"a": 1}', '{"arguments": "[1]"}', '{"arguments": "{\\"a"}', ""] == [
        call.arguments for call in made.tool_calls
    ]
    assert made == wrap_arguments((made,))[0]


def test_a_tool_is_described_with_all_that_templates_read() -> None:
    empty = {"type": "object", "properties": {}}
    function = {"name": "f", "description": "", "parameters": empty}
    assert {"type": "function", "function": function} == make_tool(Tool("f"))
    schema = {"type": "object", "properties": {"a": {}}, "required": ["a"]}
    made = make_tool(Tool("f", "d", schema, strict=True))["function"]
    assert {"name": "f", "description": "d", "parameters": schema} == made


def test_ids_and_names_are_completed_in_the_order_of_the_calls() -> None:
    calls = (ToolCall("", "f", "{}"), ToolCall("mine", "g", "{}"))
    messages = (
        Message("assistant", tool_calls=calls),
        Message("tool", tool_call_id="mine"),
        Message("tool"),
        Message("tool", name="kept", tool_call_id="unknown"),
        Message("tool"),
        Message("assistant", tool_calls=(ToolCall("", "h", "{}"),)),
        Message("tool"),
    )
    made = complete_ids(messages)
    assert ["call00001", "mine"] == [call.id for call in made[0].tool_calls]
    assert [
        ("g", "mine"),
        ("f", "call00001"),
        ("kept", "unknown"),
        (None, None),
        ("h", "call00003"),
    ] == [(m.name, m.tool_call_id) for m in made if m.role == "tool"]
    assert made == complete_ids(made)


def test_a_simple_schema_has_one_known_type_everywhere() -> None:
    schema = {
        "type": ["null", "object"],
        "properties": {
            "type": {"type": "null"},
            "b": {"items": {"type": ["x", "integer"]}, "enum": [1]},
            "c": {"anyOf": [{"type": 7}, True]},
        },
    }
    assert simplify_tool(Tool("f", "d", schema)) == Tool(
        "f",
        "d",
        {
            "type": "object",
            "properties": {
                "type": {"type": "string"},
                "b": {"items": {"type": "integer"}, "enum": [1]},
                "c": {"anyOf": [{"type": "string"}, True]},
            },
        },
    )

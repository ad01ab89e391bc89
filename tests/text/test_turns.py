"""Messages reach templates with the keys and shapes they know."""

import json

from server.core.requests import Message, Text, ToolCall
from server.text.turns import (
    JsonArguments,
    fold_system_messages,
    make_turn,
    map_strings,
    walk_strings,
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

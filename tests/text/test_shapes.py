"""Turns take the form that a template wants."""

import pytest

from server.core.requests import Message, Text, ToolCall
from server.text.shapes import IdStyle, TurnShape, shape_turns
from server.text.turns import make_turn
from tests.text.real_templates import say


def call(*ids: str, text: str = "", thought: str | None = None) -> dict:
    calls = tuple(ToolCall(i, f"f{i}", '{"a": 1}') for i in ids)
    content = (Text(text),) if text else None
    return make_turn(Message("assistant", content, None, thought, calls))


def result(call_id: str) -> dict:
    return make_turn(Message("tool", (Text(f"r{call_id}"),), tool_call_id=call_id))


USER = make_turn(say("user", "hi"))


def test_the_usual_shape_changes_nothing_and_nothing_is_changed_in_place() -> None:
    turns = [USER, call("1", "2", thought="hm"), result("1"), result("2")]
    before = repr(turns)
    assert turns == shape_turns(turns, TurnShape())
    for shape in (
        TurnShape(splits_calls=True, id_style=IdStyle.SHORT, thought_key=""),
        TurnShape(null_content=True, arguments_as_text=True, thought_key="thinking"),
    ):
        shape_turns(turns, shape)
    assert before == repr(turns)


def test_calls_are_split_and_each_is_followed_by_its_result() -> None:
    turns = [
        call("1", "2", "3", text="look", thought="hm"),
        result("2"),
        result("9"),
        result("1"),
        USER,
    ]
    made = shape_turns(turns, TurnShape(splits_calls=True))
    seen = [
        turn["tool_calls"][0]["id"] if "tool_calls" in turn else turn["content"]
        for turn in made
    ]
    assert ["1", "r1", "2", "r2", "3", "r9", "hi"] == seen
    assert ["look", "", ""] == [t["content"] for t in made if "tool_calls" in t]
    assert ["hm", None, None] == [
        t.get("reasoning_content") for t in made if "tool_calls" in t
    ]


def test_ids_become_nine_letters_and_digits_and_results_still_answer() -> None:
    long = "call_0123456789abcdef"
    turns = [call(long, "abcDEF789"), result(long), result("abcDEF789"), result("?")]
    made = shape_turns(turns, TurnShape(id_style=IdStyle.SHORT))
    short, kept = (c["id"] for c in made[0]["tool_calls"])
    assert (9, True, "abcDEF789") == (len(short), short.isalnum(), kept)
    assert [short, kept] == [turn["tool_call_id"] for turn in made[1:3]]
    assert 9 == len(made[3]["tool_call_id"])
    again = shape_turns(turns, TurnShape(id_style=IdStyle.SHORT))
    assert made == again


def test_ids_become_names_with_the_place_of_the_call() -> None:
    turns = [call("1", "functions.f2:7"), result("1"), call("3"), result("3")]
    made = shape_turns(turns, TurnShape(id_style=IdStyle.NAMED))
    ids = [c["id"] for turn in made for c in turn.get("tool_calls", [])]
    assert ["functions.f1:0", "functions.f2:7", "functions.f3:2"] == ids
    assert [ids[0], ids[2]] == [made[1]["tool_call_id"], made[3]["tool_call_id"]]


def test_text_arguments_and_null_contents_are_made_where_they_are_wanted() -> None:
    turns = [call("1"), call("2", text="so"), USER]
    shape = TurnShape(null_content=True, arguments_as_text=True)
    made = shape_turns(turns, shape)
    assert [None, "so", "hi"] == [turn["content"] for turn in made]
    arguments = made[0]["tool_calls"][0]["function"]["arguments"]
    assert (str, '{"a": 1}') == (type(arguments), arguments)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("reasoning_content", "so", {"reasoning_content": "hm", "content": "so"}),
        ("reasoning", "so", {"reasoning": "hm", "content": "so"}),
        ("thinking", "", {"thinking": "hm", "content": ""}),
        ("thinking", "so", {"thinking": "hm\nso", "content": ""}),
        ("", "so", {"content": "so"}),
    ],
)
def test_a_thought_stands_under_the_key_that_is_read(key, text, expected) -> None:
    (made,) = shape_turns(
        [call("1", text=text, thought="hm")], TurnShape(thought_key=key)
    )
    del made["tool_calls"]
    assert {"role": "assistant", **expected} == made

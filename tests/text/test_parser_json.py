"""Calls that are JSON: members in any order, and JSON that is no call."""

import pytest

from tests.text.reader_formats import FORMATS, JSON_CALL, make
from tests.text.reader_run import hear, make_reader

HERMES, LLAMA = FORMATS["hermes"], FORMATS["llama"]


def wrap(text: str) -> str:
    return f"<tool_call>{text}</tool_call>"


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ('{"arguments": {"a": 1}, "name": "f"}', '{"a": 1}'),
        ('{"name": "f", "x": [{"name": "g"}], "arguments": {}}', "{}"),
        ('{"name": "f", "arguments": {"a": 1}, "y": "}"}', '{"a": 1}'),
        ('{"name": "f", "parameters": {"a": 1}}', '{"a": 1}'),
        ('{"name": "f"}', "{}"),
        ('{"name": "f", "arguments": null}', "{}"),
        ('{"name": "f", "arguments": ""}', "{}"),
        ('{"name": "f", "arguments": "{\\"a\\": 1}"}', '{"a": 1}'),
        ('{"function": {"name": "f", "arguments": { } } }', "{ }"),
        ('[{"name": "f", "arguments": {}}]', "{}"),
        (' \n{"name": "f", "arguments": {}}}\n', "{}"),
    ],
)
def test_members_may_stand_in_other_ways(body: str, arguments: str) -> None:
    heard = hear(HERMES, wrap(body))
    assert ([("f", "id0", arguments)], "") == (heard.calls, heard.answer)


@pytest.mark.parametrize(
    "text",
    [
        wrap("no JSON"),
        wrap('{"nam": "f", "arguments": {}}'),
        wrap('{"name": "f g", "arguments": {}}'),
        wrap('{"name": "f", "arguments": [1]}'),
        wrap('{"name": "f", "arguments": true}'),
        wrap('{"name": 1, "arguments": {}}'),
        wrap('{"name": "f" "arguments"'),
        wrap('{"name": ""}'),
        wrap("{}"),
        '<tool_call>{"name": "f", "argu',
        "<tool_call>\n",
        "<tool_ca",
    ],
)
def test_what_is_no_call_comes_back_unchanged(text: str) -> None:
    heard = hear(HERMES, f"a\n\n{text}")
    assert (f"a\n\n{text}", []) == (heard.answer, heard.calls)


@pytest.mark.parametrize(
    "text",
    [
        '{"city": "Rome", "name": "f"}',
        '{"name": "Ann", "parameters": {}}',
        '{"name": "f", "age": 3}',
        '{"name": "f"}',
        '{"parameters": {}, "name": "f"}',
        '{"type": "object", "name": "f", "parameters": {}}',
        '[{"a": 1}]',
        "[1, 2]",
        "{}",
        "{",
        '{"name": "f", "param',
        'Here: {"name": "f", "parameters": {}}',
    ],
)
def test_without_marks_other_json_is_text(text: str) -> None:
    heard = hear(LLAMA, text)
    assert (text, []) == (heard.answer, heard.calls)


def test_without_marks_json_is_held_only_while_it_can_be_a_call() -> None:
    reader = make_reader(LLAMA)
    shown = [
        "".join(part.text for part in reader.feed(character.encode(), None).parts)
        for character in '{"na": "x'
    ]
    assert ["", "", "", "", '{"na"', ":", "", ' "', "x"] == shown


def test_without_marks_calls_follow_each_other_and_a_thought() -> None:
    syntax = make(JSON_CALL, HERMES.reasoning)
    call = '{"name": "f", "arguments": {}}'
    heard = hear(syntax, f"<think>a</think>\n{call}\n{call}\n and {call}")
    assert ("a", f"\n and {call}", 2) == (
        heard.thought,
        heard.answer,
        len(heard.calls),
    )


def test_ids_are_the_models_where_they_come_in_time() -> None:
    text = (
        '<|START_ACTION|>[{"tool_call_id": 7, "tool_name": "f", "parameters": {}}, '
        '{"tool_call_id": "7", "tool_name": "f", "parameters": {}}, '
        '{"tool_name": "f", "parameters": {}, "tool_call_id": "9"}]<|END_ACTION|>'
    )
    ids = [call_id for _, call_id, _ in hear(FORMATS["cohere"], text).calls]
    assert ["7", "id0", "id1"] == ids


def test_arguments_that_are_cut_off_end_where_the_output_does() -> None:
    heard = hear(HERMES, '<tool_call>{"name": "f", "arguments": {"a": [1, "b')
    assert ([("f", "id0", '{"a": [1, "b')], "") == (heard.calls, heard.answer)


def test_arguments_with_open_brackets_end_at_the_mark() -> None:
    text = wrap('{"name": "f", "arguments": {"a": [1}') + " b"
    heard = hear(HERMES, text + wrap('{"name": "f"}'))
    assert [("f", "id0", '{"a": [1}'), ("f", "id1", "{}")] == heard.calls
    assert " b" == heard.answer


def test_broken_json_is_passed_on_as_it_is() -> None:
    heard = hear(HERMES, wrap('{"name": "f", "arguments": {\'a\': True}}'))
    assert [("f", "id0", "{'a': True}")] == heard.calls


def test_text_after_a_reported_call_is_answer() -> None:
    heard = hear(HERMES, '<tool_call>{"name": "f", "arguments": {}} oh <b')
    assert (" oh <b", 1) == (heard.answer, len(heard.calls))


def test_a_named_call_may_have_no_object() -> None:
    heard = hear(FORMATS["functionary"], "<function=f></function>x")
    assert ([("f", "id0", "{}")], "x") == (heard.calls, heard.answer)


def test_a_call_of_an_unknown_function_is_one_where_marks_say_so() -> None:
    assert "g" == hear(HERMES, wrap('{"name": "g"}')).calls[0][0]


def test_a_name_as_key_needs_an_object() -> None:
    text = '<|tools_prefix|>[{"f": 1}]<|tools_suffix|>'
    heard = hear(FORMATS["apertus"], text)
    assert (text, []) == (heard.answer, heard.calls)

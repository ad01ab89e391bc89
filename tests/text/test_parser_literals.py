"""Literals of other notations become JSON."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.text.parser_literals import translate_python, translate_word
from tests.text.reader_formats import FORMATS
from tests.text.reader_run import hear

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_the_representation_of_a_value_is_that_value(value: object) -> None:
    translated = translate_python(repr(value))
    assert translated is not None
    assert value == json.loads(translated)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'a\\x41\\u00e9\\U0001f98a\\ud83e\\udd8a\\q\\\n'", "aAé🦊🦊\\q"),
        ("'\\a\\v\\0\\b\\f\\r\\t'", "\a\v\0\b\f\r\t"),
        ("'\ttab\n'", "\ttab\n"),
        ("(1, 'a',)", [1, "a"]),
        ("{1: 2, 'b' : None,}", {"1": 2, "b": None}),
        ("true", True),
        ("1_000", "1_000"),
        ("[]", []),
    ],
)
def test_a_literal_of_python(text: str, expected: object) -> None:
    translated = translate_python(text)
    assert translated is not None
    assert expected == json.loads(translated)


@pytest.mark.parametrize(
    "text",
    ["", "[1 2]", "[1", "1 2", "{1}", "[1)", "'\\xZZ'", "'\\U00110000'", ",", "'a"],
)
def test_what_is_no_literal(text: str) -> None:
    assert translate_python(text) is None


def test_a_word_of_no_meaning_is_text() -> None:
    words = ["None", "-1.5e3", "01", 'a"b']
    assert ["null", "-1.5e3", '"01"', '"a\\"b"'] == list(map(translate_word, words))


def call_python(arguments: str) -> tuple[list, str]:
    text = f"<|tool_call_start|>[get_weather({arguments})]<|tool_call_end|>"
    heard = hear(FORMATS["lfm2"], text)
    return heard.calls, heard.answer


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        ("'Rome', 3", {"city": "Rome", "days": 3}),
        ("'Rome', days = 3 ,", {"city": "Rome", "days": 3}),
        ("Rome, [1]", {"city": "Rome", "days": [1]}),
        ('city="a\'b"', {"city": "a'b"}),
    ],
)
def test_arguments_of_python(arguments: str, expected: object) -> None:
    ((_, _, written),), answer = call_python(arguments)
    assert (expected, "") == (json.loads(written), answer)


def test_a_broken_call_ends_where_it_breaks() -> None:
    calls, answer = call_python("days=3 4")
    assert [("get_weather", "id0", '{"days": 3')] == calls
    assert "4)]<|tool_call_end|>" == answer


def test_more_positions_than_parameters_break_a_call() -> None:
    calls, _ = call_python("1, 2, 3, 4, 5, 6")
    assert not calls[0][2].endswith("}")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("{}", {}),
        ('{a:<|"|>{x},<y><|"|>}', {"a": "{x},<y>"}),
        ('{<|"|>a b<|"|>:true}', {"a b": True}),
        ('{a:"b\\n", c:[1, 2 ,{}]}', {"a": "b\\n", "c": [1, 2, {}]}),
        ("{a:New York,b:None}", {"a": "New York", "b": None}),
        ('{a:(b),c:<|"|><|"|>}', {"a": "(b)", "c": ""}),
    ],
)
def test_quoted_arguments(arguments: str, expected: object) -> None:
    text = f"<|tool_call>call:f{arguments}<tool_call|>"
    heard = hear(FORMATS["gemma4"], text)
    ((_, _, written),) = heard.calls
    assert (expected, "") == (json.loads(written), heard.answer)


def test_without_marks_a_list_of_python_must_name_tools() -> None:
    for text in ("[1, 2]", "[g(a=1)]", "[f]", "[get_weath", "[]"):
        heard = hear(FORMATS["pythonic"], text)
        assert (text, []) == (heard.answer, heard.calls)

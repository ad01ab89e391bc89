"""Values between tags get the type that the schema says."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.requests import Tool
from server.text.parser_tagged import read_typed
from server.text.reader import CallArguments
from tests.text.reader_formats import FORMATS
from tests.text.reader_run import hear, make_reader

ALL = frozenset({"string", "integer", "number", "boolean", "null", "object", "array"})


@pytest.mark.parametrize(
    ("text", "types", "expected"),
    [
        ("3", {"integer"}, 3),
        (" 3\n", {"integer"}, 3),
        ("three", {"integer"}, "three"),
        ("007", {"integer"}, "007"),
        ("True", {"boolean"}, True),
        ("None", {"null", "integer"}, None),
        ("{'a': [1, None]}", {"object"}, {"a": [1, None]}),
        ("('a',)", {"array"}, ["a"]),
        ("{'a': ", {"object"}, "{'a': "),
        ("NaN", {"number"}, "NaN"),
        ("null", {"string", "null"}, None),
        ("nullable", {"string", "null"}, "nullable"),
        ('"a"', ALL, '"a"'),
        ("[1]", ALL, [1]),
        ("True", ALL, "True"),
        ("a\nb", ALL, "a\nb"),
        ("1" * 5000, {"integer"}, None),
        ("[" * 100_000, {"array"}, "[" * 100_000),
    ],
)
def test_a_text_becomes_a_value(text: str, types: set[str], expected: object) -> None:
    read = read_typed(text, frozenset(types))
    if expected is None and text.isdigit():
        assert text == read
    else:
        assert expected == json.loads(read)


def call_with(schema: dict, value: str) -> object:
    text = f"<function=f><parameter=k>{value}</parameter></function></seed:tool_call>"
    tool = Tool("f", parameters=schema)
    (call,) = hear(FORMATS["seed"], f"<seed:tool_call>{text}", tools=(tool,)).calls
    return json.loads(call[2])["k"]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, "1"),
        ({"type": "integer"}, 1),
        ({}, 1),
        (True, 1),
        ({"enum": ["1", "2"]}, "1"),
        ({"const": "1"}, "1"),
        ({"anyOf": [{"type": "string"}, {"const": "x"}]}, "1"),
        ({"oneOf": [{"type": "string"}, {"type": "number"}]}, 1),
        ({"$ref": "#/$defs/a~1b"}, "1"),
        ({"$ref": "#/$defs/endless"}, 1),
        ({"$ref": "#/nowhere"}, 1),
        ({"$ref": "https://example.com"}, 1),
        ({"type": ["string"]}, "1"),
    ],
)
def test_the_schema_of_a_parameter_tells_its_types(schema, expected) -> None:
    whole = {
        "properties": {"k": schema},
        "$defs": {
            "a/b": {"type": "string"},
            "endless": {"anyOf": [{"$ref": "#/$defs/endless"}] * 2},
        },
    }
    assert expected == call_with(whole, "1")


def test_an_unknown_parameter_is_json_if_it_can_be() -> None:
    assert [{"a": 1}, "b"] == [call_with({}, '{"a": 1}'), call_with({}, "b")]


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_text_comes_back_whatever_is_in_it(value: str) -> None:
    if "</parameter>" in value:
        return
    schema = {"properties": {"k": {"type": "string"}}}
    assert value == call_with(schema, value)


@pytest.mark.parametrize("value", ["", "\n", "\n\n", "a\n", "\na", " a ", "a\n\nb\n\n"])
def test_the_templates_line_breaks_are_not_part_of_a_value(value: str) -> None:
    text = (
        "<tool_call>\n<function=f>\n<parameter=k>\n"
        f"{value}\n</parameter>\n</function>\n</tool_call>"
    )
    tool = Tool("f", parameters={"properties": {"k": {"type": "string"}}})
    (call,) = hear(FORMATS["qwen3-coder"], text, tools=(tool,)).calls
    assert {"k": value} == json.loads(call[2])


def test_a_call_without_arguments_has_an_empty_object() -> None:
    for text in (
        "<tool_call>f\n</tool_call>",
        "<tool_call>f</tool_call>",
        "<tool_call> f <arg_key>a</arg_key><arg_value>1</arg_value></tool_call>",
    ):
        (call,) = hear(FORMATS["glm"], text).calls
        assert ("f", "id0") == call[:2]
        assert json.loads(call[2]) in ({}, {"a": 1})


def test_text_streams_before_its_end_is_known() -> None:
    reader = make_reader(FORMATS["glm"])
    head = b"<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>"
    reader.feed(head, None)
    parts = [reader.feed(piece, None).parts for piece in (b'a"', b"</arg", b"b")]
    assert [
        (CallArguments(0, 'a\\"'),),
        (),
        (CallArguments(0, "</argb"),),
    ] == parts


@pytest.mark.parametrize(
    ("tail", "arguments", "answer"),
    [
        ("", '{"days": 3}', ""),
        ("<arg_k", '{"days": 3}', ""),
        ("<arg_key>ci", '{"days": 3', ""),
        ("<arg_key>city</arg_key><arg_value>Ro", '{"days": 3, "city": "Ro', ""),
        ("oh no", '{"days": 3}', "oh no"),
    ],
)
def test_a_call_that_is_cut_off(tail: str, arguments: str, answer: str) -> None:
    text = "<tool_call>get_weather<arg_key>days</arg_key><arg_value>3</arg_value>"
    heard = hear(FORMATS["glm"], text + tail)
    assert ([("get_weather", "id0", arguments)], answer) == (heard.calls, heard.answer)


def test_a_call_that_lacks_a_required_argument_is_not_made_to_look_whole() -> None:
    tool = Tool("f", parameters={"required": ["a", "b"]})
    text = "<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value>"
    (call,) = hear(FORMATS["glm"], text, tools=(tool,)).calls
    assert '{"a": 1' == call[2]


def test_a_name_without_tags_is_text() -> None:
    text = "<tool_call>f is what I would call"
    assert (text, []) == (
        (heard := hear(FORMATS["glm"], text)).answer,
        heard.calls,
    )

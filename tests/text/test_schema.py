"""Schemas are rewritten by the rules that are written down."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidRequest
from server.text.schema import relax, relax_arguments
from server.text.schema_limits import (
    MAX_SCHEMA_BYTES,
    MAX_SCHEMA_DEPTH,
    MAX_SCHEMA_VALUES,
)

INT = {"type": "integer"}


def loosely(schema):
    return relax(schema, strict=False, param="response_format").schema


def test_declared_properties_close_an_object():
    schema = {"type": "object", "properties": {"a": INT}, "required": ["z"]}
    assert {
        "type": "object",
        "properties": {"a": INT, "z": True},
        "required": ["z"],
        "additionalProperties": False,
    } == loosely(schema)


def test_what_the_schema_says_of_others_is_kept():
    schema = {"type": "object", "properties": {"a": INT}, "additionalProperties": INT}
    assert schema == loosely(schema)


def test_joined_objects_are_closed_together():
    schema = {
        "allOf": [
            {"type": "object", "properties": {"a": INT}},
            {"type": "object", "properties": {"b": INT}},
        ]
    }
    written = loosely(schema)
    assert {"a": True, "b": True} == written["properties"]
    assert False is written["additionalProperties"]
    assert all("additionalProperties" not in part for part in written["allOf"])


def test_a_definition_is_open_where_it_is_joined_and_closed_where_it_stands_alone():
    base = {"type": "object", "properties": {"a": INT}}
    schema = {
        "type": "object",
        "properties": {
            "alone": {"$ref": "#/$defs/base"},
            "joined": {"allOf": [{"$ref": "#/$defs/base"}, {"properties": {"b": INT}}]},
        },
        "$defs": {"base": base},
    }
    written = loosely(schema)
    alone = written["properties"]["alone"]["$ref"].removeprefix("#/$defs/")
    joined = written["properties"]["joined"]["allOf"][0]["$ref"]
    assert False is written["$defs"][alone]["additionalProperties"]
    joined = written["$defs"][joined.removeprefix("#/$defs/")]
    assert "additionalProperties" not in joined


def test_a_type_is_taken_from_keywords_that_speak_of_one():
    assert "object" == loosely({"properties": {"a": INT}})["type"]
    assert "array" == loosely({"items": INT})["type"]
    assert "string" == loosely({"minLength": 1})["type"]
    assert "type" not in loosely({"minLength": 1, "minimum": 2})


def test_the_clients_schema_is_not_changed():
    schema = {"type": "object", "properties": {"a": {"nullable": True, **INT}}}
    before = repr(schema)
    loosely(schema)
    assert before == repr(schema)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (False, "allows no value"),
        ({"not": {}}, "allows no value"),
        ({"$ref": "#"}, "refers only to itself"),
        (
            {"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]},
            "requires itself inside of itself",
        ),
        ({"x": "a" * MAX_SCHEMA_BYTES}, f"at most {MAX_SCHEMA_BYTES} are allowed"),
        (
            {"enum": [[] for _ in range(MAX_SCHEMA_VALUES)]},
            f"more than {MAX_SCHEMA_VALUES} objects",
        ),
        (
            {"properties": {f"p{n}": INT for n in range(1001)}},
            "has 1001 optional properties, but at most 1000",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_numbers(schema, said):
    with pytest.raises(InvalidRequest, match=said) as raised:
        relax(schema, strict=False, param="response_format")
    assert "response_format" == raised.value.param


def test_a_schema_can_be_as_deep_as_the_limit_and_no_deeper():
    def nest(levels):
        schema = {"type": "boolean"}
        for _ in range(levels - 1):
            schema = {"items": schema}
        return schema

    loosely(nest(MAX_SCHEMA_DEPTH))
    with pytest.raises(InvalidRequest, match=f"more than {MAX_SCHEMA_DEPTH} levels"):
        loosely(nest(MAX_SCHEMA_DEPTH + 1))


def test_strict_names_keyword_place_and_way_out():
    schema = {"properties": {"a": {"type": "array", "uniqueItems": True}}}
    with pytest.raises(InvalidRequest) as raised:
        relax(schema, strict=True, param="response_format")
    assert (
        "'uniqueItems' at #/properties/a cannot be enforced: a grammar does not "
        "remember earlier items. Change or remove it, or ask without strict."
    ) == raised.value.message


def test_warnings_have_an_end():
    schema = {
        "properties": {
            f"p{n}": {"type": "array", "uniqueItems": True} for n in range(99)
        }
    }
    warnings = relax(schema, strict=False, param="p").warnings
    assert 33 == len(warnings)
    assert "More is not enforced." == warnings[-1]


@pytest.mark.parametrize("schema", [None, {}])
def test_no_parameters_mean_an_empty_object(schema):
    relaxed = relax_arguments(schema, strict=True, param="p")
    assert {"type": "object", "properties": {}, "additionalProperties": False} == (
        relaxed.schema
    )


def test_arguments_are_an_object():
    given_types = relax_arguments({"type": ["object", "null"]}, strict=True, param="p")
    assert {"type": "object"} == given_types.schema
    assert (
        "object"
        == relax_arguments({"required": ["a"]}, strict=True, param="p").schema["type"]
    )
    with pytest.raises(InvalidRequest, match="this schema's type is array"):
        relax_arguments({"type": "array"}, strict=False, param="p")


KEYWORDS = (
    *("type", "properties", "items", "allOf", "anyOf", "oneOf", "not", "if", "then"),
    *("enum", "const", "required", "$ref", "$defs", "pattern", "minLength", "maximum"),
    *("additionalProperties", "a", "nullable", "dependencies", "contains"),
    *("prefixItems", "patternProperties", "propertyNames", "dependentRequired"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYWORDS), inner, max_size=5)
    ),
    max_leaves=25,
)


@given(JSON)
def test_nonsense_is_relaxed_or_an_error_and_never_a_crash(schema):
    for strict in (True, False):
        with contextlib.suppress(InvalidRequest):
            assert relax(schema, strict=strict, param="p").schema is not False

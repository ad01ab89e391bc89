"""The table of SCHEMAS.md says what the server does."""

import json
from pathlib import Path

import pytest

from server.core.errors import InvalidRequest
from server.text.schema import relax
from server.text.schema_fallback import settle, write_check
from tests.worker import constraint_walk as walks

TABLE = Path(__file__).parents[2] / "server/text/SCHEMAS.md"
ANY = object()
OBJECT = {"type": "object"}
INT = {"type": "integer"}
OPEN = {"additionalProperties": True}


def obj(properties, **more):
    return {"type": "object", "properties": properties, **more}


# keyword: (schema, a valid value, an invalid one) of what is enforced
ENFORCED = {
    "type": ({"type": ["integer", "null"]}, None, "a"),
    "enum": ({"enum": ["a", 1, {"k": [2]}]}, {"k": [2]}, "b"),
    "const": ({"const": [1, None]}, [1, None], [1]),
    "properties": (obj({"a": INT}), {"a": 1}, {"a": "x"}),
    "required": (obj({"a": INT, "b": INT}, required=["b"]), {"b": 1}, {"a": 1}),
    "additionalProperties": (obj({}, additionalProperties=INT), {"z": 1}, {"z": "a"}),
    "patternProperties": (
        {**OBJECT, "patternProperties": {"^n": INT}},
        {"n1": 1, "x": "a"},
        {"n1": "a"},
    ),
    "propertyNames": (
        {**OBJECT, "propertyNames": {"pattern": "^[ab]+$"}},
        {"ab": 1},
        {"c": 1},
    ),
    "minProperties": (obj({"a": INT, "b": INT}, minProperties=1), {"b": 1}, {}),
    "maxProperties": ({**OBJECT, "maxProperties": 1}, {"a": 1}, {"a": 1, "b": 2}),
    "dependentRequired": (
        obj({"a": INT, "b": INT}, dependentRequired={"a": ["b"]}),
        {"b": 1},
        {"a": 1},
    ),
    "dependentSchemas": (
        obj({"a": INT}, dependentSchemas={"a": obj({"b": INT}, required=["b"])}),
        {"a": 1, "b": 2},
        {"a": 1},
    ),
    "dependencies": (
        obj({"a": INT, "b": INT}, dependencies={"a": ["b"]}),
        {"a": 1, "b": 2},
        {"a": 1},
    ),
    "unevaluatedProperties": (
        {"allOf": [obj({"a": INT})], "unevaluatedProperties": False, **OBJECT},
        {"a": 1},
        {"b": 1},
    ),
    "items": ({"type": "array", "items": INT}, [1, 2], [1, "a"]),
    "prefixItems": (
        {"type": "array", "prefixItems": [INT, {"type": "null"}]},
        [1, None],
        [1, 2],
    ),
    "additionalItems": (
        {"type": "array", "items": [INT], "additionalItems": {"type": "null"}},
        [1, None],
        [1, 1],
    ),
    "unevaluatedItems": (
        {"type": "array", "prefixItems": [INT], "unevaluatedItems": False},
        [1],
        [1, 1],
    ),
    "minItems": ({"type": "array", "items": INT, "minItems": 2}, [1, 1], [1]),
    "maxItems": ({"type": "array", "items": INT, "maxItems": 2}, [1, 1], [1, 1, 1]),
    "uniqueItems": (
        {"type": "array", "items": INT, "uniqueItems": True, "maxItems": 1},
        [1],
        [1, 1],
    ),
    "contains": ({"type": "array", "contains": {"const": 5}}, [5, "a"], ["a"]),
    "minContains": (
        {"type": "array", "contains": {"const": 5}, "minContains": 2},
        [5, 5, 1],
        [5, 1],
    ),
    "minLength": ({"type": "string", "minLength": 2}, "éa", "é"),
    "maxLength": ({"type": "string", "maxLength": 2}, "éa", "éab"),
    "pattern": ({"type": "string", "pattern": "b+"}, "abc", "ac"),
    "format": ({"type": "string", "format": "date"}, "2024-02-29", "2023-02-29"),
    "minimum": ({"type": "integer", "minimum": 3}, 3, 2),
    "maximum": ({"type": "number", "maximum": 3}, 2.5, 3.5),
    "exclusiveMinimum": ({"type": "integer", "exclusiveMinimum": 3}, 4, 3),
    "exclusiveMaximum": (
        {"type": "integer", "maximum": 3, "exclusiveMaximum": True},
        2,
        3,
    ),
    "multipleOf": ({"type": "integer", "multipleOf": 7}, -14, 15),
    "allOf": ({"allOf": [INT, {"minimum": 3}]}, 4, 2),
    "anyOf": ({"anyOf": [INT, {"type": "null"}]}, None, "a"),
    "oneOf": (
        {
            "oneOf": [
                obj({"k": {"const": "a"}, "n": INT}, required=["k", "n"]),
                obj({"k": {"const": "b"}}, required=["k"]),
            ]
        },
        {"k": "b"},
        {"k": "a"},
    ),
    "not": ({"not": {"type": "integer"}, "type": ["integer", "null"]}, None, 1),
    "if": (
        obj(
            {"k": {"enum": ["a", "b"]}, "n": INT},
            required=["k"],
            **{
                "if": {"properties": {"k": {"const": "a"}}},
                "then": {"required": ["n"]},
            },
        ),
        {"k": "b"},
        {"k": "a"},
    ),
    "$ref": ({"$ref": "#/$defs/x", "$defs": {"x": INT}}, 1, "a"),
    "nullable": ({"type": "integer", "nullable": True}, None, "a"),
}
# keyword: (schema, a value that only the dropped keyword excludes)
RELAXED = {
    "patternProperties": (
        {**OBJECT, "patternProperties": {"^a": INT, "b$": {"type": "null"}}},
        {"ab": "x"},
    ),
    "propertyNames": (
        obj({"a": INT}, propertyNames={"pattern": "^b"}, **OPEN),
        {"a": 1},
    ),
    "minProperties": (obj({"a": INT, "b": INT}, minProperties=2), {"a": 1}),
    "maxProperties": (
        obj({"a": INT}, maxProperties=2, **OPEN),
        {"a": 1, "b": 1, "c": 1},
    ),
    "unevaluatedProperties": (
        {
            "allOf": [{**OBJECT, "additionalProperties": INT}],
            "unevaluatedProperties": False,
        },
        {"b": 1},
    ),
    "unevaluatedItems": (
        {
            "type": "array",
            "allOf": [{"prefixItems": [INT]}],
            "unevaluatedItems": False,
        },
        [1, 2],
    ),
    "minItems": ({"type": "array", "minItems": 1001}, []),
    "maxItems": ({"type": "array", "maxItems": 1001}, []),
    "uniqueItems": ({"type": "array", "uniqueItems": True}, [1, 1]),
    "contains": (
        {"type": "array", "prefixItems": [INT], "contains": {"const": "x"}},
        [1],
    ),
    "minContains": (
        {"type": "array", "contains": {"const": 5}, "minContains": 17},
        [5],
    ),
    "maxContains": (
        {"type": "array", "contains": {"const": 5}, "maxContains": 1},
        [5, 5],
    ),
    "minLength": ({"type": "string", "minLength": 20001}, "a"),
    "maxLength": ({"type": "string", "maxLength": 20001}, "a"),
    "pattern": ({"type": "string", "pattern": "^(a)\\1$"}, "b"),
    "multipleOf": (
        {"type": "integer", "multipleOf": 999983, "minimum": 1, "maximum": 10**15},
        1,
    ),
    "oneOf": ({"oneOf": [INT, {"type": "integer", "minimum": 5}]}, 6),
    "not": ({"type": "string", "not": {"pattern": "^a"}}, "ab"),
    "if": (
        {
            **INT,
            "if": {"minimum": 5},
            "then": {"multipleOf": 2},
        },
        7,
    ),
}
# Another keyword is what a message names.
NAMED = {"minContains": "contains"}
# The compiler's own limits: its reason is the message.
BY_COMPILER = {"patternProperties", "multipleOf"}


def read_table():
    rows = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] not in ("keyword", "---"):
            rows[cells[0]] = cells[1]
    return rows


ROWS = read_table()
IN_PART = [keyword for keyword, fate in ROWS.items() if fate == "in part"]


@pytest.fixture(scope="module")
def constrainer():
    return walks.make_constrainer()


def takes(constrainer, schema, value, *, strict):
    relaxed = relax(schema, strict=strict, param="response_format")
    settled, warnings = settle(
        relaxed, constrainer.check, strict=strict, param="response_format"
    )
    text = json.dumps(value, ensure_ascii=False)
    return walks.takes(constrainer, write_check(settled), text), warnings


def test_every_keyword_has_its_probe():
    enforced = {k for k, fate in ROWS.items() if fate in ("enforced", "in part")}
    relaxed = {k for k, fate in ROWS.items() if fate in ("relaxed", "in part")}
    assert enforced == set(ENFORCED)
    # An unknown format is ignored as JSON Schema says, with strict too.
    assert relaxed == {*RELAXED, "format"}


@pytest.mark.parametrize("keyword", ENFORCED)
def test_an_enforced_keyword_leaves_no_other_answer(constrainer, keyword):
    schema, valid, invalid = ENFORCED[keyword]
    assert (True, ()) == takes(constrainer, schema, valid, strict=True)
    assert (False, ()) == takes(constrainer, schema, invalid, strict=True)


@pytest.mark.parametrize("keyword", RELAXED)
def test_a_relaxed_keyword_is_named_in_a_warning(constrainer, keyword):
    schema, value = RELAXED[keyword]
    taken, warnings = takes(constrainer, schema, value, strict=False)
    assert taken
    assert any(NAMED.get(keyword, keyword) in warning for warning in warnings)


@pytest.mark.parametrize("keyword", RELAXED)
def test_a_relaxed_keyword_is_an_error_with_strict(constrainer, keyword):
    schema, value = RELAXED[keyword]
    with pytest.raises(InvalidRequest) as raised:
        takes(constrainer, schema, value, strict=True)
    assert "response_format" == raised.value.param
    if keyword not in BY_COMPILER:
        assert f"'{NAMED.get(keyword, keyword)}'" in raised.value.message


@pytest.mark.parametrize("keyword", [k for k, f in ROWS.items() if f == "ignored"])
def test_an_ignored_keyword_changes_nothing(constrainer, keyword):
    value = {} if keyword in ("$defs", "definitions", "contentSchema") else "x"
    schema = {"type": "string", "maxLength": 1, keyword: value}
    assert (True, ()) == takes(constrainer, schema, "a", strict=True)
    assert (False, ()) == takes(constrainer, schema, "ab", strict=True)


def test_an_unknown_format_is_ignored_with_a_warning_even_with_strict(constrainer):
    schema = {"type": "string", "format": "int64"}
    taken, warnings = takes(constrainer, schema, "x", strict=True)
    assert taken
    assert 1 == len(warnings)
    assert "'int64' is none of date, date-time" in warnings[0]


@pytest.mark.parametrize(
    "reference", ["https://example.com/x.json", "#/$defs/y", "other.json#/x", "#z"]
)
def test_a_reference_to_elsewhere_is_refused(reference):
    with pytest.raises(InvalidRequest, match="Nothing is fetched") as raised:
        relax({"$ref": reference, "$defs": {"x": INT}}, strict=False, param="p")
    assert reference in raised.value.message

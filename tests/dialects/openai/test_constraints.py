import pytest

from server.core.errors import InvalidRequest
from server.core.requests import Grammar, JsonSchema, OneOf, Regex
from server.dialects.openai.constraints import MAX_CHOICES, decode_constraint
from server.dialects.openai.wire import ChatRequest, CompletionRequest

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
ANY = JsonSchema({"type": "object"})
GBNF = 'root ::= "a"'
LARK = 'start: "a"'


def decode(**fields):
    wire = ChatRequest.model_validate({"model": "m", "messages": [], **fields})
    return decode_constraint(wire)


def refusal(**fields):
    with pytest.raises(InvalidRequest) as caught:
        decode(**fields)
    return caught.value.to_info()


def named(**fields):
    return {"type": "json_schema", "json_schema": {"name": "x", **fields}}


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (None, None),
        ({}, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, ANY),
        ({"type": "json_object", "schema": SCHEMA}, JsonSchema(SCHEMA)),
        ({"type": "json_object", "schema": None}, ANY),
        (named(schema=SCHEMA), JsonSchema(SCHEMA)),
        (named(schema=SCHEMA, strict=True), JsonSchema(SCHEMA, strict=True)),
        (named(schema=SCHEMA, strict="true"), JsonSchema(SCHEMA, strict=True)),
        (named(schema=SCHEMA, strict="false"), JsonSchema(SCHEMA)),
        (named(schema=SCHEMA, strict=None), JsonSchema(SCHEMA)),
        (named(schema=True), JsonSchema(schema=True)),
        (named(schema={}), ANY),
        (
            {"type": "json_schema", "schema": SCHEMA, "strict": True},
            JsonSchema(SCHEMA, strict=True),
        ),
    ],
)
def test_openais_field_is_understood(form, expected):
    assert expected == decode(response_format=form)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"json_schema": SCHEMA}, JsonSchema(SCHEMA)),
        ({"json_schema": {}}, ANY),
        ({"grammar": ""}, None),
        ({"grammar": GBNF}, Grammar(GBNF)),
        ({"grammar": LARK}, Grammar(LARK, syntax="lark")),
        (
            {"grammar": '\n%llguidance {}\nstart: "::="'},
            Grammar('\n%llguidance {}\nstart: "::="', syntax="lark"),
        ),
        (
            {"grammar": 'start: "::="', "grammar_syntax": "lark"},
            Grammar('start: "::="', syntax="lark"),
        ),
        ({"grammar": LARK, "grammar_syntax": "gbnf"}, Grammar(LARK)),
        (
            {"grammar": {"type": "grammar", "syntax": "lark", "definition": GBNF}},
            Grammar(GBNF, syntax="lark"),
        ),
        ({"grammar": {"syntax": "regex", "definition": "a+"}}, Regex("a+")),
        ({"grammar_syntax": "lark"}, None),
        ({"regex": "a+"}, Regex("a+")),
        ({"choice": ["a", "b", "a"]}, OneOf(("a", "b"))),
        ({"guided_json": SCHEMA}, JsonSchema(SCHEMA)),
        ({"guided_json": '{"type": "object"}'}, ANY),
        ({"guided_grammar": GBNF}, Grammar(GBNF)),
        ({"guided_regex": "a+"}, Regex("a+")),
        ({"guided_choice": ["a"]}, OneOf(("a",))),
        ({"structured_outputs": {}}, None),
        ({"structured_outputs": {"json_object": False, "regex": None}}, None),
        ({"structured_outputs": {"json_object": True}}, ANY),
        ({"structured_outputs": {"json": SCHEMA}}, JsonSchema(SCHEMA)),
        ({"structured_outputs": {"grammar": GBNF}}, Grammar(GBNF)),
        ({"structured_outputs": {"regex": "a", "whitespace_pattern": " "}}, Regex("a")),
        ({"structured_outputs": {"choice": ["a", "b"]}}, OneOf(("a", "b"))),
        ({"response_format": {"type": "text"}, "regex": "a"}, Regex("a")),
    ],
)
def test_fields_of_other_servers_are_understood(fields, expected):
    assert expected == decode(**fields)
    wire = CompletionRequest.model_validate({"model": "m", "prompt": "", **fields})
    assert expected == decode_constraint(wire)


@pytest.mark.parametrize(
    ("fields", "first", "second"),
    [
        ({"grammar": GBNF, "json_schema": SCHEMA}, "json_schema", "grammar"),
        (
            {"response_format": {"type": "json_object"}, "regex": "a"},
            "response_format",
            "regex",
        ),
        (
            {"response_format": named(schema=SCHEMA), "guided_json": SCHEMA},
            "response_format.json_schema.schema",
            "guided_json",
        ),
        (
            {"structured_outputs": {"regex": "a", "choice": ["a"]}},
            "structured_outputs.regex",
            "structured_outputs.choice",
        ),
    ],
)
def test_two_constraints_are_refused_by_both_names(fields, first, second):
    info = refusal(**fields)
    assert (400, second) == (info.http_status, info.param)
    assert (
        f"Invalid '{second}': the answer is already constrained by '{first}'. "
        "Send one of the two." == info.message
    )


@pytest.mark.parametrize(
    ("fields", "code", "param", "text"),
    [
        (
            {"response_format": {"json_schema": {}}},
            "missing_required_parameter",
            "response_format.type",
            "Missing required parameter",
        ),
        (
            {"response_format": {"type": "xml"}},
            "invalid_value",
            "response_format.type",
            "expected one of text, json_object, json_schema.",
        ),
        (
            {"response_format": {"type": "json_schema"}},
            "missing_required_parameter",
            "response_format.json_schema",
            "Missing required parameter",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": "x"}},
            "invalid_type",
            "response_format.json_schema",
            "expected an object, but got a string.",
        ),
        (
            {"response_format": named()},
            "missing_required_parameter",
            "response_format.json_schema.schema",
            "Missing required parameter",
        ),
        (
            {"response_format": named(schema=[])},
            "invalid_type",
            "response_format.json_schema.schema",
            "expected a JSON Schema (an object), but got an array.",
        ),
        (
            {"response_format": named(schema=False)},
            "invalid_value",
            "response_format.json_schema.schema",
            "no answer validates against the schema false.",
        ),
        (
            {"response_format": named(schema={"x": "y" * 2**19})},
            "invalid_value",
            "response_format.json_schema.schema",
            "a schema of 524296 bytes is larger than the limit of 524288.",
        ),
        (
            {"response_format": named(schema=SCHEMA, strict="yes")},
            "invalid_type",
            "response_format.json_schema.strict",
            "expected a boolean, but got a string.",
        ),
        (
            {"guided_json": "{"},
            "invalid_value",
            "guided_json",
            "the text is no JSON. Send an object instead.",
        ),
        ({"json_schema": 5}, "invalid_type", "json_schema", "but got a number."),
        ({"grammar": 5}, "invalid_type", "grammar", "expected a string"),
        (
            {"grammar": {"syntax": "lark"}},
            "missing_required_parameter",
            "grammar.definition",
            "Missing required parameter",
        ),
        (
            {"grammar": {"definition": "x"}},
            "missing_required_parameter",
            "grammar.syntax",
            "Missing required parameter",
        ),
        (
            {"grammar": {"syntax": "ebnf", "definition": "x"}},
            "invalid_value",
            "grammar.syntax",
            "expected one of gbnf, lark.",
        ),
        (
            {"grammar": "x", "grammar_syntax": "peg"},
            "invalid_value",
            "grammar_syntax",
            "expected one of gbnf, lark.",
        ),
        (
            {"grammar": "x" * (2**18 + 1)},
            "invalid_value",
            "grammar",
            "262145 characters are outside of 1 to 262144.",
        ),
        ({"regex": ""}, "invalid_value", "regex", "0 characters are outside of 1 to"),
        (
            {"regex": "x" * 65537},
            "invalid_value",
            "regex",
            "65537 characters are outside of 1 to 65536.",
        ),
        ({"regex": ["a"]}, "invalid_type", "regex", "expected a string"),
        ({"choice": "a"}, "invalid_type", "choice", "expected an array of strings"),
        ({"choice": []}, "invalid_value", "choice", "0 choices are outside of 1 to"),
        (
            {"choice": ["a"] * (MAX_CHOICES + 1)},
            "invalid_value",
            "choice",
            "2001 choices are outside of 1 to 2000.",
        ),
        ({"choice": ["a", 5]}, "invalid_type", "choice[1]", "expected a string"),
        (
            {"choice": ["a", ""]},
            "invalid_value",
            "choice[1]",
            "0 characters are outside",
        ),
        (
            {"choice": ["x" * 200_000, "y" * 200_000]},
            "invalid_value",
            "choice",
            "400000 characters in all are more than the limit of 262144.",
        ),
        (
            {"structured_outputs": {"structural_tag": {}}},
            "unsupported_parameter",
            "structured_outputs.structural_tag",
            "Send 'grammar' instead.",
        ),
    ],
)
def test_a_wrong_constraint_is_refused_by_its_place(fields, code, param, text):
    info = refusal(**fields)
    assert (400, code, param) == (info.http_status, info.code, info.param)
    assert text in info.message

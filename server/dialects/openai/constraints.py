"""What form an answer must have: JSON, a grammar, a pattern, a choice. Pure.

Three families of fields say so, and clients of each are served: OpenAI's
`response_format`, llama.cpp's `json_schema` and `grammar`, vLLM's
`structured_outputs` with its older names. A request may use one of them; two
would contradict each other sooner or later, so they are refused together.

A grammar is a text, or OpenAI's object of `syntax` and `definition`. A text
whose syntax nobody names is GBNF where it has a `::=`, which each rule of GBNF
has, and Lark otherwise or where it begins with llguidance's own `%llguidance`.

Source: OpenAI API reference, "Structured model outputs"; llama.cpp,
tools/server/README.md; vLLM documentation, "Structured Outputs".
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import msgspec

from server.core.errors import InvalidRequest
from server.core.requests import Constraint, Grammar, JsonSchema, OneOf, Regex
from server.dialects.json_body import InvalidField, missing, parse_json, wrong_type
from server.dialects.openai.wire import Constrained

MAX_SCHEMA_BYTES = 512 * 1024
MAX_GRAMMAR_CHARS = 256 * 1024
MAX_PATTERN_CHARS = 64 * 1024
MAX_CHOICES = 2_000
MAX_CHOICES_CHARS = 256 * 1024

ANY_OBJECT = {"type": "object"}

_TYPES = ("text", "json_object", "json_schema")
_SYNTAXES = ("gbnf", "lark")

_FIELDS = {
    "json_schema": "schema",
    "grammar": "grammar",
    "regex": "regex",
    "choice": "choice",
    "guided_json": "schema",
    "guided_grammar": "grammar",
    "guided_regex": "regex",
    "guided_choice": "choice",
}
"""Fields at the top of a request, and what they hold."""

_STRUCTURED = {
    "json": "schema",
    "grammar": "grammar",
    "regex": "regex",
    "choice": "choice",
    "json_object": "object",
}
"""Fields of `structured_outputs`, and what they hold."""


class _Asked(NamedTuple):
    """A constraint that the client wrote somewhere."""

    param: str
    kind: str
    value: Any
    strict: object = None


def decode_constraint(wire: Constrained) -> Constraint | None:
    """Read the one constraint of a request.

    Returns:
        None where any answer will do.

    Raises:
        InvalidRequest: Two constraints, or one that is malformed or too large.
    """
    asked = [*_response_format(wire), *_plain(wire), *_structured(wire)]
    if not asked:
        return None
    if len(asked) > 1:
        first, second = asked[0].param, asked[1].param
        raise InvalidField(
            f"Invalid '{second}': the answer is already constrained by '{first}'. "
            "Send one of the two.",
            param=second,
        )
    return _read(asked[0], wire.grammar_syntax)


def decode_flag(value: object, param: str) -> bool:
    """Read a boolean that some clients write as a string; null is false.

    Raises:
        InvalidRequest: Neither true nor false.
    """
    match value:
        case None:
            return False
        case bool():
            return value
        case "true" | "True":
            return True
        case "false" | "False":
            return False
        case _:
            raise wrong_type(param, "a boolean", value)


def _response_format(wire: Constrained) -> Iterator[_Asked]:
    form = wire.response_format
    if not form:
        return
    if "type" not in form:
        raise missing("response_format.type")
    match form["type"]:
        case "text":
            pass
        case "json_object":
            schema = form.get("schema")
            yield _Asked("response_format", "schema", schema or ANY_OBJECT)
        case "json_schema":
            yield _named_schema(form)
        case _:
            raise InvalidField(
                f"Invalid 'response_format.type': expected one of {', '.join(_TYPES)}.",
                param="response_format.type",
            )


def _named_schema(form: dict[str, Any]) -> _Asked:
    # llama.cpp's server also takes the schema without the wrapper.
    param = "response_format"
    fields: Any = form
    if "schema" not in form:
        fields = form.get("json_schema")
        param = "response_format.json_schema"
        if fields is None:
            raise missing(param)
        if not isinstance(fields, dict):
            raise wrong_type(param, "an object", fields)
    schema = fields.get("schema")
    if schema is None:
        raise missing(f"{param}.schema")
    return _Asked(f"{param}.schema", "schema", schema, fields.get("strict"))


def _plain(wire: Constrained) -> Iterator[_Asked]:
    for name, kind in _FIELDS.items():
        value = getattr(wire, name)
        # llama.cpp's own clients send an empty grammar where they want none.
        if value is not None and not (kind == "grammar" and value == ""):
            yield _Asked(name, kind, value)


def _structured(wire: Constrained) -> Iterator[_Asked]:
    fields = wire.structured_outputs or {}
    if fields.get("structural_tag") is not None:
        raise InvalidField(
            "Unsupported parameter: 'structured_outputs.structural_tag' is not "
            "available on this server. Send 'grammar' instead.",
            code="unsupported_parameter",
            param="structured_outputs.structural_tag",
        )
    for name, kind in _STRUCTURED.items():
        value = fields.get(name)
        if value is not None and value is not False:
            yield _Asked(f"structured_outputs.{name}", kind, value)


def _read(asked: _Asked, syntax: str | None) -> Constraint:
    match asked.kind:
        case "object":
            return JsonSchema(ANY_OBJECT)
        case "schema":
            strict = decode_flag(asked.strict, _beside(asked.param, "strict"))
            return JsonSchema(_schema(asked.value, asked.param), strict=strict)
        case "regex":
            return Regex(_text(asked.value, asked.param, MAX_PATTERN_CHARS))
        case "choice":
            return OneOf(_choices(asked.value, asked.param))
        case _:
            return _grammar(asked.value, asked.param, syntax)


def _schema(value: object, param: str) -> dict[str, Any] | bool:
    if isinstance(value, str):
        try:
            value = parse_json(value.encode())
        except InvalidRequest:
            raise InvalidField(
                f"Invalid '{param}': the text is no JSON. Send an object instead.",
                param=param,
            ) from None
    if isinstance(value, dict):
        check_schema_size(value, param)
        return value or ANY_OBJECT
    if not isinstance(value, bool):
        raise wrong_type(param, "a JSON Schema (an object)", value)
    if not value:
        raise InvalidField(
            f"Invalid '{param}': no answer validates against the schema false.",
            param=param,
        )
    return value


def check_schema_size(schema: dict[str, Any], param: str) -> int:
    """Refuse a schema that is larger than any of real life.

    Returns:
        Its size as JSON text, in bytes.

    Raises:
        InvalidRequest: More than `MAX_SCHEMA_BYTES`.
    """
    n_bytes = len(msgspec.json.encode(schema))
    if n_bytes > MAX_SCHEMA_BYTES:
        raise InvalidField(
            f"Invalid '{param}': a schema of {n_bytes} bytes is larger than the limit "
            f"of {MAX_SCHEMA_BYTES}.",
            param=param,
        )
    return n_bytes


def _choices(value: object, param: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise wrong_type(param, "an array of strings", value)
    if not 1 <= len(value) <= MAX_CHOICES:
        raise InvalidField(
            f"Invalid '{param}': {len(value)} choices are outside of 1 to "
            f"{MAX_CHOICES}.",
            param=param,
        )
    choices = tuple(
        _text(item, f"{param}[{number}]", MAX_CHOICES_CHARS)
        for number, item in enumerate(value)
    )
    n_chars = sum(map(len, choices))
    if n_chars > MAX_CHOICES_CHARS:
        raise InvalidField(
            f"Invalid '{param}': {n_chars} characters in all are more than the limit "
            f"of {MAX_CHOICES_CHARS}.",
            param=param,
        )
    return tuple(dict.fromkeys(choices))


def _grammar(value: object, param: str, syntax: str | None) -> Grammar | Regex:
    where, place = "grammar_syntax", param
    if isinstance(value, dict):
        where, place = f"{param}.syntax", f"{param}.definition"
        for field in ("syntax", "definition"):
            if value.get(field) is None:
                raise missing(f"{param}.{field}")
        syntax, value = value["syntax"], value["definition"]
        if syntax == "regex":
            return Regex(_text(value, place, MAX_PATTERN_CHARS))
    text = _text(value, place, MAX_GRAMMAR_CHARS)
    return Grammar(text, syntax=_syntax(syntax, text, where))


def _syntax(named: object, text: str, param: str) -> Literal["gbnf", "lark"]:
    match named:
        case None:
            is_lark = text.lstrip().startswith("%llguidance") or "::=" not in text
            return "lark" if is_lark else "gbnf"
        case "gbnf" | "lark":
            return named
        case _:
            raise InvalidField(
                f"Invalid '{param}': expected one of {', '.join(_SYNTAXES)}.",
                param=param,
            )


def _text(value: object, param: str, max_chars: int) -> str:
    if not isinstance(value, str):
        raise wrong_type(param, "a string", value)
    if not 1 <= len(value) <= max_chars:
        raise InvalidField(
            f"Invalid '{param}': {len(value)} characters are outside of 1 to "
            f"{max_chars}.",
            param=param,
        )
    return value


def _beside(param: str, name: str) -> str:
    return f"{param.rpartition('.')[0]}.{name}".lstrip(".")

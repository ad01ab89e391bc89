"""Writes calls in a model's own format.

It shows a model past calls where its template cannot, and tells a model the
format where its template does not. The analysis checks itself with it.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from server.text.format import ArgumentStyle, CallSyntax


class WrittenCall(Struct, frozen=True):
    """A call to be written; `text` is the JSON text of the arguments."""

    name: str
    arguments: Mapping[str, Any]
    text: str
    id: str = ""


def write_calls(syntax: CallSyntax, calls: Iterable[WrittenCall]) -> str:
    """Write one section with these calls, at least one."""
    bodies = [_write_body(syntax, call, index) for index, call in enumerate(calls)]
    if syntax.is_array:
        inner = f"[{', '.join(bodies)}]"
    else:
        inner = syntax.separator.join(
            f"{syntax.call_begin}{body}{syntax.call_end}" for body in bodies
        )
    return f"{syntax.section_begin}{inner}{syntax.section_end}"


def _write_body(syntax: CallSyntax, call: WrittenCall, index: int) -> str:
    match syntax.arguments:
        case ArgumentStyle.JSON_CALL:
            return _write_json_call(syntax, call, index)
        case ArgumentStyle.JSON:
            head = _write_head(syntax, call, index)
            return f"{head}{call.text}"
        case ArgumentStyle.TAGGED:
            parts = (
                f"{syntax.key_begin}{key}{syntax.key_end}"
                f"{value if isinstance(value, str) else _dump(value)}{syntax.value_end}"
                for key, value in call.arguments.items()
            )
            return _write_head(syntax, call, index) + "".join(parts)
        case ArgumentStyle.QUOTED:
            value = _write_quoted(call.arguments, syntax.quote)
            return f"{_write_head(syntax, call, index)}{value}"
        case ArgumentStyle.PYTHON:
            pairs = (f"{k}={_write_python(v)}" for k, v in call.arguments.items())
            return f"{call.name}({', '.join(pairs)})"


def _write_head(syntax: CallSyntax, call: WrittenCall, index: int) -> str:
    if syntax.id_holds_name:
        return f"functions.{call.name}:{index}{syntax.name_end}"
    if syntax.id_end:
        return f"{call.name}{syntax.name_end}{call.id}{syntax.id_end}"
    return f"{call.name}{syntax.name_end}"


def _write_json_call(syntax: CallSyntax, call: WrittenCall, index: int) -> str:
    arguments = _dump(call.text) if syntax.args_as_text else call.text
    if not syntax.name_key:
        return f"{{{_dump(call.name)}: {arguments}}}"
    pairs = [(syntax.name_key, _dump(call.name)), (syntax.arguments_key, arguments)]
    if syntax.id_key:
        pair = (syntax.id_key, _dump(call.id or str(index)))
        pairs.insert(0 if syntax.is_id_first else len(pairs), pair)
    body = ", ".join(f"{_dump(key)}: {value}" for key, value in pairs)
    if syntax.wrapper_key:
        return f"{{{_dump(syntax.wrapper_key)}: {{{body}}}}}"
    return f"{{{body}}}"


def _write_quoted(value: object, quote: str) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{k}:{_write_quoted(v, quote)}" for k, v in sorted(value.items()))
        return f"{{{','.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{','.join(_write_quoted(item, quote) for item in value)}]"
    return f"{quote}{value}{quote}" if isinstance(value, str) else _dump(value)


def _write_python(value: object) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{_dump(k)}: {_write_python(v)}" for k, v in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_write_python, value))}]"
    if value is None or isinstance(value, bool):
        return repr(value)
    return _dump(value)


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)

"""Calls whose arguments stand between tags, each value as plain text.

    NAME name_end (key_begin KEY key_end VALUE value_end)* call_end

What a text means is told by the tool's schema: where only text is allowed it
is text, and streams; where text is not allowed it is read as JSON, or as a
literal of Python (templates print values so), and where neither is possible it
is text after all; where a schema is unknown or allows both, JSON that is no
string is what it says and all else is text.

Templates write line breaks after `key_end` and before `value_end`; one of each
is not part of the value.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from server.text.format import CallSyntax
from server.text.json_stream import escape_text
from server.text.parser_calls import MAX_NAME_CHARACTERS, CallSink
from server.text.parser_cursor import Cursor, Steps
from server.text.parser_literals import translate_python
from server.text.parser_marks import MarkScanner, split_words

_MAX_REFERENCES = 16
_TYPE_OF = {str: "string", bool: "boolean", int: "integer", float: "number"} | {
    type(None): "null",
    dict: "object",
    list: "array",
}
_ALL_TYPES = frozenset(_TYPE_OF.values())


class TaggedGrammar:
    """Reads the arguments of calls in the style TAGGED."""

    def __init__(self, cursor: Cursor, sink: CallSink, syntax: CallSyntax) -> None:
        self._cursor = cursor
        self._sink = sink
        self._key_begin = split_words(syntax.key_begin)
        self._key_end = split_words(syntax.key_end)
        self._value_end = split_words(syntax.value_end)
        self._call_end = split_words(syntax.call_end or syntax.section_end)
        self._drops_first_break = syntax.key_end.endswith("\n")
        self._drops_last_break = syntax.value_end.startswith("\n")
        self._scanner = MarkScanner(self._value_end[:1] or ("\n",))

    def read_arguments(self, name: str, call_id: str) -> Steps[None]:
        """Read all arguments of a call whose name was read.

        The end mark of the call is given back.
        """
        cursor, sink = self._cursor, self._sink
        schema = sink.find_schema(name)
        missing = _list_required(schema)
        options = self._key_begin[:1] + self._call_end[:1]
        separator = ""
        while True:
            found = yield from cursor.read_one_of(options)
            if not sink.is_open:
                sink.begin(name, call_id)
                sink.write("{")
            if found in self._call_end[:1]:
                cursor.unread(found)
                break
            cursor.let_go()
            sink.closing = ""
            yield from cursor.read_words(self._key_begin[1:])
            key, _ = yield from cursor.read_until(
                self._key_end[:1], limit=MAX_NAME_CHARACTERS
            )
            yield from cursor.read_words(self._key_end[1:])
            key = key.strip()
            sink.write(f'{separator}"{escape_text(key)}": ')
            yield from self._read_value(_find_types(schema, key))
            separator = ", "
            missing.discard(key)
            # An output that ends here lacks marks, or arguments.
            sink.closing = "" if missing else "}"
            cursor.hold()
            yield from cursor.read_words(self._value_end[1:])
        sink.write("}")
        sink.finish()

    def _read_value(self, types: frozenset[str]) -> Steps[None]:
        if types == {"string"}:
            self._sink.write('"')
            yield from self._read_text(lambda text: self._sink.write(escape_text(text)))
            self._sink.write('"')
            return
        parts: list[str] = []
        yield from self._read_text(parts.append)
        self._sink.write(read_typed("".join(parts), types))

    def _read_text(self, write: Callable[[str], object]) -> Steps[None]:
        """Pass on the text of a value, without the template's line breaks."""
        may_drop_first = self._drops_first_break
        held_break = ""
        self._scanner.reset()
        while True:
            yield
            text, mark, _ = self._scanner.scan(self._cursor.character, 0)
            if may_drop_first and text:
                may_drop_first = False
                text = text.removeprefix("\n")
            if text and self._drops_last_break:
                text = held_break + text
                held_break = "\n" if text.endswith("\n") else ""
                text = text.removesuffix("\n")
            if text:
                write(text)
            if mark:
                return


def read_typed(text: str, types: frozenset[str]) -> str:
    """Return the JSON text of a value that was written as plain text."""
    stripped = text.strip()
    if _is_json(stripped) and not ("string" in types and stripped.startswith('"')):
        return stripped
    if "string" not in types:
        translated = translate_python(stripped)
        if translated is not None and _is_json(translated):
            return translated
    return f'"{escape_text(text)}"'


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse, parse_int=len)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> None:
    """Refuse NaN and Infinity, which are no JSON."""
    raise ValueError(constant)


def _list_required(schema: Mapping[str, Any]) -> set[str]:
    """Return the names of the parameters that must be given."""
    required = schema.get("required")
    return set(map(str, required)) if isinstance(required, list) else set()


def _find_types(schema: Mapping[str, Any], key: str) -> frozenset[str]:
    """Return the JSON types that a parameter may have."""
    properties = schema.get("properties")
    if not isinstance(properties, dict) or key not in properties:
        return _ALL_TYPES
    return _list_types(schema, properties[key], _MAX_REFERENCES)


def _list_types(root: Mapping[str, Any], schema: object, budget: int) -> frozenset[str]:
    """Return the JSON types that a schema allows, following so many steps."""
    if not isinstance(schema, dict) or budget <= 0:
        return _ALL_TYPES
    options = schema.get("anyOf", schema.get("oneOf"))
    if "$ref" in schema:
        options = [_resolve(root, schema["$ref"])]
    if isinstance(options, list) and options:
        share = (budget - 1) // len(options)
        found = (_list_types(root, option, share) for option in options)
        return frozenset[str]().union(*found)
    return _list_own_types(schema)


def _list_own_types(schema: Mapping[str, Any]) -> frozenset[str]:
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list):
        return frozenset(_TYPE_OF.get(type(value), "") for value in values)
    types = schema.get("type")
    if isinstance(types, str):
        return frozenset({types})
    if isinstance(types, list) and types:
        return frozenset(map(str, types))
    return _ALL_TYPES


def _resolve(root: Mapping[str, Any], reference: object) -> object:
    """Return what a local reference points to, None where it points nowhere."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    place: object = root
    for part in reference[1:].split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        place = place.get(key) if isinstance(place, dict) else None
    return place

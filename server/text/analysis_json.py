"""Finds a call that is JSON, and under which keys its parts stand."""

import json
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from server.text.analysis_marks import iterate_json
from server.text.analysis_probe import MadeUpCall
from server.text.format import ArgumentStyle, CallSyntax


class JsonCall(Struct, frozen=True):
    """A call or list of calls at `text[begin:end]`, and its keys."""

    begin: int
    end: int
    syntax: CallSyntax


def find_json_call(text: str, *calls: MadeUpCall) -> JsonCall | None:
    """Find the JSON that is exactly these calls; several are one list."""
    for span in iterate_json(text, 0, len(text)):
        is_array = isinstance(span.value, list)
        items = span.value if is_array else [span.value]
        if len(items) != len(calls):
            continue
        found = [read_item(i, c) for i, c in zip(items, calls, strict=True)]
        first = found[0]
        if first is None or any(syntax != first for syntax in found):
            continue
        return JsonCall(span.begin, span.end, replace(first, is_array=is_array))
    return None


def read_item(item: Any, call: MadeUpCall) -> CallSyntax | None:  # noqa: ANN401
    """Return the keys of name, arguments and id; None if it is not the call."""
    if not isinstance(item, dict):
        return None
    if item == {call.name: call.arguments}:
        return CallSyntax(ArgumentStyle.JSON_CALL, name_key="", arguments_key="")
    if call.name in item.values():
        return _read_keys(item, call, "")
    for key, inner in item.items():
        if isinstance(inner, dict) and call.name in inner.values():
            return _read_keys(inner, call, key)
    return None


def _read_keys(
    item: dict[str, Any], call: MadeUpCall, wrapper_key: str
) -> CallSyntax | None:
    keys = list(item)
    names = [key for key in keys if item[key] == call.name]
    plain = [key for key in keys if item[key] == call.arguments]
    as_text = [key for key in keys if _is_text_of(item[key], call.arguments)]
    if not plain and not as_text:
        return None
    ids = [
        key
        for key in keys
        if key not in (*names, *plain, *as_text)
        and (item[key] == call.id or key == "id" or key.endswith("_id"))
        and isinstance(item[key], str)
    ]
    return CallSyntax(
        ArgumentStyle.JSON_CALL,
        name_key=names[0],
        arguments_key=(plain or as_text)[0],
        id_key=ids[0] if ids else "",
        is_id_first=bool(ids) and keys.index(ids[0]) < keys.index(names[0]),
        wrapper_key=wrapper_key,
        args_as_text=not plain,
    )


def _is_text_of(value: object, arguments: dict[str, Any]) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return bool(json.loads(value) == arguments)
    except (ValueError, RecursionError):
        return False

"""Reads made-up calls back by a syntax that was found.

Strict on purpose: marks must stand exactly where the syntax says. It only
tells whether a syntax is right, for texts that a template wrote; what a model
wrote is read by `server.text.reader`.
"""

import json
from typing import Any

from server.text.analysis_json import read_item
from server.text.analysis_marks import JsonSpan
from server.text.analysis_probe import MadeUpCall
from server.text.call_text import WrittenCall, write_calls
from server.text.format import ArgumentStyle, CallSyntax


def is_confirmed(syntax: CallSyntax, text: str, calls: tuple[MadeUpCall, ...]) -> bool:
    """Tell whether the text is exactly these calls."""
    match syntax.arguments:
        case ArgumentStyle.JSON_CALL:
            return _check_json_calls(syntax, text, calls)
        case ArgumentStyle.JSON:
            return _check_named(syntax, text, calls)
        case ArgumentStyle.QUOTED:
            return _ends_right(syntax, text, _write(syntax, calls))
        case ArgumentStyle.TAGGED | ArgumentStyle.PYTHON:
            # How values that are no texts are written is up to the parser.
            has_texts = all(
                isinstance(value, str)
                for call in calls
                for value in call.arguments.values()
            )
            return not has_texts or _squeeze(_write(syntax, calls)) == _squeeze(text)


def _ends_right(syntax: CallSyntax, text: str, written: str) -> bool:
    """Tell whether a text is what was written.

    Where no section was begun, what follows the calls is how the turn ends.
    """
    if not syntax.section_begin.strip():
        return text.startswith(written)
    return text.rstrip() == written


def _write(syntax: CallSyntax, calls: tuple[MadeUpCall, ...]) -> str:
    written = (WrittenCall(c.name, c.arguments, c.text, c.id) for c in calls)
    return write_calls(syntax, written).rstrip()


def _squeeze(text: str) -> str:
    """Drop what differs between writers of Python: quotes and white space."""
    return "".join(text.split()).replace("'", '"')


def _check_json_calls(
    syntax: CallSyntax, text: str, calls: tuple[MadeUpCall, ...]
) -> bool:
    if syntax.is_array:
        span = _read_json(text, len(syntax.section_begin))
        ends_right = span is not None and text[span.end :] == syntax.section_end
        items = span.value if span is not None and ends_right else []
        return (
            text.startswith(syntax.section_begin)
            and isinstance(items, list)
            and len(items) == len(calls)
            and all(map(read_item, items, calls))
        )
    place = _skip(text, 0, syntax.section_begin)
    for index, call in enumerate(calls):
        before = (syntax.separator if index else "") + syntax.call_begin
        span = _read_json(text, _skip(text, place, before))
        if span is None or read_item(span.value, call) is None:
            return False
        place = _skip(text, span.end, syntax.call_end)
    return place >= 0 and _ends_right(syntax, text[place:], syntax.section_end.rstrip())


def _check_named(syntax: CallSyntax, text: str, calls: tuple[MadeUpCall, ...]) -> bool:
    place = _skip(text, 0, syntax.section_begin)
    for index, call in enumerate(calls):
        before = (syntax.separator if index else "") + syntax.call_begin
        name = f"{call.name}{syntax.name_end}"
        if syntax.id_holds_name:
            name = f"functions.{call.name}:{index}{syntax.name_end}"
        elif syntax.id_end:
            name = f"{call.name}{syntax.name_end}{call.id}{syntax.id_end}"
        span = _read_json(text, _skip(text, place, before + name))
        if span is None or span.value != call.arguments:
            return False
        place = _skip(text, span.end, syntax.call_end)
    return place >= 0 and _ends_right(syntax, text[place:], syntax.section_end.rstrip())


def _skip(text: str, place: int, mark: str) -> int:
    """Return the place after a mark; -1 where it does not stand there."""
    return place + len(mark) if place >= 0 and text.startswith(mark, place) else -1


def _read_json(text: str, place: int) -> JsonSpan | None:
    if place < 0:
        return None
    try:
        value: Any
        value, end = json.JSONDecoder().raw_decode(text, place)
    except (ValueError, RecursionError):
        return None
    return JsonSpan(place, end, value)

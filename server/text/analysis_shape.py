"""Finds the shape in which a template shows calls, results and thoughts."""

import re
from itertools import product
from typing import Final

from msgspec.structs import replace

from server.text.analysis_probe import (
    FIRST,
    QUESTION,
    RESULT,
    SECOND,
    SHOWN_TOOL,
    Drawable,
    MadeUpCall,
    Probe,
    make_calls,
    make_result,
    say,
)
from server.text.shapes import IdStyle, TurnShape
from server.text.turns import make_tool, make_turn

_LONG_ID: Final = "call_zid000000000000000001"
_THOUGHT_KEYS: Final = ("reasoning_content", "reasoning", "thinking")


def find_shape(template: Drawable) -> TurnShape:
    """Try out a template; what does not show is False in the result."""
    shape = TurnShape(
        shows_tools=_shows_tools(template), thought_key=_find_thought_key(template)
    )
    shown = _find_calls(template, shape)
    if shown is None:
        return replace(
            shape, shows_calls=False, shows_results=_shows_results(template, shape)
        )
    shape = shown
    if not _shows(template, shape, FIRST, SECOND):
        shape = replace(shape, splits_calls=True)
    if _prefers_null(template, shape):
        shape = replace(shape, null_content=True)
    return replace(shape, shows_results=_shows_results(template, shape))


def find_probe(template: Drawable, shape: TurnShape) -> Probe:
    """Return a probe whose tails hold no description of the tools."""
    probe = Probe(template, shape)
    prompt = probe.draw_prompt_tail()
    if prompt is None or FIRST.name in prompt:
        return Probe(template, shape, has_tools=False)
    return probe


def _find_calls(template: Drawable, shape: TurnShape) -> TurnShape | None:
    """Find a shape in which a call with its arguments is shown."""
    long_id = MadeUpCall(FIRST.name, FIRST.arguments, _LONG_ID)
    for as_text, style in product((False, True), IdStyle):
        trial = replace(shape, arguments_as_text=as_text, id_style=style)
        if _shows(template, trial, long_id):
            return trial
    return None


def _shows(template: Drawable, shape: TurnShape, *calls: MadeUpCall) -> bool:
    probe = find_probe(template, shape)
    results = map(make_result, calls)
    for messages in ((make_calls(*calls),), (make_calls(*calls), *results)):
        tail = probe.draw_tail(*messages)
        if tail is not None and all(
            call.name in tail and all(v in tail for v in call.arguments.values())
            for call in calls
        ):
            return True
    return False


def _prefers_null(template: Drawable, shape: TurnShape) -> bool:
    """Tell whether an empty text leaves a trace that no text does not."""
    messages = (make_calls(FIRST), make_result(FIRST))
    empty = find_probe(template, shape).draw_tail(*messages)
    null = find_probe(template, replace(shape, null_content=True)).draw_tail(*messages)
    if null is None or FIRST.name not in null:
        return False
    return empty is None or len(null) < len(empty)


def _shows_results(template: Drawable, shape: TurnShape) -> bool:
    calls = make_calls(FIRST) if shape.shows_calls else say("assistant", "called")
    tail = find_probe(template, shape).draw_tail(calls, make_result(FIRST))
    return tail is not None and RESULT in tail


def _shows_tools(template: Drawable) -> bool:
    turns = [make_turn(say("user", QUESTION))]
    text = template.draw(
        turns, tools=[make_tool(SHOWN_TOOL)], add_generation_prompt=True
    )
    return text is not None and SHOWN_TOOL.name in text


def _find_thought_key(template: Drawable) -> str:
    """Return the key that the template's text reads from a message."""
    for key in _THOUGHT_KEYS:
        if re.search(rf"\.{key}\b|['\"]{key}['\"]", template.source):
            return key
    return ""

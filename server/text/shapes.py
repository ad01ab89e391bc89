"""The forms of a conversation that different templates insist on.

OpenAI's form of messages is one of several: some templates show one call in a
message and drop the others, some refuse ids that have not nine characters,
some read thoughts under another key. What one template wants is found by
trying (`server.text.analysis_shape`) and kept as a `TurnShape`.
"""

import hashlib
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

Turn = dict[str, Any]
"""A message as templates read it."""

_SHORT_ID: Final = re.compile(r"[A-Za-z0-9]{9}")
_SHORT_ID_CHARS: Final = 9
_NAMED_ID: Final = re.compile(r"functions\..+:\d+")


class IdStyle(StrEnum):
    """What the ids of calls must look like.

    AS_GIVEN: anything. SHORT: nine letters or digits (Mistral). NAMED:
    `functions.NAME:INDEX`, because the template shows the id alone (Kimi).
    """

    AS_GIVEN = "as_given"
    SHORT = "short"
    NAMED = "named"


class TurnShape(Struct, frozen=True):
    """What one template makes of calls, results and thoughts.

    Args:
        shows_tools: It describes the tools that it is given.
        shows_calls: It writes the calls of past turns.
        shows_results: It writes messages of the role tool.
        splits_calls: It takes one call a message; several become several
            messages, each followed by its result.
        null_content: A turn that only calls has None for its text.
        id_style: What ids must look like.
        arguments_as_text: Arguments are a JSON text, not a mapping.
        thought_key: The key of a past thought; "" where none is read.
    """

    shows_tools: bool = True
    shows_calls: bool = True
    shows_results: bool = True
    splits_calls: bool = False
    null_content: bool = False
    id_style: IdStyle = IdStyle.AS_GIVEN
    arguments_as_text: bool = False
    thought_key: str = "reasoning_content"


def shape_turns(turns: list[Turn], shape: TurnShape) -> list[Turn]:
    """Bring turns into the form that a template wants."""
    if shape.splits_calls:
        turns = list(_split_calls(turns))
    if shape.id_style is not IdStyle.AS_GIVEN:
        turns = _rename_ids(turns, shape.id_style)
    return [_shape_turn(turn, shape) for turn in turns]


def _shape_turn(turn: Turn, shape: TurnShape) -> Turn:
    turn = dict(turn)
    calls = turn.get("tool_calls")
    if calls and shape.null_content and turn["content"] == "":
        turn["content"] = None
    if calls and shape.arguments_as_text:
        turn["tool_calls"] = [_write_arguments(call) for call in calls]
    thought = turn.pop("reasoning_content", None)
    if thought is not None:
        _put_thought(turn, thought, shape.thought_key)
    return turn


def _put_thought(turn: Turn, thought: str, key: str) -> None:
    if key == "thinking" and turn.get("tool_calls") and turn["content"]:
        # Harmony's template refuses both beside a call.
        thought, turn["content"] = f"{thought}\n{turn['content']}", ""
    if key:
        turn[key] = thought


def _write_arguments(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {**call, "function": {**function, "arguments": str(function["arguments"])}}


def _split_calls(turns: list[Turn]) -> Iterator[Turn]:
    """Yield one call a turn, and after it the results that answer it."""
    place = 0
    while place < len(turns):
        turn = turns[place]
        place += 1
        calls = turn.get("tool_calls") or []
        if len(calls) <= 1:
            yield turn
            continue
        results = []
        while place < len(turns) and turns[place]["role"] == "tool":
            results.append(turns[place])
            place += 1
        yield from _interleave(turn, calls, results)


def _interleave(
    turn: Turn, calls: list[dict[str, Any]], results: list[Turn]
) -> Iterator[Turn]:
    for index, call in enumerate(calls):
        if index == 0:
            yield {**turn, "tool_calls": [call]}
        else:
            yield {"role": turn["role"], "content": "", "tool_calls": [call]}
        answers = [r for r in results if r.get("tool_call_id") == call["id"]]
        yield from answers
        results = [r for r in results if r not in answers]
    yield from results


def _rename_ids(turns: list[Turn], style: IdStyle) -> list[Turn]:
    renamed: dict[str, str] = {}
    made = []
    n_calls = 0
    for original in turns:
        turn = dict(original)
        calls = []
        for call in turn.get("tool_calls") or []:
            new = _make_id(call, style, n_calls)
            renamed[call["id"]] = new
            calls.append({**call, "id": new})
            n_calls += 1
        if calls:
            turn["tool_calls"] = calls
        old = turn.get("tool_call_id")
        if old is not None:
            turn["tool_call_id"] = renamed.get(old) or _shorten_id(old)
        made.append(turn)
    return made


def _make_id(call: dict[str, Any], style: IdStyle, index: int) -> str:
    given: str = call["id"]
    if style is IdStyle.SHORT:
        return _shorten_id(given)
    if _NAMED_ID.fullmatch(given):
        return given
    return f"functions.{call['function']['name']}:{index}"


def _shorten_id(given: str) -> str:
    """Return nine letters and digits, the same for the same id."""
    if _SHORT_ID.fullmatch(given):
        return given
    return hashlib.sha256(given.encode()).hexdigest()[:_SHORT_ID_CHARS]

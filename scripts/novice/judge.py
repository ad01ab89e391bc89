"""Whether an answer is right: one rule for each category."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

PASS_MARKS: Final = {
    "identity": 0.95,
    "cloister": 0.95,
    "howto": 0.80,
    "sums": 0.90,
    "calls": 0.80,
    "records": 0.90,
    "thinking": 0.95,
    "outside": 0.80,
    "ends": 0.95,
}
"""Share of right answers that a category needs."""

_THOUGHT = re.compile(r"\A<think>\n(.+?)\n</think>\n\n(?=.)", re.DOTALL)
_CALL = re.compile(r"\A<tool_call>\n(.*)\n</tool_call>\Z", re.DOTALL)
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Reply:
    """What a model said; `ended` tells that it ended the turn by itself."""

    text: str
    ended: bool


def is_right(category: str, reply: Reply, expected: Any) -> bool:  # noqa: ANN401
    """Judge a reply. One that never ends is wrong, whatever it says."""
    return reply.ended and _RULES[category](reply.text, expected)


def _contains(text: str, expected: str) -> bool:
    return expected in text


def _is_sum(text: str, expected: str) -> bool:
    return _NUMBER.findall(text)[-1:] == [expected]


def _is_call(text: str, expected: dict[str, Any]) -> bool:
    match = _CALL.match(text)
    return match is not None and _parse(match.group(1)) == expected


def _has_keys(text: str, expected: str) -> bool:
    record = _parse(text)
    return isinstance(record, dict) and record.keys() == json.loads(expected).keys()


def _thinks(text: str, expected: bool) -> bool:  # noqa: FBT001 a rule like the others
    if expected:
        return _THOUGHT.match(text) is not None
    return "think>" not in text and bool(text.strip())


def _parse(text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        return None
    return value


_RULES: Final[dict[str, Callable[[str, Any], bool]]] = {
    "identity": _contains,
    "cloister": _contains,
    "howto": _contains,
    "outside": _contains,
    "sums": _is_sum,
    "calls": _is_call,
    "records": _has_keys,
    "thinking": _thinks,
}

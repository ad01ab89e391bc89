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
    "exact calls": 0.0,
    "records": 0.90,
    "thinking": 0.95,
    "outside": 0.80,
    "ends": 0.95,
}
"""Share of right answers that a category needs; 0 is only told."""

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
    """Tell whether the right tool is called with the values of the question."""
    call = _read_call(text)
    if not isinstance(call, dict) or not isinstance(call.get("arguments"), dict):
        return False
    values = list(call["arguments"].values())
    return call.get("name") == expected["name"] and values == list(
        expected["arguments"].values()
    )


def _is_exact_call(text: str, expected: dict[str, Any]) -> bool:
    """Tell whether the names of the parameters are right, too."""
    return _read_call(text) == expected


def _read_call(text: str) -> object:
    match = _CALL.match(text)
    return None if match is None else _parse(match.group(1))


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
    "exact calls": _is_exact_call,
    "records": _has_keys,
    "thinking": _thinks,
}

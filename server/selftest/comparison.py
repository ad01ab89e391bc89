"""What came against what should have come; each function raises `CheckFailed`."""

import json
import textwrap
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, NoReturn

from server.selftest.client import Reply
from server.selftest.recorded import Answer, Call
from server.selftest.report import CheckFailed

BUILD_AGAIN: Final = (
    "The engine computes wrongly on this machine. Build it with the plainest flags: "
    'CMAKE_ARGS="-DGGML_NATIVE=OFF" make install'
)
INSTALL_AGAIN: Final = (
    "The program is not as released. Install it again: make clean && make install"
)
SEE_GREEDY: Final = (
    "If a greedy check failed too, do what that one says. If none did, the program "
    "is not as released: make clean && make install"
)
SEE_LOG: Final = (
    "See what the server logged. If its engine fails, prove and repair it: make install"
)
GIVE_KEY: Final = "Put a key or token of that server into CLOISTER_API_KEY."

_CONTEXT_CHARS: Final = 30
_QUOTED_CHARS: Final = 30


def refuse(reply: Reply) -> CheckFailed:
    """Tell of an answer that should have had status 200."""
    needs_key = reply.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    return CheckFailed(
        expected="status 200 and an answer",
        actual=reply.show(),
        advice=GIVE_KEY if needs_key else SEE_LOG,
    )


def read_fields(reply: Reply) -> dict[str, Any]:
    """Take an answer as a JSON object; one that is none has no fields."""
    return reply.body if isinstance(reply.body, dict) else {}


def expect_error(reply: Reply, status: int, code: str) -> str:
    """Compare a refusal; return it in short."""
    error = read_fields(reply).get("error") or {}
    if (reply.status, error.get("code")) != (status, code):
        raise CheckFailed(
            expected=f"status {status} with the code {code}",
            actual=reply.show(),
            advice=INSTALL_AGAIN,
        )
    return f"refused: {status:d}, {code}"


def expect_number(what: str, expected: int, actual: int) -> None:
    """Compare a count that the program makes."""
    if expected != actual:
        raise CheckFailed(
            expected=f"{expected} {what}", actual=f"{actual}", advice=INSTALL_AGAIN
        )


def expect_text(
    answer: Answer,
    text: str | None,
    reason: str | None,
    *,
    expected: str | None = None,
    advice: str = BUILD_AGAIN,
) -> None:
    """Compare a text and its end.

    Args:
        answer: The recorded one.
        text: What came; None is an empty one.
        reason: The `finish_reason` that came.
        expected: The part of the recorded text that should have come; None
            means all of it.
        advice: What to do about a difference.
    """
    wanted = answer.text if expected is None else expected
    if text != wanted:
        _tell_difference(answer.kind, wanted, text or "", advice)
    if reason != "stop":
        raise CheckFailed(
            expected=f"the answer {quote(wanted)} to end by itself",
            actual=f"finish_reason '{reason}'",
            advice=advice,
        )


def expect_call(
    answer: Answer, calls: Sequence[Any], text: str | None, reason: str | None
) -> str:
    """Compare tool calls with the recorded one; return it in short.

    Args:
        answer: The recorded one.
        calls: What came as `tool_calls`, with all of their text.
        text: What came as `content`; there should be none beside a call.
        reason: The `finish_reason` that came.
    """
    expected = answer.read_call()
    wanted = _show_answer([expected.show()], None, "tool_calls")
    came = _show_answer([_show_call(call) for call in calls], text, reason)
    if wanted != came:
        raise CheckFailed(expected=wanted, actual=came, advice=SEE_GREEDY)
    return expected.show()


def expect_object(keys: Sequence[str], text: str, reason: str | None) -> None:
    """Check an answer against the schema: exactly these keys, all of them strings."""
    value = _parse(text)
    is_whole = isinstance(value, dict) and set(value) == set(keys)
    if not is_whole or not all(isinstance(each, str) for each in value.values()):
        raise CheckFailed(
            expected=f"a JSON object with strings for {', '.join(keys)}",
            actual=repr(text),
            advice=SEE_GREEDY,
        )
    if reason != "stop":
        raise CheckFailed(
            expected="finish_reason 'stop' where the object is complete",
            actual=f"finish_reason '{reason}'",
            advice=SEE_GREEDY,
        )


def quote(text: str) -> str:
    """Quote the beginning of a text for a row."""
    return f'"{textwrap.shorten(text, _QUOTED_CHARS, placeholder="…")}"'


def _tell_difference(kind: str, wanted: str, text: str, advice: str) -> NoReturn:
    pairs = enumerate(zip(wanted, text, strict=False))
    same = min(len(wanted), len(text))
    place = next((i for i, (left, right) in pairs if left != right), same)
    start = max(place - _CONTEXT_CHARS, 0)
    end = place + _CONTEXT_CHARS
    raise CheckFailed(
        expected=f"{kind}: from character {start} on {wanted[start:end]!r}",
        actual=repr(text[start:end]),
        advice=advice,
    )


def _show_call(call: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    """Write a call as `Call.show` does, if it is one; otherwise as it came."""
    try:
        function = call["function"]
        arguments = _parse(function["arguments"])
        is_call = call["type"] == "function" and call["id"]
    except (LookupError, TypeError):
        is_call, arguments = False, None
    if not is_call or not isinstance(arguments, dict):
        return json.dumps(call)
    return Call(str(function["name"]), arguments).show()


def _show_answer(calls: Sequence[str], text: str | None, reason: str | None) -> str:
    shown = f"tool_calls {'; '.join(calls) or 'none'}, finish_reason {reason!r}"
    return f"{shown}, content {text!r}" if text else shown


def _parse(text: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    try:
        return json.loads(text)
    except ValueError:
        return None

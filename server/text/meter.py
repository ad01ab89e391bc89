"""How much a chat template may make.

A meter counts the text and list space that one render makes, whatever is
thrown away again. What would make much more than it is given is charged
before it happens, because a single call into C cannot be interrupted.
"""
# ruff: noqa: ANN401 values of a foreign program can be anything

import re
import threading
from collections.abc import Iterable
from typing import Any, Final

from jinja2.runtime import Undefined

MAX_INT_BITS: Final = 4096
MAX_WIDTH_CHARS: Final = 10_000
LIST_ITEM_CHARS: Final = 8
"""What a place in a list costs: a pointer, in bytes."""


class RefusedError(Exception):
    """The template wants more than a chat template may cost."""


class Meter(threading.local):
    """Counts what is made in the current thread since `begin`."""

    def __init__(self) -> None:
        self._limit_chars = 0
        self._left_chars = 0

    def begin(self, limit_chars: int) -> None:
        """Start anew with so many characters."""
        self._limit_chars = self._left_chars = limit_chars

    def charge(self, n_chars: int) -> None:
        """Count text that is made, or is about to be.

        Raises:
            RefusedError: The limit is reached.
        """
        self._left_chars -= n_chars
        if self._left_chars < 0:
            raise RefusedError(
                f"it makes more than {self._limit_chars} characters of text"
            )

    def charge_result(self, value: Any) -> None:
        """Count a text or list that was made."""
        self.charge(measure(value))

    def charge_text_of(self, value: Any) -> None:
        """Count what the value would be as text, walking through all of it."""
        if isinstance(value, str):
            self.charge(len(value))
        elif isinstance(value, dict):
            for key, item in value.items():
                self.charge_text_of(key)
                self.charge_text_of(item)
        elif isinstance(value, list | tuple | set | frozenset):
            for item in value:
                self.charge_text_of(item)
        elif not (value is None or isinstance(value, int | float | Undefined)):
            raise RefusedError(f"it uses a {type(value).__name__} as text")
        self.charge(LIST_ITEM_CHARS)

    def charge_items(self, values: Iterable[Any], separator: str = "") -> list[Any]:
        """Collect values that are about to be joined, counting their text."""
        kept = []
        for value in values:
            self.charge_text_of(value)
            self.charge(len(separator))
            kept.append(value)
        return kept

    def charge_product(self, left: Any, right: Any) -> None:
        """Count what `left * right` would make."""
        if isinstance(left, int) and isinstance(right, int):
            _check_bits(left.bit_length() + right.bit_length())
        elif isinstance(left, int):
            self.charge(max(left, 0) * measure(right))
        elif isinstance(right, int):
            self.charge(max(right, 0) * measure(left))

    def charge_percent(self, text: str, values: Any) -> None:
        """Count what `text % values` would make."""
        given = values if isinstance(values, tuple) else (values,)
        for width in re.findall(r"(\d+)[.hlL]*[a-zA-Z%*]", text):
            check_width(_read_number(width))
        if "*" in text:
            for value in given:
                check_width(abs(value) if isinstance(value, int) else 0)
        for _ in range(text.count("%") if isinstance(values, dict) else 1):
            self.charge_text_of(values)


def check_power(left: Any, right: Any) -> None:
    """Refuse `left ** right` if it is a whole number of absurd length.

    Raises:
        RefusedError: The result would have more than `MAX_INT_BITS` bits.
    """
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * max(right, 0))


def check_width(width: int) -> None:
    """Refuse a column width, indentation, or number of pieces or digits.

    Raises:
        RefusedError: It is above `MAX_WIDTH_CHARS`.
    """
    if width > MAX_WIDTH_CHARS:
        raise RefusedError(f"it asks for a width above {MAX_WIDTH_CHARS}")


def check_format_spec(spec: str) -> None:
    """Refuse a format specification such as `>9999999999`.

    Raises:
        RefusedError: A number in it is above `MAX_WIDTH_CHARS`.
    """
    for width in re.findall(r"\d+", spec):
        check_width(_read_number(width))


def measure(value: Any) -> int:
    """Return what a text or list itself costs, without what it refers to."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, list | tuple):
        return len(value) * LIST_ITEM_CHARS
    return 0


def _check_bits(n_bits: int) -> None:
    if n_bits > MAX_INT_BITS:
        raise RefusedError(f"it computes a number of more than {MAX_INT_BITS} bits")


def _read_number(digits: str) -> int:
    """Read a number; Python refuses to read one of thousands of digits."""
    return int(digits[-20:]) if not digits[:-20].strip("0") else MAX_WIDTH_CHARS + 1

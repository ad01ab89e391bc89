"""Where two renderings of a template part from each other.

Two texts that differ in one mark often agree in its first characters:
`<tool_call>` and `<|im_end|>` both begin with `<`. So texts are compared by
atoms, not by characters: a tag, a word in brackets, a control text of the
vocabulary, a word, or else a single character.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from msgspec import Struct

_ATOMS: Final = r"<[^<>\s]+>|\[/?[A-Z][A-Z_]*\]|\w+|."
_TAG: Final = re.compile(r"<[^<>\s]+>|\[/?[A-Z][A-Z_]*\]")
_DECODER: Final = json.JSONDecoder()


class JsonSpan(Struct, frozen=True):
    """A JSON value inside a text: `text[begin:end]`."""

    begin: int
    end: int
    value: Any


class Atoms:
    """Compares texts atom by atom.

    Args:
        control_texts: Texts that are never cut, besides tags and words. Those of
            white space alone are: runs of it differ from place to place.
    """

    def __init__(self, control_texts: Iterable[str] = ()) -> None:
        visible = (text for text in control_texts if text.strip())
        self._controls = tuple(sorted(visible, key=len, reverse=True))

    def split(self, text: str) -> list[str]:
        """Cut a text into its atoms; joined they are the text."""
        present = [c for c in self._controls if len(c) > 1 and c in text]
        pattern = "|".join([*map(re.escape, present), _ATOMS])
        return re.findall(pattern, text, re.DOTALL)

    def count_prefix(self, first: str, second: str) -> int:
        """Return how many characters the whole atoms have that both begin with."""
        return _count_same(self.split(first), self.split(second))

    def count_suffix(self, first: str, second: str) -> int:
        """Return how many characters the whole atoms have that both end with."""
        return _count_same(self.split(first)[::-1], self.split(second)[::-1])

    def is_tag(self, atom: str) -> bool:
        """Tell whether an atom is a mark by its look or by the vocabulary."""
        return _TAG.fullmatch(atom) is not None or atom in self._controls


def _count_same(first: list[str], second: list[str]) -> int:
    n_chars = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        n_chars += len(a)
    return n_chars


def iterate_json(text: str, begin: int, end: int) -> Iterator[JsonSpan]:
    """Yield the JSON objects and lists that begin in `text[begin:end]`.

    Those inside of others are yielded too, after them.
    """
    for match in re.compile(r"[{\[]").finditer(text, begin, end):
        try:
            value, stop = _DECODER.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        yield JsonSpan(match.start(), stop, value)

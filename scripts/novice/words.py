"""Words that mean nothing, and the line between training and evaluation.

A model that has seen "call lookup with Paris" a thousand times knows lookup
and Paris, not how to call a tool. So whatever is to be copied is drawn from a
space too large to learn by heart: made-up words of two or three syllables,
strings of letters and digits, paths, numbers.

The same words show whether copying was learnt. A digest of each word, or of
each pair of numbers, decides on which side it lies: one in eight words and
one in ten pairs exist for the evaluation alone, and the functions here never
hand one to the other side. The decision needs no list and no state.
"""

import random
import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

WORDS_PER_HELD_OUT: Final = 8
PAIRS_PER_HELD_OUT: Final = 10
P_KNOWN: Final = 0.25

_ONSETS: Final = (
    *"bcdfghjklmnprstvwyz",
    *("br", "dr", "fr", "gr", "kr", "pr", "tr", "bl", "fl", "gl", "pl", "sl"),
    *("st", "sk", "sp", "sh", "ch", "th", "qu", "sn", "v", "x", ""),
)
_VOWELS: Final = (*"aeiouaeiouy", "ai", "ea", "ee", "io", "oa", "ou", "au")
_CODAS: Final = (*"nrlmstkdpxgz", "nd", "rt", "st", "lm", "ck", "", "", "", "", "")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")


def is_held_out_word(word: str) -> bool:
    """Tell whether a made-up word belongs to the evaluation alone."""
    return sha256(f"word {word.lower()}".encode()).digest()[0] % WORDS_PER_HELD_OUT == 0


def is_held_out_pair(a: int, b: int) -> bool:
    """Tell whether the sum of two numbers, in either order, is held out."""
    low, high = sorted((a, b))
    digest = sha256(f"pair {low} {high}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % PAIRS_PER_HELD_OUT == 0


def expand(rng: random.Random, pattern: str) -> str:
    """Choose one of each `[this|that]` of a pattern; they may be nested."""
    while True:
        pattern, n = _ALTERNATIVES.subn(
            lambda match: rng.choice(match.group(1).split("|")), pattern
        )
        if not n:
            return pattern


class Words:
    """Draws what can be copied, on one side of the line.

    Args:
        rng: Where chance comes from.
        held_out: True draws for the evaluation, False for training.
        known: Names, dates and the like that real people ask for; empty for
            the evaluation, which is to show that nothing was learnt by heart.
    """

    def __init__(
        self, rng: random.Random, *, held_out: bool, known: Sequence[str] = ()
    ) -> None:
        self.rng = rng
        self.held_out = held_out
        self._known = known

    def word(self) -> str:
        """Draw a made-up word in lower case, 3 to 12 letters."""
        while True:
            word = self._draw()
            if 3 <= len(word) <= 12 and is_held_out_word(word) == self.held_out:  # noqa: PLR2004
                return word

    def words(self, n: int) -> list[str]:
        """Draw `n` different made-up words."""
        found: dict[str, None] = {}
        while len(found) < n:
            found[self.word()] = None
        return list(found)

    def name(self) -> str:
        """Draw a made-up word with a capital."""
        return self.word().capitalize()

    def identifier(self) -> str:
        """Draw what programs call things: words joined in one of their ways."""
        first, second = self.words(2)
        return self.rng.choice(
            (first, f"{first}_{second}", f"{first}_{second}", first + second.title())
        )

    def code(self) -> str:
        """Draw letters and digits without sense, such as an article number."""
        n = self.rng.randint(3, 7)
        while True:
            text = "".join(self.rng.choices(_LETTERS + "0123456789", k=n))
            if is_held_out_word(text) == self.held_out:
                break
        return self.rng.choice((text, text.upper(), f"{text[:3]}-{text[3:]}"))

    def path(self) -> str:
        """Draw the path of a model file."""
        name, folder = self.words(2)
        middle = self.rng.choice(("", "", f"-{self.rng.randint(1, 70)}B", "-Q8_0"))
        place = self.rng.choice(
            ("", "", f"{folder}/", f"/mnt/{folder}/", "./", f"/media/{folder}/")
        )
        if self.rng.random() < 0.3:  # noqa: PLR2004
            name = name.capitalize()
        return f"{place}{name}{middle}.gguf"

    def value(self) -> str:
        """Draw a text that could stand as an argument."""
        if self._known and self.rng.random() < P_KNOWN:
            return self.rng.choice(self._known)
        draw = self.rng.random()
        if draw < 0.45:  # noqa: PLR2004
            return self.name()
        if draw < 0.65:  # noqa: PLR2004
            return self.word()
        if draw < 0.8:  # noqa: PLR2004
            return " ".join(self.words(2)).title()
        return self.code()

    def _draw(self) -> str:
        rng = self.rng
        if rng.random() < 0.1:  # noqa: PLR2004
            return "".join(rng.choices(_LETTERS, k=rng.randint(4, 7)))
        return "".join(
            rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)
            for _ in range(rng.choice((1, 2, 2, 2, 3)))
        )

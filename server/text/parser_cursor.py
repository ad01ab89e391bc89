"""Reading character by character, for grammars written as generators.

Each function of a grammar is a generator. `yield` asks for the next character
and leaves it in `cursor.character`; when the generator goes on, this character
has been taken. A function that took one too many gives it back with `unread`,
and the next `yield` brings it again. So a grammar reads like one over a whole
text, never waits for a character it does not need, and cannot see how the
text was cut.

Text is *held* from the first mark on until something of it is reported, so
that it can be given back as it was when it proves to be no call. `NoCall`
says so; its `retry` counts the last characters that may begin something else
and are read again.
"""

from collections import deque
from collections.abc import Generator
from typing import TypeVar

from server.text.parser_marks import SPACE

T = TypeVar("T")
Steps = Generator[None, None, T]

MAX_HELD_CHARACTERS = 65_536
"""More text than this is not held for a call whose name has not come."""


class NoCall(Exception):
    """What was read is no call; the last `retry` characters are read again."""

    def __init__(self, retry: int = 1) -> None:
        super().__init__(retry)
        self.retry = retry


class Cursor:
    """The place in the text, what is held before it and given back after it."""

    __slots__ = ("character", "held", "is_holding", "returned")

    def __init__(self) -> None:
        self.character = ""
        self.held: list[str] = []
        self.is_holding = True
        self.returned: deque[str] = deque()

    def unread(self, text: str) -> None:
        """Give back the last characters, to be read again first."""
        self.returned.extendleft(reversed(text))

    def advance(self, steps: Steps[object], character: str) -> bool:
        """Give the next character to a grammar; return whether it is over.

        Raises:
            NoCall: What was read is none.
        """
        self.character = character
        if self.is_holding:
            self.held.append(character)
        try:
            next(steps)
            while self.returned:
                self.character = self.returned.popleft()
                next(steps)
        except StopIteration:
            return True
        return False

    def hold(self) -> None:
        """Keep what is read from now on; what was kept is accounted for."""
        self.held = list(self.returned)
        self.is_holding = True

    def let_go(self) -> None:
        """Keep nothing more: what is read now is reported as it comes."""
        self.held.clear()
        self.is_holding = False

    def read_visible(self) -> Steps[str]:
        """Read up to the next character that is no white space."""
        yield
        while self.character in SPACE:
            yield
        return self.character

    def read_one_of(self, options: tuple[str, ...]) -> Steps[str]:
        """Read one of some literals, after any white space.

        Raises:
            NoCall: None of them is there.
        """
        text = yield from self.read_visible()
        while text not in options:
            if not any(option.startswith(text) for option in options):
                raise NoCall(len(text))
            yield
            text += self.character
        return text

    def read_words(self, words: tuple[str, ...]) -> Steps[None]:
        """Read these literals, with free white space before each.

        Raises:
            NoCall: Another character came.
        """
        for word in words:
            yield from self.read_one_of((word,))

    def read_until(
        self,
        ends: tuple[str, ...],
        *,
        limit: int,
        allowed: frozenset[str] | None = None,
    ) -> Steps[tuple[str, str]]:
        """Read up to the first of some literals.

        Args:
            ends: The literals.
            limit: Most characters that may come before one of them.
            allowed: None for any text before it; otherwise only these.

        Returns:
            The text before the literal, and the literal.

        Raises:
            NoCall: The text is too long or none of those allowed.
        """
        text = ""
        while True:
            yield
            text += self.character
            for end in ends:
                if text.endswith(end):
                    return text[: len(text) - len(end)], end
            if len(text) > limit:
                raise NoCall
            if allowed is not None and not _may_become(text, ends, allowed):
                raise NoCall


def _may_become(text: str, ends: tuple[str, ...], allowed: frozenset[str]) -> bool:
    """Tell whether the text begins one of those allowed with a literal after it."""
    return any((option + end).startswith(text) for option in allowed for end in ends)

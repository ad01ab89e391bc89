"""Small automata over characters, to compare lexemes with each other.

An automaton is made from the positions of characters in an expression
(Glushkov's construction), then made deterministic. Counted repetitions are
taken as unbounded ones, so an automaton knows at least all texts of its
expression: what it rules out is ruled out.
"""

from dataclasses import dataclass, field
from itertools import pairwise

from server.text.gbnf import Alt, Chars, Node, Ranges, Repeat, Seq

MAX_POSITIONS = 400
MAX_STATES = 400
MAX_PAIRS = 20_000

Steps = tuple[tuple[int, int, int], ...]
"""From a state: (first code point, last code point, next state), apart."""


class TooLarge(Exception):
    """An automaton grows beyond what is worth comparing."""


@dataclass(frozen=True, slots=True)
class Automaton:
    """A deterministic automaton; state 0 is the start."""

    steps: tuple[Steps, ...]
    accepting: frozenset[int]

    @property
    def first(self) -> Ranges:
        """The characters that a text can begin with."""
        return tuple((low, high) for low, high, _ in self.steps[0])


def make_automaton(node: Node) -> Automaton:
    """Make the automaton of an expression without references.

    Raises:
        TooLarge: It has too many positions or states.
    """
    positions = _Positions()
    whole = positions.add(node)
    begins = frozenset(whole.first)
    numbers: dict[frozenset[int], int] = {frozenset({-1}): 0}
    waiting = [frozenset({-1})]
    steps: list[Steps] = []
    while waiting:
        state = waiting.pop(0)
        targets: set[int] = set()
        for position in state:
            targets |= begins if position < 0 else positions.follow[position]
        found = []
        for low, high, reached in _split(targets, positions.ranges):
            if reached not in numbers:
                numbers[reached] = len(numbers)
                waiting.append(reached)
                if len(numbers) > MAX_STATES:
                    raise TooLarge
            found.append((low, high, numbers[reached]))
        steps.append(tuple(found))
    ends = frozenset(whole.last)
    accepting = {
        number
        for state, number in numbers.items()
        if state & ends or (number == 0 and whole.is_empty)
    }
    return Automaton(tuple(steps), frozenset(accepting))


def swallows(short: Automaton, long: Automaton, after: Ranges) -> bool:
    """Tell whether `long` can go on where `short` ended and `after` begins.

    Then a lexer that takes the longest match would not see the end of `short`.

    Raises:
        TooLarge: There are too many states to compare.
    """
    seen = {(0, 0)}
    waiting = [(0, 0)]
    while waiting:
        one, two = waiting.pop()
        is_start = (one, two) == (0, 0)
        if one in short.accepting and not is_start:
            ahead = tuple((low, high) for low, high, _ in long.steps[two])
            if overlap(ahead, after):
                return True
        for low, high, to_one in short.steps[one]:
            for low2, high2, to_two in long.steps[two]:
                pair = (to_one, to_two)
                if low <= high2 and low2 <= high and pair not in seen:
                    seen.add(pair)
                    waiting.append(pair)
                    if len(seen) > MAX_PAIRS:
                        raise TooLarge
    return False


def share_text(one: Automaton, two: Automaton) -> bool:
    """Tell whether one text can begin both; if not, they are told apart at once."""
    return overlap(one.first, two.first)


def overlap(one: Ranges, two: Ranges) -> bool:
    """Tell whether two lists of ranges have a code point in common."""
    return any(
        low <= high2 and low2 <= high for low, high in one for low2, high2 in two
    )


def _split(
    targets: set[int], ranges: list[Ranges]
) -> list[tuple[int, int, frozenset[int]]]:
    """Cut the characters of positions into ranges that reach the same ones."""
    cuts = sorted(
        {low for t in targets for low, _ in ranges[t]}
        | {high + 1 for t in targets for _, high in ranges[t]}
    )
    found = []
    for low, end in pairwise(cuts):
        reached = frozenset(
            t for t in targets if any(a <= low <= b for a, b in ranges[t])
        )
        if reached:
            found.append((low, end - 1, reached))
    return found


@dataclass(slots=True)
class _Part:
    first: set[int]
    last: set[int]
    is_empty: bool


@dataclass(slots=True)
class _Positions:
    """The characters of an expression, and which can follow which."""

    ranges: list[Ranges] = field(default_factory=list)
    follow: list[set[int]] = field(default_factory=list)

    def add(self, node: Node) -> _Part:
        """Note the positions of a part."""
        match node:
            case Chars():
                return self._add_chars(node)
            case Seq():
                whole = _Part(set(), set(), is_empty=True)
                for part in node.parts:
                    whole = self._join(whole, self.add(part))
                return whole
            case Alt():
                parts = [self.add(part) for part in node.parts]
                return _Part(
                    set().union(*(part.first for part in parts)),
                    set().union(*(part.last for part in parts)),
                    is_empty=any(part.is_empty for part in parts),
                )
            case Repeat():
                return self._add_repeat(node)
            case _:
                raise TooLarge

    def _add_chars(self, node: Chars) -> _Part:
        self.ranges.append(node.ranges)
        self.follow.append(set())
        if len(self.ranges) > MAX_POSITIONS:
            raise TooLarge
        place = {len(self.ranges) - 1}
        return _Part(place, set(place), is_empty=False)

    def _add_repeat(self, node: Repeat) -> _Part:
        if node.most == 0:
            return _Part(set(), set(), is_empty=True)
        part = self.add(node.part)
        if node.most != 1:
            for place in part.last:
                self.follow[place] |= part.first
        part.is_empty = part.is_empty or node.least == 0
        return part

    def _join(self, one: _Part, two: _Part) -> _Part:
        for place in one.last:
            self.follow[place] |= two.first
        return _Part(
            one.first | two.first if one.is_empty else one.first,
            one.last | two.last if two.is_empty else two.last,
            is_empty=one.is_empty and two.is_empty,
        )

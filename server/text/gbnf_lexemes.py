"""Which parts of a character grammar can be lexemes.

Parts without recursion become lexemes, as long as they can be. Whether that
changes the meaning is a question of what the lexer sees at once:

* `next(o)` are the lexemes that can come after an occurrence `o` of one,
  without looking at where its rule was used, which is rather too many.
* Two occurrences are seen at once if both can begin an answer, or both come
  next after two that are seen at once and can begin with the same text.
* Of two that are seen at once, one must not be able to go on where the other
  has ended and its next one begins.

If that holds for all pairs the longest match is always the right one.
"""

from collections.abc import Iterable

from server.text.gbnf import Alt, Chars, Lexeme, Node, Ranges, Ref, Repeat, Seq
from server.text.gbnf_automaton import (
    Automaton,
    TooLarge,
    make_automaton,
    share_text,
    swallows,
)

MAX_LEXEME_PARTS = 4_000
"""Characters and operators of one lexeme with all rules written out."""

MAX_OCCURRENCES = 150


def merge(
    rules: dict[str, Node], regular: frozenset[str], *, across: bool
) -> dict[str, Node]:
    """Make lexemes of all that has no recursion and no tokens.

    Args:
        rules: As they were read.
        regular: The rules without recursion and tokens.
        across: Neighbours become one lexeme too. Otherwise only what can be empty
            joins what stands before it, as white space does; then rules that begin
            alike have the same lexemes.

    Raises:
        TooLarge: A lexeme grows too long.
    """
    merger = _Merger(rules, regular, across=across)
    return {
        name: merger.merge(node)
        for name, node in rules.items()
        if name == "root" or name not in regular
    }


class _Merger:
    def __init__(
        self, rules: dict[str, Node], regular: frozenset[str], *, across: bool
    ) -> None:
        self._rules = rules
        self._regular = regular
        self._across = across
        self._inlined: dict[str, tuple[Node, int]] = {}

    def merge(self, node: Node) -> Node:
        """Write a part with lexemes."""
        if self._is_regular(node):
            return self._lexeme(node)
        match node:
            case Seq():
                return self._merge_sequence(node)
            case Alt():
                return Alt(tuple(self._merge_all(node.parts, Alt)))
            case Repeat():
                return Repeat(self.merge(node.part), node.least, node.most)
            case _:
                return node

    def _merge_sequence(self, node: Seq) -> Node:
        return Seq(tuple(self._merge_all(node.parts, Seq)))

    def _merge_all(
        self, parts: Iterable[Node], kind: type[Seq] | type[Alt]
    ) -> list[Node]:
        """Merge neighbours in a sequence, or alternatives, into one lexeme."""
        merged: list[Node] = []
        run: list[Node] = []
        for part in parts:
            is_regular = self._is_regular(part)
            joins = is_regular and (
                self._across or (kind is Seq and self._may_skip(part))
            )
            # Alternatives that are apart can be one lexeme, neighbours cannot.
            if run and not joins and (kind is Seq or not self._across):
                merged.append(self._lexeme(_join(run, kind)))
                run = []
            if is_regular:
                run.append(part)
            else:
                merged.append(self.merge(part))
        if run:
            merged.append(self._lexeme(_join(run, kind)))
        return merged

    def _lexeme(self, node: Node) -> Node:
        inlined, size = self._inline(node)
        if size > MAX_LEXEME_PARTS:
            raise TooLarge
        return Lexeme(inlined)

    def _is_regular(self, node: Node) -> bool:
        match node:
            case Chars():
                return True
            case Ref():
                return node.name in self._regular
            case Seq() | Alt():
                return all(map(self._is_regular, node.parts))
            case Repeat():
                return self._is_regular(node.part)
            case _:
                return False

    def _may_skip(self, node: Node) -> bool:
        """Tell whether a part without recursion can be empty."""
        match node:
            case Ref():
                return self._may_skip(self._rules[node.name])
            case Seq():
                return all(map(self._may_skip, node.parts))
            case Alt():
                return any(map(self._may_skip, node.parts))
            case Repeat():
                return node.least == 0 or self._may_skip(node.part)
            case _:
                return False

    def _inline(self, node: Node) -> tuple[Node, int]:
        """Write rules out where they are used; returns the size as well."""
        match node:
            case Ref():
                known = self._inlined.get(node.name)
                if known is None:
                    known = self._inline(self._rules[node.name])
                    self._inlined[node.name] = known
                return known
            case Seq() | Alt():
                parts = [self._inline(part) for part in node.parts]
                size = 1 + sum(n for _, n in parts)
                if size > MAX_LEXEME_PARTS:
                    raise TooLarge
                return type(node)(tuple(part for part, _ in parts)), size
            case Repeat():
                part, size = self._inline(node.part)
                return Repeat(part, node.least, node.most), size + 1
            case _:
                return node, 1


def are_safe(rules: dict[str, Node]) -> bool:
    """Tell whether the longest match is always the right one; see the head."""
    try:
        return _Places(rules).are_safe()
    except TooLarge:
        return False


class _Places:
    """The occurrences of lexemes in merged rules, by number."""

    def __init__(self, rules: dict[str, Node]) -> None:
        self._rules = rules
        self._automata: list[Automaton | None] = []
        self._known: dict[Node, Automaton] = {}
        self._next: list[set[int]] = []
        self._first: dict[str, set[int]] = {name: set() for name in rules}
        self._last: dict[str, set[int]] = {name: set() for name in rules}
        self._empty: dict[str, bool] = dict.fromkeys(rules, False)
        self._numbers: dict[int, int] = {}
        self._uses: list[tuple[str, set[int]]] = []
        self._settle()

    def are_safe(self) -> bool:
        """Look at all pairs that the lexer can see at once."""
        start = self._first["root"]
        waiting = [(a, b) for a in start for b in start]
        seen = set(waiting)
        while waiting:
            one, two = waiting.pop()
            first, second = self._automata[one], self._automata[two]
            if first is not None and second is not None:
                if not share_text(first, second):
                    continue
                if swallows(first, second, self._ranges_after(one)):
                    return False
            elif one != two:
                continue
            for pair in ((a, b) for a in self._next[one] for b in self._next[two]):
                if pair not in seen:
                    seen.add(pair)
                    waiting.append(pair)
        return True

    def _ranges_after(self, place: int) -> Ranges:
        after: list[tuple[int, int]] = []
        for number in self._next[place]:
            automaton = self._automata[number]
            if automaton is not None:
                after += automaton.first
        return tuple(after)

    def _settle(self) -> None:
        """Compute what comes first, last and next until nothing changes."""
        while True:
            before = self._measure()
            for name, node in self._rules.items():
                first, last, empty = self._visit(node)
                self._first[name] |= first
                self._last[name] |= last
                self._empty[name] = self._empty[name] or empty
            if self._measure() == before:
                return

    def _measure(self) -> tuple[int, ...]:
        sets = (*self._first.values(), *self._last.values(), *self._next)
        return (sum(map(len, sets)), sum(self._empty.values()), len(self._next))

    def _visit(self, node: Node) -> tuple[set[int], set[int], bool]:
        """Return the first and last places of a part, and whether it can be empty."""
        match node:
            case Ref():
                name = node.name
                return self._first[name], self._last[name], self._empty[name]
            case Seq():
                return self._visit_sequence(node)
            case Alt():
                found = [self._visit(part) for part in node.parts]
                return (
                    set().union(*(first for first, _, _ in found)),
                    set().union(*(last for _, last, _ in found)),
                    any(empty for _, _, empty in found),
                )
            case Repeat():
                first, last, empty = self._visit(node.part)
                if node.most != 1:
                    self._link(last, first)
                return first, last, empty or node.least == 0
            case _:
                return self._visit_leaf(node)

    def _visit_sequence(self, node: Seq) -> tuple[set[int], set[int], bool]:
        first: set[int] = set()
        last: set[int] = set()
        empty = True
        for part in node.parts:
            part_first, part_last, part_empty = self._visit(part)
            self._link(last, part_first)
            first = first | part_first if empty else first
            last = last | part_last if part_empty else set(part_last)
            empty = empty and part_empty
        return first, last, empty

    def _visit_leaf(self, node: Node) -> tuple[set[int], set[int], bool]:
        number = self._numbers.get(id(node))
        if number is None:
            number = self._numbers[id(node)] = len(self._next)
            self._next.append(set())
            self._automata.append(self._automaton(node))
            if number >= MAX_OCCURRENCES:
                raise TooLarge
        automaton = self._automata[number]
        empty = automaton is not None and 0 in automaton.accepting
        return {number}, {number}, empty

    def _automaton(self, node: Node) -> Automaton | None:
        if not isinstance(node, Lexeme):
            return None
        if node.node not in self._known:
            self._known[node.node] = make_automaton(node.node)
        return self._known[node.node]

    def _link(self, last: set[int], first: set[int]) -> None:
        for place in last:
            self._next[place] |= first


def _join(run: list[Node], kind: type[Seq] | type[Alt]) -> Node:
    return run[0] if len(run) == 1 else kind(tuple(run))

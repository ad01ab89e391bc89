"""Marks in a stream: found wherever they begin, however the text is cut.

An Aho-Corasick automaton like the one of stop strings, but it goes on after a
match, and the caller decides what a match means. Of several marks the one
that is complete first wins; of those complete at the same character the
longest.
"""

import re
from collections import deque

SPACE = " \t\r\n"
"""What may stand at the edges of a mark beyond what the template writes."""


def split_words(mark: str) -> tuple[str, ...]:
    """Return the parts of a mark between which white space is free."""
    return tuple(mark.split())


class MarkScanner:
    """Finds marks and holds back what may become one.

    Args:
        marks: Any number of texts; an empty one can never match.
    """

    __slots__ = ("_children", "_failure", "_first", "_match", "_path", "_state")

    def __init__(self, marks: tuple[str, ...]) -> None:
        self._children: list[dict[str, int]] = [{}]
        self._path = [""]
        self._match = [""]
        self._failure = [0]
        self._state = 0
        for mark in filter(None, marks):
            self._insert(mark)
        self._link()
        first = "".join(map(re.escape, self._children[0]))
        self._first = re.compile(f"[{first}]" if first else "(?!)")

    @property
    def held(self) -> str:
        """The text at the end of what was scanned that may become a mark."""
        return self._path[self._state]

    def reset(self) -> None:
        """Forget what is held."""
        self._state = 0

    def scan(self, text: str, begin: int) -> tuple[str, str, int]:
        """Go on with `text[begin:]` up to the end of the first mark.

        Returns:
            Text that is no part of a mark (it may begin before this call),
            the mark found or "", and the index after the last character read.
        """
        seen = begin
        held = len(self._path[self._state])
        if not held:
            hit = self._first.search(text, begin)
            if hit is None:
                return text[begin:], "", len(text)
            seen = hit.start()
        before = self._path[self._state]
        for index in range(seen, len(text)):
            self._step(text[index])
            mark = self._match[self._state]
            if mark:
                self._state = 0
                whole = before + text[begin : index + 1]
                return whole[: len(whole) - len(mark)], mark, index + 1
        whole = before + text[begin:]
        return whole[: len(whole) - len(self.held)], "", len(text)

    def _insert(self, mark: str) -> None:
        node = 0
        for depth, character in enumerate(mark, start=1):
            following = self._children[node].get(character)
            if following is None:
                following = len(self._children)
                self._children[node][character] = following
                self._children.append({})
                self._path.append(mark[:depth])
                self._match.append("")
                self._failure.append(0)
            node = following
        self._match[node] = mark

    def _link(self) -> None:
        """Point each node to its longest proper suffix in the tree."""
        waiting = deque(self._children[0].values())
        while waiting:
            node = waiting.popleft()
            for character, child in self._children[node].items():
                waiting.append(child)
                suffix = self._failure[node]
                while suffix and character not in self._children[suffix]:
                    suffix = self._failure[suffix]
                self._failure[child] = self._children[suffix].get(character, 0)
            if not self._match[node]:
                self._match[node] = self._match[self._failure[node]]

    def _step(self, character: str) -> None:
        state = self._state
        while state and character not in self._children[state]:
            state = self._failure[state]
        self._state = self._children[state].get(character, 0)

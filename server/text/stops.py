"""Stop strings in a stream.

A stop string ends a continuation in the moment it is complete. So of several
that could match, the one that is complete first wins, and of those complete
at the same character the longest. This depends on the text alone and never
on how it was cut into pieces: "ab" and "abc" as stops of "abcd" always give
"ab", because nobody would have waited for the "c".

The scanner is an Aho-Corasick automaton. Its state is a node of the tree of
all stop strings: the longest suffix of the text so far that begins one of
them. The depth of this node is exactly what must be held back. Each character
moves the state once and follows each failure link at most as often as
characters were read, so the text is never searched again.
"""

from collections import deque


class StopScanner:
    """Passes text on until one of the stop strings is complete.

    Args:
        stops: Any number of strings; an empty one can never match.
    """

    __slots__ = (
        "_children",
        "_depth",
        "_failure",
        "_first",
        "_held",
        "_match",
        "_state",
        "_stopped",
    )

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._children: list[dict[str, int]] = [{}]
        self._depth = [0]
        self._match: list[str | None] = [None]
        self._failure = [0]
        self._state = 0
        self._held = ""
        self._stopped = False
        for stop in filter(None, stops):
            self._insert(stop)
        self._first = frozenset(self._children[0])
        self._link()

    def feed(self, text: str) -> tuple[str, str | None]:
        """Take more text.

        Returns:
            The text that is safe to show now, and the stop string if one is
            complete. It and all that follows are never shown; after it every
            call returns `("", None)`.
        """
        if self._stopped:
            return "", None
        if not self._state and self._first.isdisjoint(text):
            return text, None
        seen = self._held + text
        n_held = len(self._held)
        for n_read, character in enumerate(text, start=1):
            self._step(character)
            stop = self._match[self._state]
            if stop is not None:
                self._stopped = True
                self._held = ""
                return seen[: n_held + n_read - len(stop)], stop
        n_safe = len(seen) - self._depth[self._state]
        self._held = seen[n_safe:]
        return seen[:n_safe], None

    def flush(self) -> str:
        """Return the text held back, which now cannot become a stop string."""
        held, self._held, self._state = self._held, "", 0
        return held

    def _insert(self, stop: str) -> None:
        node = 0
        for depth, character in enumerate(stop, start=1):
            following = self._children[node].get(character)
            if following is None:
                following = len(self._children)
                self._children[node][character] = following
                self._children.append({})
                self._depth.append(depth)
                self._match.append(None)
                self._failure.append(0)
            node = following
        self._match[node] = stop

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
            if self._match[node] is None:
                self._match[node] = self._match[self._failure[node]]

    def _step(self, character: str) -> None:
        state = self._state
        while state and character not in self._children[state]:
            state = self._failure[state]
        self._state = self._children[state].get(character, 0)

"""What the seal blocked: attempts, counted by kind, and the last of them.

An attempt says who tried what from where. It holds no text of prompts: only the
kind of call, an address cut short, and a place in the code.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

MAX_ADDRESS_CHARS: Final = 120
KEPT_ATTEMPTS: Final = 50
_VERBS: Final = {
    "bind": "listen on",
    "connect": "connect to",
    "fetch": "fetch",
    "resolve": "look up",
    "send": "send to",
    "socket": "open a socket of",
}
_OTHER: Final = "other"
_MAX_PLACES: Final = 1000
"""Places remembered, so that each is logged once; then nothing more is logged."""


class Attempt(Struct, frozen=True, tag="blocked"):
    """One blocked call.

    Args:
        kind: bind, connect, fetch, resolve, send, socket or other.
        call: The audit event, such as `socket.connect`.
        address: What it was aimed at, or empty.
        module: Where it came from: the innermost code outside the standard
            library.
        line: There.
        process: `server` or the name of a worker.
    """

    kind: str
    call: str
    address: str
    module: str
    line: int
    process: str = "server"

    @property
    def place(self) -> tuple[str, str, int, str]:
        """What is logged once."""
        return (self.process, self.module, self.line, self.call)

    def describe(self) -> str:
        """Write who tried what, without an end of the sentence."""
        what = f"{_VERBS.get(self.kind, self.kind)} {self.address}".rstrip()
        return f"{self.module}:{self.line} tried to {what}"


class Snapshot(Struct, frozen=True):
    """What was blocked until now; the last attempts come oldest first."""

    counts: dict[str, int]
    last: tuple[Attempt, ...]


class AttemptLog:
    """Counts attempts of all threads.

    Args:
        on_new_place: Told of the first attempt from each place in the code.
    """

    def __init__(self, on_new_place: Callable[[Attempt], None]) -> None:
        self._on_new_place = on_new_place
        # Re-entrant: a hook may run inside another one on the same thread.
        self._lock = threading.RLock()
        self._counts: Counter[str] = Counter()
        self._last: deque[Attempt] = deque(maxlen=KEPT_ATTEMPTS)
        self._places: set[tuple[str, str, int, str]] = set()

    def record(self, attempt: Attempt) -> None:
        """Count an attempt; what a worker says of it is bounded."""
        if attempt.kind not in _VERBS:
            attempt = replace(attempt, kind=_OTHER)
        attempt = replace(
            attempt,
            call=attempt.call[:MAX_ADDRESS_CHARS],
            address=attempt.address[: MAX_ADDRESS_CHARS + 1],
            module=attempt.module[:MAX_ADDRESS_CHARS],
        )
        with self._lock:
            self._counts[attempt.kind] += 1
            self._last.append(attempt)
            is_new = attempt.place not in self._places
            if is_new and len(self._places) < _MAX_PLACES:
                self._places.add(attempt.place)
            else:
                is_new = False
        if is_new:
            self._on_new_place(attempt)

    def snapshot(self) -> Snapshot:
        """Copy the state."""
        with self._lock:
            return Snapshot(dict(self._counts), tuple(self._last))

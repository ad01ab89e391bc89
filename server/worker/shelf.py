"""Prefixes kept outside the KV cache: what was computed and may come back.

Theory
------
Every cell in use costs time in every step, also for sequences that do not own
it: attention looks at each cell to find that it is masked. Measured on 2 cores
with a 0.5B model, 20,000 idle cells made decoding 8 sequences 1.6 times as
long. Copying a sequence's state to ordinary memory and back takes some
microseconds a token, computing it again a thousand times that. So finished
sequences leave the cache for this shelf once others run, and come back when a
prompt begins like them.

The shelf itself is pure, like the ledger that uses it: it knows tokens and
keys, and says which saved states to forget. The bytes are the backend's.

* A new entry replaces those that are a prefix of it.
* An entry that another one already begins with is not stored again.
* When the shelf is full, the longest unused go.
"""

from collections import OrderedDict
from collections.abc import Iterator

from server.worker.tokens import Tokens, common_prefix

MIN_TOKENS = 32
"""Tokens that an entry must hold, and must save over what is in the cache."""

IDLE_CELLS = 128
"""Cells that retained sequences may keep while others run."""


class Shelf:
    """The ledger of saved states.

    Args:
        max_bytes: What all entries together may take.
        token_bytes: What a token of an entry takes.
        state_bytes: What an entry takes whatever its length.
        can_cut: Whether a part of an entry can be used.
        min_tokens: See `MIN_TOKENS`.
        idle_cells: See `IDLE_CELLS`.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        token_bytes: int,
        state_bytes: int,
        can_cut: bool,
        min_tokens: int = MIN_TOKENS,
        idle_cells: int = IDLE_CELLS,
    ) -> None:
        self.min_tokens = min_tokens
        self.idle_cells = idle_cells
        self._max_bytes = max_bytes
        self._token_bytes = token_bytes
        self._state_bytes = state_bytes
        self._can_cut = can_cut
        self._entries: OrderedDict[int, Tokens] = OrderedDict()
        self._n_bytes = 0
        self._next_key = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[int]:
        return iter(self._entries)

    def __contains__(self, key: int) -> bool:
        return key in self._entries

    def find(self, tokens: Tokens, limit: int) -> tuple[int | None, int]:
        """Find the entry with the longest usable common prefix.

        Args:
            tokens: The prompt.
            limit: Most tokens that may be used.

        Returns:
            Its key, or None, and how many tokens can be used.
        """
        best: int | None = None
        most = 0
        for key, entry in self._entries.items():
            n_common = common_prefix(entry, tokens, limit)
            if n_common > most and (self._can_cut or n_common == len(entry)):
                best, most = key, n_common
        return best, most

    def put(self, tokens: Tokens) -> tuple[int | None, tuple[int, ...]]:
        """Make an entry.

        Returns:
            Its key, or None if it is not stored, and the keys of entries
            that are forgotten for it.
        """
        n_bytes = self._size(tokens)
        if len(tokens) < self.min_tokens or n_bytes > self._max_bytes:
            return None, ()
        forgotten = []
        for key, entry in list(self._entries.items()):
            n_common = common_prefix(entry, tokens, len(tokens))
            if n_common == len(tokens) and (self._can_cut or len(entry) == n_common):
                self._entries.move_to_end(key)
                return None, ()
            if n_common == len(entry) and self._can_cut:
                forgotten.append(key)
        for key in forgotten:
            self.remove(key)
        while self._n_bytes + n_bytes > self._max_bytes:
            oldest = next(iter(self._entries))
            self.remove(oldest)
            forgotten.append(oldest)
        self._next_key += 1
        self._entries[self._next_key] = tokens[:]
        self._n_bytes += n_bytes
        return self._next_key, tuple(forgotten)

    def use(self, key: int) -> Tokens:
        """Return an entry's tokens and count it as the latest used."""
        self._entries.move_to_end(key)
        return self._entries[key]

    def remove(self, key: int) -> None:
        """Forget an entry."""
        self._n_bytes -= self._size(self._entries.pop(key))

    def clear(self) -> tuple[int, ...]:
        """Forget every entry; return their keys."""
        keys = tuple(self._entries)
        for key in keys:
            self.remove(key)
        return keys

    def _size(self, tokens: Tokens) -> int:
        return self._state_bytes + len(tokens) * self._token_bytes

"""What the unified KV cache holds: a ledger beside llama.cpp's own.

Theory
------
llama.cpp keeps one pool of `n_cells` cells. A cell holds the key and value of
one token at one position and may belong to several sequences at once:
`llama_memory_seq_cp` shares cells, it does not copy them. So a prefix that
two requests have in common is stored once.

This ledger mirrors that pool exactly, without touching it: it knows which
tokens each sequence id holds, which sequences share a cell (by reference
counts on cells of its own numbering), and what is free. Its methods decide
and return operations (`Copy`, `Drop` and so on) which the caller must carry out
on llama.cpp in that order. It never fails for want of space by itself: the
caller asks `n_free_cells` and calls `evict` before it extends anything.

A sequence id is in one of three states:

    free ──open──▶ live ──close──▶ retained ──evict / take over──▶ free / live
                    ▲                  │
                    └─── shelf ◀───────┘ (saved in memory, cells given up)

Rules, and who wins:

* A new request takes the longest common prefix of any live or retained
  sequence. Of equals, a retained one that is used up whole wins, because it
  can be taken over without a copy and without losing anything.
* The last token of a prompt is never reused: its logits are needed.
* Live sequences are never dropped here; only their owner closes them.
* Retained sequences go in order of last use, oldest first: when cells or
  sequence ids are wanted, or when others run and pay for the idle cells.
* What goes is saved on the shelf, if there is one (`server.worker.shelf`). A
  prefix on the shelf must be longer than one that is in the cache by
  `shelf.MIN_TOKENS` to be worth restoring.
* A model whose state cannot be cut (recurrent, hybrid) shares a sequence
  only as a whole: the other's entire length must be a prefix of the prompt.
  Anything else starts from nothing. Less reuse, never a wrong answer.

Refused: fragmentation (llama.cpp places tokens in any free cells), position
shifting (a shifted cache gives other answers than a fresh one).
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from server.worker.shelf import Shelf
from server.worker.tokens import Tokens, common_prefix, make_tokens, view_tokens


@dataclass(frozen=True, slots=True)
class Copy:
    """Let `dst` share the first `n_tokens` positions of `src`."""

    src: int
    dst: int
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Remove a sequence whole."""

    seq_id: int


@dataclass(frozen=True, slots=True)
class Cut:
    """Remove all but the first `n_tokens` positions of a sequence."""

    seq_id: int
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Save:
    """Store a sequence's state under a key."""

    seq_id: int
    key: int


@dataclass(frozen=True, slots=True)
class Restore:
    """Bring a stored state back as an empty sequence."""

    key: int
    seq_id: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Throw a stored state away."""

    key: int


CacheOp = Copy | Drop | Cut | Save | Restore | Forget


@dataclass(slots=True)
class _Held:
    """One sequence id in use. `cells[i]` is the cell of `tokens[i]`."""

    tokens: Tokens = field(default_factory=make_tokens)
    cells: Tokens = field(default_factory=make_tokens)
    live: bool = True
    last_used: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """A sequence id with its first `n_cached` tokens in place."""

    seq_id: int
    n_cached: int
    ops: tuple[CacheOp, ...]


class KvCache:
    """The ledger of one context.

    Args:
        n_cells: Tokens that the pool holds.
        n_seq: Sequence ids that may be used, 0 to `n_seq - 1`.
        can_cut: Whether a sequence may be shared or shortened at any token.
        counts_cells: Whether tokens use up cells; False for purely recurrent
            models, whose state has one size whatever the length.
        shelf: Where sequences go that leave; None drops them.
    """

    def __init__(
        self,
        *,
        n_cells: int,
        n_seq: int,
        can_cut: bool,
        counts_cells: bool = True,
        shelf: Shelf | None = None,
    ) -> None:
        self.n_cells = n_cells
        self._shelf = shelf
        self._can_cut = can_cut
        self._counts_cells = counts_cells
        self._held: dict[int, _Held] = {}
        self._free_ids = list(range(n_seq - 1, -1, -1))
        self._refs = np.zeros(n_cells, dtype=np.int32)
        self._free_cells = list(range(n_cells - 1, -1, -1))
        self._clock = 0

    @property
    def n_free_cells(self) -> int:
        """Cells that no sequence uses."""
        return len(self._free_cells)

    @property
    def n_retained(self) -> int:
        """Sequences kept only for their prefix."""
        return sum(1 for held in self._held.values() if not held.live)

    def length(self, seq_id: int) -> int:
        """Count the tokens that a sequence holds."""
        return len(self._held[seq_id].tokens)

    def find_prefix(self, tokens: Tokens, limit: int) -> tuple[int | None, int]:
        """Find who shares the longest prefix with `tokens`.

        Args:
            tokens: The prompt.
            limit: Most tokens that may be shared.

        Returns:
            The sequence id, or None, and how many tokens can be reused.
        """
        best: int | None = None
        best_rank = (0, False)
        for seq_id, held in self._held.items():
            n_common = common_prefix(held.tokens, tokens, limit)
            whole = n_common == len(held.tokens)
            if not (whole or self._can_cut):
                continue
            rank = (n_common, whole and not held.live)
            if rank > best_rank:
                best, best_rank = seq_id, rank
        return best, best_rank[0]

    def open(self, tokens: Tokens, *, limit: int) -> Opened | None:
        """Take a sequence id for a prompt, with the best prefix in place.

        Args:
            tokens: The prompt.
            limit: Most tokens that may be reused, less than the prompt's.

        Returns:
            None if every sequence id is live.
        """
        ops: list[CacheOp] = []
        source, n_cached = self.find_prefix(tokens, limit)
        if self._shelf is not None:
            opened = self._restore(self._shelf, tokens, limit, n_cached, ops)
            if opened is not None:
                return opened
            if ops:
                # Room was made in vain, maybe by what was found.
                source, n_cached = self.find_prefix(tokens, limit)
        if source is not None and self._is_used_up(source, n_cached):
            held = self._held[source]
            held.live = True
            return Opened(source, n_cached, tuple(ops))
        if not self._free_ids:
            victim = self._oldest_retained(keep=source)
            if victim is None and source is not None:
                victim = self._oldest_retained(keep=None)
                source, n_cached = None, 0
            if victim is None:
                return None
            ops += self._leave(victim)
        seq_id = self._free_ids.pop()
        held = _Held()
        self._held[seq_id] = held
        if source is not None:
            origin = self._held[source]
            origin.last_used = self._tick()
            held.tokens = origin.tokens[:n_cached]
            held.cells = origin.cells[:n_cached]
            self._refs[view_tokens(held.cells)] += 1
            ops.append(Copy(source, seq_id, n_cached))
        return Opened(seq_id, n_cached, tuple(ops))

    def extend(self, seq_id: int, tokens: Tokens) -> None:
        """Record tokens that were decoded at the end of a sequence.

        Raises:
            IndexError: There are fewer free cells than tokens.
        """
        held = self._held[seq_id]
        held.tokens.extend(tokens)
        if self._counts_cells:
            for _ in tokens:
                cell = self._free_cells.pop()
                self._refs[cell] = 1
                held.cells.append(cell)

    def close(self, seq_id: int) -> tuple[CacheOp, ...]:
        """Keep a live sequence as a reusable prefix; drop it if empty."""
        held = self._held[seq_id]
        if not held.tokens:
            return (self._release(seq_id),)
        held.live = False
        held.last_used = self._tick()
        return ()

    def drop(self, seq_id: int) -> tuple[CacheOp, ...]:
        """Give up a sequence and the cells that only it uses."""
        return (self._release(seq_id),)

    def evict(self, n_cells: int) -> tuple[CacheOp, ...]:
        """Drop retained sequences until `n_cells` are free, oldest first.

        Fewer may be free afterwards: live sequences stay.
        """
        ops: list[CacheOp] = []
        while self.n_free_cells < n_cells:
            victim = self._oldest_retained(keep=None)
            if victim is None:
                break
            ops += self._leave(victim)
        return tuple(ops)

    def swap_out(self, seq_id: int) -> tuple[CacheOp, ...]:
        """Give up a live sequence's cells, saving what was computed."""
        return tuple(self._leave(seq_id))

    def give_up_shelf(self) -> tuple[CacheOp, ...]:
        """Forget everything on the shelf and use it no more."""
        shelf, self._shelf = self._shelf, None
        return () if shelf is None else tuple(Forget(key) for key in shelf.clear())

    def tidy(self) -> tuple[CacheOp, ...]:
        """Move retained sequences to the shelf, but for `shelf.IDLE_CELLS`."""
        if self._shelf is None or not self._counts_cells:
            return ()
        # Idle are those that could be free and are not.
        return self.evict(self.n_available_cells() - self._shelf.idle_cells)

    def n_available_cells(self, spare: Collection[int] = ()) -> int:
        """Count the cells that would be free if all retained were dropped.

        Args:
            spare: Retained sequences that are to stay.
        """
        if not self._counts_cells:
            return self.n_cells
        used = np.zeros(self.n_cells, dtype=np.bool_)
        for seq_id, held in self._held.items():
            if held.live or seq_id in spare:
                used[view_tokens(held.cells)] = True
        return self.n_cells - int(used.sum())

    def _restore(
        self,
        shelf: Shelf,
        tokens: Tokens,
        limit: int,
        n_held: int,
        ops: list[CacheOp],
    ) -> Opened | None:
        """Open a sequence from the shelf if that saves more than the cache does.

        Args:
            shelf: Where to look.
            tokens: The prompt.
            limit: Most tokens that may be reused.
            n_held: Tokens that the cache itself would save.
            ops: Takes what must be carried out, also where None is returned.
        """
        key, n_cached = shelf.find(tokens, limit)
        if key is None or n_cached < n_held + shelf.min_tokens or not self._free_ids:
            return None
        entry = shelf.use(key)
        n_cells = len(entry) if self._counts_cells else 0
        if n_cells > self.n_available_cells():
            return None
        ops += self.evict(n_cells)
        # Those who made room may have pushed the entry off the shelf.
        if key not in shelf:
            return None
        seq_id = self._free_ids.pop()
        self._held[seq_id] = _Held()
        self.extend(seq_id, entry[:n_cached])
        ops.append(Restore(key, seq_id))
        if n_cached < len(entry):
            ops.append(Cut(seq_id, n_cached))
        else:
            shelf.remove(key)
            ops.append(Forget(key))
        return Opened(seq_id, n_cached, tuple(ops))

    def _leave(self, seq_id: int) -> list[CacheOp]:
        """Take a sequence out of the cache, onto the shelf if it is worth it."""
        ops: list[CacheOp] = []
        if self._shelf is not None:
            key, forgotten = self._shelf.put(self._held[seq_id].tokens)
            ops += [Forget(each) for each in forgotten]
            if key is not None:
                ops.append(Save(seq_id, key))
        return [*ops, self._release(seq_id)]

    def _is_used_up(self, seq_id: int, n_cached: int) -> bool:
        held = self._held[seq_id]
        return not held.live and n_cached == len(held.tokens)

    def _oldest_retained(self, keep: int | None) -> int | None:
        retained = [
            (held.last_used, seq_id)
            for seq_id, held in self._held.items()
            if not held.live and seq_id != keep
        ]
        return min(retained)[1] if retained else None

    def _release(self, seq_id: int) -> Drop:
        held = self._held.pop(seq_id)
        cells = view_tokens(held.cells)
        self._refs[cells] -= 1
        self._free_cells.extend(cells[self._refs[cells] == 0].tolist())
        self._free_ids.append(seq_id)
        return Drop(seq_id)

    def _tick(self) -> int:
        self._clock += 1
        return self._clock

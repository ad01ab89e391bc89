"""A backend whose answers betray every mistake with the KV cache.

Each cell remembers a hash of its token, its position and the cell before it,
as a real cell depends on all tokens that came before. Logits are that hash of
the last cell. So a prefix that was shared wrongly, a position that is off, or
a cell that belongs to somebody else gives another answer than a fresh start.
Cells are counted as llama.cpp counts them: shared ones once.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from server.worker.backend import CacheFull, DecodeFailed
from server.worker.kvcache import Copy, Cut, Drop, Forget, Restore, Save

N_VOCAB = 32
EOS = 31
PIECES = (
    *(bytes([code]) for code in range(ord("a"), ord("z") + 1)),  # 0 to 25
    b" ",
    b"\xc3",  # 27 and 28 together are one character
    b"\xa9",
    b"",  # a control token has no text
    b"zz",
    b"",  # EOS
)


def piece(token):
    return PIECES[token]


def is_end(token):
    return token == EOS


def mix(*parts):
    """Hash anything printable to 64 bytes."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=64).digest()


def to_logits(digest):
    """Spread 64 bytes over the vocabulary, from 0 to 16."""
    return np.frombuffer(digest, dtype=np.uint16).astype(np.float32) / 4096


@dataclass(eq=False)
class Cell:
    """A cell; equal only to itself, so that shared ones can be counted."""

    digest: bytes


class FakeSampler:
    """Draws by the logits, the seed and everything it drew before."""

    def __init__(self, backend, seed, prompt):
        self._backend = backend
        self._state = mix(seed, list(prompt))
        self.is_closed = False

    def sample(self, logits):
        if self.is_closed:
            self._backend.violations.append("a closed sampler was asked")
        token = int(np.argmax(logits + to_logits(self._state)))
        self._state = mix(self._state, token)
        # A real sampler may change them: nobody may look afterwards.
        logits[:] = 0.0
        return token

    def accept(self, token):
        self._state = mix(self._state, token)

    def close(self):
        if self.is_closed:
            self._backend.violations.append("a sampler was closed twice")
        self.is_closed = True


@dataclass
class FakeBackend:
    """Implements `server.worker.backend.Backend`.

    Args:
        n_cells: Cells until `CacheFull`; may be less than the ledger believes.
        n_seq: Sequence ids that exist.
        n_batch: Most tokens of one batch.
        n_rows: Most logit rows of one batch; llama.cpp aborts on more.
        on_decode: Called with the backend and the parts before each batch.
        broken_from: First row whose logits are not numbers.
    """

    n_cells: int
    n_seq: int
    n_batch: int
    n_rows: int = 1 << 30
    can_cut: bool = True
    counts_cells: bool = True
    on_decode: Callable[["FakeBackend", list], None] = lambda _self, _parts: None
    n_vocab: int = N_VOCAB
    held: dict[int, list[Cell]] = field(default_factory=dict)
    rows: dict[int, np.ndarray] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    samplers: list[FakeSampler] = field(default_factory=list)
    batches: list[list[tuple[int, int, int]]] = field(default_factory=list)
    n_decoded: int = 0
    n_restored: int = 0
    restore_fails: bool = False
    saved: dict[int, list[Cell]] = field(default_factory=dict)
    broken_from: int = 1 << 30

    @property
    def n_used(self):
        """Cells that hold something; shared ones count once."""
        return len({id(cell) for cells in self.held.values() for cell in cells})

    def apply(self, ops):  # noqa: C901 - one case for each operation
        for op in ops:
            match op:
                case Copy(src, dst, n_tokens):
                    source = self.held.get(src, [])
                    if self.held.get(dst):
                        self.violations.append(f"copy into {dst}, which is not empty")
                    if n_tokens > len(source):
                        self.violations.append(f"copy of {n_tokens} from {len(source)}")
                    if not self.can_cut and n_tokens != len(source):
                        self.violations.append("a state was cut that cannot be cut")
                    self.held[dst] = source[:n_tokens]
                case Drop(seq_id):
                    self.held.pop(seq_id, None)
                case Cut(seq_id, n_tokens):
                    if not self.can_cut:
                        self.violations.append("a state was cut that cannot be cut")
                    self.held[seq_id] = self.held[seq_id][:n_tokens]
                case Save(seq_id, key):
                    if key in self.saved:
                        self.violations.append(f"key {key} was saved twice")
                    self.saved[key] = [Cell(cell.digest) for cell in self.held[seq_id]]
                case Restore(key, seq_id):
                    self._restore(key, seq_id)
                case Forget(key):
                    del self.saved[key]

    def _restore(self, key, seq_id):
        if self.restore_fails:
            raise DecodeFailed("a saved prefix could not be restored")
        if self.held.get(seq_id):
            self.violations.append(f"restore into {seq_id}, which is not empty")
        if self.n_used + len(self.saved[key]) > self.n_cells and self.counts_cells:
            self.violations.append("a prefix was restored without room for it")
        self.held[seq_id] = [Cell(cell.digest) for cell in self.saved[key]]
        self.n_restored += 1

    def decode(self, parts):
        self.on_decode(self, parts)
        self._check(parts)
        n_tokens = sum(len(part.tokens) for part in parts)
        if self.counts_cells and self.n_used + n_tokens > self.n_cells:
            raise CacheFull
        self.batches.append([(p.seq_id, p.position, len(p.tokens)) for p in parts])
        self.n_decoded += n_tokens
        self.rows = {}
        row = 0
        wanted = []
        for part in parts:
            cells = self.held.setdefault(part.seq_id, [])
            first = len(part.tokens) - part.outputs
            wanted.append(list(range(row + first, row + len(part.tokens))))
            for offset, token in enumerate(part.tokens):
                before = cells[-1].digest if cells else b""
                cells.append(Cell(mix(before, token, part.position + offset)))
                if offset >= first:
                    self.rows[row] = to_logits(cells[-1].digest)
                row += 1
        return wanted

    def logits(self, row):
        if row >= self.broken_from:
            raise DecodeFailed("logits that are not numbers")
        return self.rows[row]

    def make_sampler(self, sampling, seed, prompt):
        del sampling
        self.samplers.append(FakeSampler(self, seed, prompt))
        return self.samplers[-1]

    def embed(self, inputs):
        raise NotImplementedError

    def _check(self, parts):
        ids = [part.seq_id for part in parts]
        if len(ids) != len(set(ids)):
            self.violations.append(f"a sequence is twice in a batch: {ids}")
        if sum(len(part.tokens) for part in parts) > self.n_batch:
            self.violations.append("a batch is larger than n_batch")
        if sum(part.outputs for part in parts) > self.n_rows:
            self.violations.append("a batch wants more logit rows than there are")
        for part in parts:
            n_held = len(self.held.get(part.seq_id, []))
            if part.position != n_held:
                self.violations.append(f"position {part.position} after {n_held}")
            if not 0 <= part.seq_id < self.n_seq:
                self.violations.append(f"sequence id {part.seq_id} does not exist")
            if not 0 <= part.outputs <= len(part.tokens) != 0:
                self.violations.append(f"{part.outputs} outputs of {len(part.tokens)}")

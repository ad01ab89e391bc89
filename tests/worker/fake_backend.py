"""A backend whose answers betray every mistake with the KV cache.

Each cell remembers a hash of its token, its position and the cell before it,
as a real cell depends on all tokens that came before. Logits are that hash of
the last cell. So a prefix that was shared wrongly, a position that is off, or
a cell that belongs to somebody else gives another answer than a fresh start.
Cells are counted as llama.cpp counts them: shared ones once.
"""

import hashlib
import queue
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from server.core.errors import ErrorInfo
from server.core.events import (
    ChoiceFinished,
    Failed,
    Finished,
    PromptProgress,
    TextDelta,
)
from server.core.requests import Generate, Sampling, TokenPrompt
from server.ipc.messages import Events, Stats
from server.worker.backend import CacheFull, DecodeFailed
from server.worker.inbox import Ask, Quit
from server.worker.kvcache import Copy, Drop, KvCache
from server.worker.loop import Limits, Loop
from server.worker.sampling import WIDE_VOCABULARY, SamplingPool
from server.worker.sequence import Job
from server.worker.tokens import make_tokens

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
MAX_TURNS = 5000
"""More than any test needs: a loop that makes no progress is found by this."""

_POOL = SamplingPool(2, WIDE_VOCABULARY)


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

    def sample(self, row, logits):
        if self.is_closed:
            self._backend.violations.append("a closed sampler was asked")
        if not np.array_equal(logits, self._backend.rows[row]):
            self._backend.violations.append("the logits are of another row")
        token = int(np.argmax(logits + to_logits(self._state)))
        self._state = mix(self._state, token)
        # A real sampler may change them: nobody may look afterwards.
        logits[:] = 0.0
        return token

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
    broken_rows: bool = False

    @property
    def n_used(self):
        """Cells that hold something; shared ones count once."""
        return len({id(cell) for cells in self.held.values() for cell in cells})

    def apply(self, ops):
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
        if self.broken_rows:
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


class ScriptedInbox:
    """Gives one batch of messages for each turn; at the end `Ask` and `Quit`.

    When the loop has nothing to do it waits; then the next batch comes early.
    """

    def __init__(self, turns: Iterable[list]):
        self._turns = [list(turn) for turn in turns]
        self._now = []
        self._has_begun = False
        self._end = [Ask(), Quit()]
        self._n_calls = 0

    def put(self, message):
        self._now.append(message)

    def get(self, *, block=True):
        self._n_calls += 1
        assert self._n_calls < MAX_TURNS, "the loop goes round without progress"
        if not self._has_begun:
            self._advance()
        while block and not self._now and self._turns:
            self._advance()
        if self._now:
            return self._now.pop(0)
        if block:
            return self._end.pop(0)
        self._has_begun = False
        raise queue.Empty

    def get_nowait(self):
        return self.get(block=False)

    def empty(self):
        return not self._now

    def _advance(self):
        self._has_begun = True
        if self._turns:
            self._now += self._turns.pop(0)


@dataclass
class Outcome:
    """What one request reported, folded."""

    events: list = field(default_factory=list)

    @property
    def ends(self):
        return [e for e in self.events if isinstance(e, Finished | Failed)]

    @property
    def error(self) -> ErrorInfo | None:
        failed = [e.error for e in self.events if isinstance(e, Failed)]
        return failed[0] if failed else None

    @property
    def usage(self):
        return self.ends[0].usage

    def text(self, choice=0):
        return "".join(d.text for d in self.deltas(choice))

    def deltas(self, choice=0):
        return [
            e for e in self.events if isinstance(e, TextDelta) and e.choice == choice
        ]

    def logprobs(self, choice=0):
        return [record for d in self.deltas(choice) for record in d.logprobs]

    @property
    def reasons(self):
        """Map each finished choice to its reason and stop string."""
        return {
            e.choice: (e.reason, e.stop)
            for e in self.events
            if isinstance(e, ChoiceFinished)
        }

    @property
    def progress(self):
        return [e.done for e in self.events if isinstance(e, PromptProgress)]

    @property
    def answer(self):
        """All that must not depend on who else is running."""
        choices = sorted(self.reasons)
        return [
            (c, self.text(c), self.logprobs(c), self.reasons[c]) for c in choices
        ] + [(u.usage.prompt_tokens, u.usage.completion_tokens) for u in self.ends]


@dataclass
class Run:
    """A finished run of a loop."""

    backend: FakeBackend
    cache: KvCache
    stats: Stats
    outcomes: dict[str, Outcome]

    def __getitem__(self, request_id):
        return self.outcomes[request_id]


def make_job(  # every option of a request that the loop looks at
    request_id,
    prompt,
    *,
    n=1,
    max_tokens=8,
    stop=(),
    top_logprobs=None,
    echo=False,
    seed=1,
):
    request = Generate(
        id=request_id,
        model="fake",
        prompt=TokenPrompt(tuple(prompt)),
        n=n,
        max_tokens=max_tokens,
        stop=stop,
        top_logprobs=top_logprobs,
        echo=echo,
        sampling=Sampling(seed=seed),
    )
    text = b"".join(map(piece, prompt)).decode("utf-8", "replace") if echo else None
    return Job(request, make_tokens(list(prompt)), seed, 0.0, text)


def run_loop(  # the sizes of a loop and its script
    turns,
    *,
    n_cells=256,
    n_ctx=64,
    n_batch=16,
    parallel=4,
    n_retained=4,
    rows=8,
    real_cells=None,
    **backend_options,
):
    """Run a loop over a script of messages and collect what it reported.

    Args:
        turns: For each turn of the loop the messages it finds.
        n_cells: What the ledger believes.
        real_cells: What the backend has; None means the same.
    """
    n_seq = parallel + n_retained
    backend = FakeBackend(
        n_cells=real_cells or n_cells,
        n_seq=n_seq,
        n_batch=n_batch,
        n_rows=n_seq + rows,
        **backend_options,
    )
    cache = KvCache(
        n_cells=n_cells,
        n_seq=n_seq,
        can_cut=backend.can_cut,
        counts_cells=backend.counts_cells,
    )
    outcomes: dict[str, Outcome] = {}
    stats = []

    def report(message):
        match message:
            case Events(items):
                for item in items:
                    outcome = outcomes.setdefault(item.request_id, Outcome())
                    outcome.events.append(item.event)
            case Stats():
                stats.append(message)

    loop = Loop(
        backend,
        cache,
        Limits(n_ctx, n_batch, parallel, rows),
        piece=piece,
        is_end=is_end,
        report=report,
        pool=_POOL,
    )
    loop.inbox = ScriptedInbox(turns)
    loop.run()
    return Run(backend, cache, stats[-1], outcomes)

"""Who waits, who runs, and who holds which part of the KV cache.

The one writer of a sequence's place: it moves sequences between waiting and
running, opens and closes their part of the cache, and takes it away when
others need it. What is decided follows `server.worker.scheduler` (order) and
`server.worker.kvcache` (space); here it is carried out. Belongs to the loop's
thread.

    waiting ──admit──▶ running ──finish, forget──▶ gone (its prefix is retained)
       ▲                  │
       └────preempt───────┘        (its cells were wanted; it goes on later)
"""

import logging
import time
from collections.abc import Callable

from server.worker.backend import Backend, DecodeFailed
from server.worker.course import Course
from server.worker.kvcache import KvCache
from server.worker.scheduler import pick_victim, queue_rank
from server.worker.sequence import Job, Sequence
from server.worker.tokens import Tokens

_log = logging.getLogger(__name__)

_SEED_RANGE = 2**32 - 1
"""llama.cpp takes 2**32 - 1 to mean a random seed, so it is left out."""


class Roster:
    """The sequences of one loop.

    Args:
        backend: Carries out what the ledger decides.
        cache: The ledger of the KV cache.
        parallel: Most sequences that run at once.
        piece: Gives the bytes of a token.
    """

    def __init__(
        self,
        backend: Backend,
        cache: KvCache,
        parallel: int,
        piece: Callable[[int], bytes],
    ) -> None:
        self.cache = cache
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.n_preemptions = 0
        self._backend = backend
        self._parallel = parallel
        self._piece = piece
        self._n_arrivals = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.running or self.waiting)

    def add(self, job: Job) -> None:
        """Let every choice of a job wait for its turn."""
        self._n_arrivals += 1
        job.arrival = self._n_arrivals
        job.n_unfinished = job.request.n
        for choice in range(job.request.n):
            course = Course(job.request, choice, job.form, self._piece)
            self.waiting.append(Sequence(job, choice, course, job.prompt[:]))

    def admit(self) -> None:
        """Let waiting sequences run while there are places and cells."""
        while len(self.running) < self._parallel:
            ready = [s for s in self.waiting if s.is_ready]
            if not ready:
                return
            sequence = min(
                ready,
                key=lambda s: queue_rank(
                    s.choice, s.job.arrival, preempted=s.preempted
                ),
            )
            if not self._start(sequence):
                return
            self.waiting.remove(sequence)
            self.running.append(sequence)
            self.running.sort(key=lambda s: (s.job.arrival, s.choice))

    def finish(self, sequence: Sequence) -> None:
        """Take a running sequence out; its prefix stays reusable."""
        self.running.remove(sequence)
        self._release(sequence)

    def forget(self, request_id: str) -> None:
        """Take every sequence of a request out; prefixes stay reusable."""
        for sequence in self._take(request_id):
            self._release(sequence)

    def discard(self, request_id: str) -> None:
        """Take every sequence of a request out and drop what it computed."""
        for sequence in self._take(request_id):
            self._vacate(sequence)
            self._release(sequence)

    def make_room(self, n_cells: int) -> bool:
        """Drop retained prefixes until so many cells are free, if they can be."""
        if not self._backend.counts_cells:
            return True
        if self.cache.n_free_cells < n_cells:
            self._backend.apply(self.cache.evict(n_cells))
        return self.cache.n_free_cells >= n_cells

    def preempt(self) -> bool:
        """Put the youngest running sequence back; False if only one is left."""
        index = pick_victim([s.n_past for s in self.running])
        if index is None:
            return False
        sequence = self.running.pop(index)
        self._backend.apply(self.cache.swap_out(sequence.held_id))
        sequence.seq_id = None
        sequence.n_past = 0
        sequence.preempted = True
        self.waiting.append(sequence)
        self.n_preemptions += 1
        return True

    def recover(self) -> bool:
        """Make room though the ledger counted some; False if nothing can go."""
        _log.warning("llama.cpp found no cells where the ledger counted free ones")
        if self.cache.n_retained:
            self._backend.apply(self.cache.evict(self.cache.n_cells))
            return True
        return self.preempt()

    def extend(self, sequence: Sequence, tokens: Tokens) -> None:
        """Record tokens that were computed for a running sequence."""
        self.cache.extend(sequence.held_id, tokens)
        sequence.n_past += len(tokens)

    def _start(self, sequence: Sequence) -> bool:
        """Give a sequence its place in the cache; False if it has to wait."""
        job = sequence.job
        limit = len(sequence.tokens) - 1
        if sequence.needs_prompt_logprobs or not job.request.cache_prompt:
            limit = 0
        if self.running and not self._has_room(sequence, limit):
            return False
        opened = self.cache.open(sequence.tokens, limit=limit)
        if opened is None:
            return False
        try:
            self._backend.apply(opened.ops)
        except DecodeFailed:
            _log.exception("prefixes are no longer kept outside the KV cache")
            ops = (*self.cache.drop(opened.seq_id), *self.cache.give_up_shelf())
            self._backend.apply(ops)
            return False
        self._backend.apply(self.cache.tidy())
        sequence.seq_id = opened.seq_id
        sequence.n_past = opened.n_cached
        if sequence.sampler is None:
            seed = (job.seed + sequence.choice) % _SEED_RANGE
            sequence.sampler = self._backend.make_sampler(
                job.sampling, seed, job.prompt
            )
        if job.started_s is None:
            job.started_s = time.monotonic()
            job.n_cached = opened.n_cached
        return True

    def _has_room(self, sequence: Sequence, limit: int) -> bool:
        """Whether the prompt fits beside what the running ones still need."""
        source, n_cached = self.cache.find_prefix(sequence.tokens, limit)
        spare = () if source is None else (source,)
        promised = sum(s.n_pending for s in self.running) + len(self.running)
        wanted = len(sequence.tokens) - n_cached + 1
        return wanted + promised <= self.cache.n_available_cells(spare)

    def _take(self, request_id: str) -> list[Sequence]:
        taken = [
            s for s in (*self.running, *self.waiting) if s.job.request.id == request_id
        ]
        self.running = [s for s in self.running if s.job.request.id != request_id]
        self.waiting = [s for s in self.waiting if s.job.request.id != request_id]
        return taken

    def _vacate(self, sequence: Sequence) -> None:
        """Give up a sequence's cells without keeping its prefix."""
        if sequence.seq_id is not None:
            self._backend.apply(self.cache.drop(sequence.seq_id))
            sequence.seq_id = None
        sequence.n_past = 0

    def _release(self, sequence: Sequence) -> None:
        """Free the sampler and close the sequence's part of the cache."""
        if sequence.seq_id is not None:
            self._backend.apply(self.cache.close(sequence.seq_id))
            sequence.seq_id = None
        if sequence.sampler is not None:
            sequence.sampler.close()
            sequence.sampler = None
        sequence.course.close()

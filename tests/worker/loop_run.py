"""Whole runs of a loop over the fake backend, by a script of messages."""

import queue
from collections.abc import Iterable
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
from server.core.sampling import SamplerSettings
from server.ipc.messages import Events, Stats
from server.worker.inbox import Ask, Quit, Submit
from server.worker.kvcache import KvCache
from server.worker.loop import Limits, Loop
from server.worker.sequence import Job
from server.worker.shelf import Shelf
from server.worker.tokens import make_tokens
from tests.worker.fake_backend import EOS, FakeBackend, is_end, mix, piece, to_logits

MAX_TURNS = 5000
"""More than any test needs: a loop that makes no progress is found by this."""


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
    shelf: Shelf
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
    settings = SamplerSettings()
    return Job(request, make_tokens(list(prompt)), settings, seed, 0.0, text)


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
    shelf_bytes=0,
    **backend_options,
):
    """Run a loop over a script of messages and collect what it reported.

    Args:
        turns: For each turn of the loop the messages it finds.
        n_cells: What the ledger believes.
        real_cells: What the backend has; None means the same.
        shelf_bytes: What saved prefixes may take, a byte for a token.
    """
    n_seq = parallel + n_retained
    backend = FakeBackend(
        n_cells=real_cells or n_cells,
        n_seq=n_seq,
        n_batch=n_batch,
        n_rows=n_seq + rows,
        **backend_options,
    )
    shelf = Shelf(
        max_bytes=shelf_bytes,
        token_bytes=1,
        state_bytes=1,
        can_cut=backend.can_cut,
        min_tokens=3,
        idle_cells=6,
    )
    cache = KvCache(
        n_cells=n_cells,
        n_seq=n_seq,
        can_cut=backend.can_cut,
        counts_cells=backend.counts_cells,
        shelf=shelf if shelf_bytes else None,
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
    )
    loop.inbox = ScriptedInbox(turns)
    loop.run()
    return Run(backend, cache, shelf, stats[-1], outcomes)


def run_jobs(*jobs, **options) -> Run:
    """Submit all at once and let them end."""
    return run_loop([[Submit(job) for job in jobs]], **options)


def assert_clean(run):
    """Nothing runs, no cell is lost, no sampler is open, nothing was wrong."""
    assert [] == run.backend.violations
    assert (0, 0) == (run.stats.n_running, run.stats.n_waiting)
    if run.backend.counts_cells:
        n_used = run.backend.n_used
        assert run.cache.n_cells - n_used == run.stats.n_free_cells
        assert run.cache.n_cells == run.cache.n_available_cells()
    assert len(run.backend.held) == run.stats.n_retained
    assert set(run.backend.saved) == set(run.shelf)
    assert all(sampler.is_closed for sampler in run.backend.samplers)


def answer_alone(spec, **options):
    run = run_jobs(make_job(**spec), **options)
    assert_clean(run)
    return run[spec["request_id"]].answer


def predict(prompt, seed, n):
    """Compute the drawn tokens without any cache: an independent reference."""
    digest = b""
    for position, token in enumerate(prompt):
        digest = mix(digest, token, position)
    state = mix(seed, list(prompt))
    drawn = []
    for position in range(len(prompt), len(prompt) + n):
        token = int(np.argmax(to_logits(digest) + to_logits(state)))
        drawn.append(token)
        if token == EOS:
            break
        digest = mix(digest, token, position)
        state = mix(state, token)
    return drawn


def find_seed(prompt, n, wanted):
    """Find a seed whose first `n` tokens satisfy `wanted`."""
    return next(s for s in range(5000) if wanted(predict(prompt, s, n)))


def find_endless(prompt, n):
    return find_seed(prompt, n, lambda drawn: EOS not in drawn)


def make_long_specs(n):
    """Describe requests that do not end before their 20 tokens."""
    return [
        {
            "request_id": f"r{i}",
            "prompt": [i] * 5,
            "max_tokens": 20,
            "seed": find_endless([i] * 5, 20),
        }
        for i in range(n)
    ]

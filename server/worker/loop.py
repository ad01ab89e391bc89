"""The decode loop: one step after another for all requests together.

Theory
------
One thread runs this loop and owns the backend, the KV ledger and every
sequence (`server.worker.roster`); nobody else touches them. Other threads only
put messages into the inbox. One turn:

    drain inbox → admit waiting → plan → make room → decode → draw → report

A turn reports once, one frame for all requests. Between two turns the inbox is
drained, so a cancelled request costs at most the step that is under way. When
nothing runs and nothing waits, the loop sleeps on the inbox.

There is no difference in kind between prefill and decode: a running sequence
has pending tokens, and when a step has fed the last of them, the next one is
drawn from the logits of that token. Tokens that a constraint leaves no choice
about are appended with the drawn one and so become pending together.

What a constraint allows (`Course.prepare`) is found out in a thread of its own
while the step that leads there is being decoded.

Errors end requests, never the loop: `DecodeFailed` ends the requests of the
batch, since nobody knows which of them native code disliked; anything
unexpected while a token is handled ends that request alone. A request ends in
exactly one `Finished` or `Failed`, unless it was cancelled.
"""

import logging
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from server.core.errors import EngineFailed, ErrorInfo, ServerError
from server.core.events import (
    ChoiceFinished,
    Event,
    Failed,
    FinishReason,
    PromptProgress,
    TokenLogprob,
)
from server.ipc.messages import Events, Report, RequestEvent, Stats
from server.worker.backend import Backend, CacheFull, DecodeFailed, Part
from server.worker.echo import PromptReader
from server.worker.inbox import Ask, Forget, Message, Quit, Submit
from server.worker.kvcache import KvCache
from server.worker.roster import Roster
from server.worker.sampling import NothingAllowed, describe_token
from server.worker.scheduler import (
    Feed,
    StepClock,
    fit_step,
    plan_step,
)
from server.worker.sequence import Job, Sequence

_log = logging.getLogger(__name__)

_NO_CELLS = (
    "The KV cache cannot hold this request. Load the model with a larger "
    "--context-length."
)

_NOTHING_ALLOWED = (
    "No token may follow here: what the answer's form allows, logit_bias forbids. "
    "Loosen one of them."
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The sizes of a loop.

    Args:
        n_ctx: Most tokens of one sequence.
        n_batch: Most tokens of one step.
        parallel: Most sequences that run at once.
        prompt_logprob_rows: Most logit rows of one step for echoed prompts.
    """

    n_ctx: int
    n_batch: int
    parallel: int
    prompt_logprob_rows: int


class Loop:
    """Runs generations on a backend until told to quit.

    Args:
        backend: The loaded model; the loop's thread is its only user.
        cache: The ledger of its KV cache.
        limits: Sizes.
        piece: Gives the bytes of a token.
        is_end: Tells whether a token ends generation.
        report: Sends a report; called on the loop's thread.
    """

    def __init__(
        self,
        backend: Backend,
        cache: KvCache,
        limits: Limits,
        *,
        piece: Callable[[int], bytes],
        is_end: Callable[[int], bool],
        report: Callable[[Report], None],
    ) -> None:
        self.inbox: queue.SimpleQueue[Message[Job]] = queue.SimpleQueue()
        self._backend = backend
        self._roster = Roster(backend, cache, limits.parallel, piece)
        self._limits = limits
        self._piece = piece
        self._is_end = is_end
        self._report = report
        self._clock = StepClock(limits.n_batch)
        self._prompts = PromptReader(backend, piece, self._emit)
        self._side = ThreadPoolExecutor(1, "masks")
        self._events: list[RequestEvent] = []
        self._n_decoded = 0
        self._n_prefilled = 0

    def run(self) -> None:
        """Work until a `Quit` arrives."""
        with self._side:
            while self._drain():
                self._roster.admit()
                self._step()
                self._flush()

    # Inbox

    def _drain(self) -> bool:
        """Handle what came in; wait for something if there is no work."""
        idle = self._roster.is_empty
        while True:
            try:
                message = self.inbox.get(block=idle)
            except queue.Empty:
                return True
            idle = False
            match message:
                case Submit(job):
                    self._roster.add(job)
                case Forget(request_id):
                    self._roster.forget(request_id)
                case Ask():
                    self._report(self._stats())
                    idle = self._roster.is_empty
                case Quit():
                    return False

    # One step

    def _step(self) -> None:
        feeds = self._plan()
        if not feeds:
            return
        sequences = [self._roster.running[feed.index] for feed in feeds]
        parts = [
            self._part(s, feed.n_tokens)
            for s, feed in zip(sequences, feeds, strict=True)
        ]
        n_decode = sum(1 for s in sequences if s.n_pending == 1)
        n_prefill = sum(f.n_tokens for f in feeds) - n_decode
        begin_s = time.monotonic()
        masks = self._prepare(sequences, parts)
        try:
            rows = self._backend.decode(parts)
        except CacheFull:
            if not self._roster.recover():
                self._fail(sequences, EngineFailed(_NO_CELLS).to_info())
            return
        except DecodeFailed as error:
            _log.exception("a step failed")
            self._fail(sequences, EngineFailed(_explain(error)).to_info())
            return
        finally:
            for mask in masks:
                mask.result()
        for sequence, part in zip(sequences, parts, strict=True):
            self._roster.extend(sequence, part.tokens)
        self._n_decoded += n_decode
        self._n_prefilled += n_prefill
        self._note_prompts(sequences, parts, rows)
        self._draw(
            [
                (s, r[-1])
                for s, r in zip(sequences, rows, strict=True)
                if not s.n_pending
            ]
        )
        self._clock.observe(n_decode, n_prefill, time.monotonic() - begin_s)

    def _plan(self) -> list[Feed]:
        """Decide the step and make room for it, preempting if it must."""
        while running := self._roster.running:
            n_decode = sum(1 for s in running if s.n_pending == 1)
            feeds = plan_step(
                [s.n_pending for s in running], self._clock.chunk_tokens(n_decode)
            )
            feeds = self._cap_rows(feeds)
            wanted = sum(feed.n_tokens for feed in feeds)
            if self._roster.make_room(wanted):
                return feeds
            # Streams go on; a prompt takes what is left, if anything is.
            fitting = fit_step(feeds, self._roster.cache.n_free_cells)
            n_fitting = sum(feed.n_tokens for feed in fitting)
            if 0 < n_decode <= n_fitting or not self._roster.preempt():
                return fitting
        return []

    def _cap_rows(self, feeds: list[Feed]) -> list[Feed]:
        """Bound the logit rows of all prompts whose tokens are echoed.

        The context has room for one row a sequence and these; llama.cpp aborts
        the process on more.
        """
        left = self._limits.prompt_logprob_rows
        capped = []
        for feed in feeds:
            n_tokens = feed.n_tokens
            if n_tokens > 1 and self._roster.running[feed.index].needs_prompt_logprobs:
                n_tokens = min(n_tokens, left)
                left -= n_tokens
            if n_tokens:
                capped.append(Feed(feed.index, n_tokens))
        return capped

    def _prepare(
        self, sequences: list[Sequence], parts: list[Part]
    ) -> list[Future[None]]:
        """Begin to find out what may be drawn after this step."""
        return [
            self._side.submit(s.course.prepare)
            for s, part in zip(sequences, parts, strict=True)
            if s.course.is_constrained and len(part.tokens) == s.n_pending
        ]

    def _part(self, sequence: Sequence, n_tokens: int) -> Part:
        begin = sequence.n_past
        tokens = sequence.tokens[begin : begin + n_tokens]
        is_last = n_tokens == sequence.n_pending
        outputs = 1 if is_last else 0
        if sequence.needs_prompt_logprobs and begin < len(sequence.job.prompt):
            outputs = n_tokens
        return Part(sequence.held_id, tokens, begin, outputs)

    # What a step brought

    def _note_prompts(
        self, sequences: list[Sequence], parts: list[Part], rows: list[list[int]]
    ) -> None:
        for sequence, part, part_rows in zip(sequences, parts, rows, strict=True):
            job = sequence.job
            n_prompt = len(job.prompt)
            if part.position >= n_prompt:
                continue
            if sequence.needs_prompt_logprobs:
                try:
                    self._prompts.read(job, part, part_rows)
                except DecodeFailed as error:
                    self._fail([sequence], EngineFailed(_explain(error)).to_info())
                    continue
            if sequence.choice == 0:
                done = min(sequence.n_past, n_prompt)
                self._emit(job, PromptProgress(done, n_prompt))
            if sequence.n_past >= n_prompt:
                job.leader_ready = True
                self._prompts.tell(sequence)

    def _draw(self, ready: list[tuple[Sequence, int]]) -> None:
        """Draw the next token of every sequence that has its logits."""
        for sequence, row in ready:
            if sequence.seq_id is None:
                continue  # its request ended with another of its choices
            if sequence.job.request.max_tokens == 0:
                self._finish(sequence, FinishReason.MAX_TOKENS)
                continue
            try:
                if sequence.n_generated or not self._force(sequence):
                    self._accept(sequence, *self._choose(sequence, row))
            except DecodeFailed as error:
                self._fail([sequence], EngineFailed(_explain(error)).to_info())
            except ServerError as error:
                self._fail([sequence], error.to_info())
            except NothingAllowed:
                self._fail([sequence], EngineFailed(_NOTHING_ALLOWED).to_info())
            except Exception:  # noqa: BLE001 - one request's trouble stays its own
                _log.exception("handling a token failed")
                info = EngineFailed("The engine failed on a token of this request.")
                self._fail([sequence], info.to_info())

    def _choose(self, sequence: Sequence, row: int) -> tuple[int, TokenLogprob | None]:
        """Draw a token from a row of logits."""
        logits = self._backend.logits(row)
        n_top = sequence.job.request.top_logprobs
        # Masks, bias and penalties change the logits; probabilities are of the
        # model's own.
        own = None if n_top is None else logits.copy()
        sequence.course.restrict(logits)
        token = sequence.held_sampler.sample(logits)
        if own is None or n_top is None:
            return token, None
        return token, describe_token(own, token, n_top, self._piece)

    def _accept(
        self, sequence: Sequence, token: int, logprob: TokenLogprob | None
    ) -> None:
        """Take a drawn token and those that it forces."""
        if self._take(sequence, token, logprob):
            self._force(sequence)

    def _force(self, sequence: Sequence) -> bool:
        """Take the tokens that follow whatever is drawn; tell if there were any."""
        was_forced = False
        while tokens := sequence.course.forced():
            was_forced = True
            for token in tokens:
                sequence.held_sampler.accept(token)
                if not self._take(sequence, token, None):
                    return True
        return was_forced

    def _take(
        self, sequence: Sequence, token: int, logprob: TokenLogprob | None
    ) -> bool:
        """Make a token part of a sequence; tell whether the sequence goes on."""
        job = sequence.job
        job.n_generated += 1
        sequence.n_generated += 1
        if job.first_token_s is None:
            job.first_token_s = time.monotonic()
        if self._is_end(token):
            self._finish(sequence, FinishReason.EOS)
            return False
        sequence.tokens.append(token)
        course = sequence.course
        self._emit_all(job, course.take(token, logprob))
        reason = course.end or sequence.next_reason(self._limits.n_ctx)
        if reason is not None:
            self._finish(sequence, reason)
            return False
        return True

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        job, course = sequence.job, sequence.course
        events, reason = course.finish(reason)
        self._emit_all(job, events)
        self._emit(job, ChoiceFinished(sequence.choice, reason, course.stop))
        job.n_reasoning += course.n_reasoning_tokens
        self._roster.finish(sequence)
        job.n_unfinished -= 1
        if job.n_unfinished == 0:
            self._emit(job, job.finish(time.monotonic()))

    def _fail(self, sequences: list[Sequence], info: ErrorInfo) -> None:
        """End the requests of these sequences and forget what they computed."""
        jobs = {s.job.request.id: s.job for s in sequences}
        for job in jobs.values():
            self._emit(job, Failed(info))
            self._roster.discard(job.request.id)

    # Reports

    def _emit_all(self, job: Job, events: list[Event]) -> None:
        for event in events:
            self._emit(job, event)

    def _emit(self, job: Job, event: Event) -> None:
        self._events.append(RequestEvent(job.request.id, event))

    def _flush(self) -> None:
        if self._events:
            self._report(Events(tuple(self._events)))
            self._events.clear()

    def _stats(self) -> Stats:
        return Stats(
            n_running=len(self._roster.running),
            n_waiting=len(self._roster.waiting),
            n_retained=self._roster.cache.n_retained,
            n_free_cells=self._roster.cache.n_free_cells,
            n_cells=self._roster.cache.n_cells,
            n_decoded_tokens=self._n_decoded,
            n_prefilled_tokens=self._n_prefilled,
            n_preemptions=self._roster.n_preemptions,
            prefill_chunk_tokens=self._clock.chunk_tokens(1),
            prefill_token_s=self._clock.prefill_token_s,
        )


def _explain(error: DecodeFailed) -> str:
    return f"The engine could not compute this request: {error}. {error.hint}"

"""Who gets how many tokens of the next step: pure decisions.

Theory
------
One step decodes one batch for all sequences together. A sequence has pending
tokens: those not yet in the KV cache. One pending token means it decodes (the
token sampled last); more means prefill. Every decoding sequence gets its one
token in every step; what remains of the step's budget goes to prefill. So a
long prompt never stalls a stream for longer than one chunk.

The budget is a time, not a count. `StepClock` learns from measured steps what
a token of prefill costs on this machine with this model at this depth, and
turns the time one step may take into a number of tokens.

Prefill budget among several prompts: the oldest prompt is sure of a quarter;
the rest goes to whoever has least left, since finishing short prompts first
gives the least mean time to first token, and the quarter keeps a long prompt
from starving behind a stream of short ones.

The waiting queue is fair by request: the first choice of every request comes
before the second choice of any, then in order of arrival. A request for 16
choices cannot shut the others out. A preempted sequence goes to the front.

When the cache is full: retained prefixes go first, then the youngest running
sequence is preempted: its cells are freed, it waits at the front and later
computes its tokens again. The oldest is never preempted and the pool holds at
least one full context, so something always advances.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass

CHUNK_TOKENS = 64
"""The unit of a step with prefill, decoding tokens included: a batch that is no
multiple of the matrix kernels' tiles pays for the rest. Below this unit
llama.cpp's attention on the CPU reads the whole cache once for every token:
measured on 2 cores with a 0.5B model, a prompt of 2,000 tokens beside 3 streams
took 27 s in chunks of 64 and 73 s in chunks of 32."""

MIN_CHUNK_TOKENS = 16
"""The least chunk, where even one unit would stop the streams for too long."""

DECODING_STEP_S = 0.6
"""Wanted length of a step while streams are moving. A fast machine computes its
whole batch in less; a slow one gets chunks that are still worth their cost."""

LONGEST_STEP_S = 2.0
"""How long one unit of prefill may stop the streams before it is made smaller."""

QUIET_STEP_S = 1.5
"""Wanted length of a step while nobody waits for a next token: bounds how long
a cancelled prompt or a new request has to wait."""

_SMOOTHING = 0.3


@dataclass(frozen=True, slots=True)
class Feed:
    """Decode the next `n_tokens` pending tokens of the sequence at `index`."""

    index: int
    n_tokens: int


class StepClock:
    """Learns the cost of steps and says how much prefill fits into one.

    Args:
        max_tokens: Most tokens of one step, the size of the batch.
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self.decode_s = 0.0
        self.prefill_token_s = 0.0

    def observe(self, n_decode: int, n_prefill: int, elapsed_s: float) -> None:
        """Learn from a finished step of so many tokens of either kind."""
        if n_prefill == 0:
            self.decode_s = _smooth(self.decode_s, elapsed_s)
        elif n_prefill + n_decode >= CHUNK_TOKENS:
            # Smaller chunks cost more a token and would teach the wrong price.
            rest_s = elapsed_s - (self.decode_s if n_decode else 0.0)
            token_s = max(rest_s, elapsed_s * 0.1) / n_prefill
            self.prefill_token_s = _smooth(self.prefill_token_s, token_s)

    def chunk_tokens(self, n_decode: int) -> int:
        """Say how many tokens of prefill the next step may hold.

        Args:
            n_decode: Sequences that decode in the same step.
        """
        room = max(0, self._max_tokens - n_decode)
        beside = n_decode % CHUNK_TOKENS
        if self.prefill_token_s == 0.0:
            # Nothing measured yet: one unit, and learn.
            return min(room, CHUNK_TOKENS - beside)
        step_s, decode_s = QUIET_STEP_S, 0.0
        if n_decode:
            step_s, decode_s = DECODING_STEP_S, self.decode_s
        units = round((step_s - decode_s) / self.prefill_token_s / CHUNK_TOKENS)
        one_unit_s = decode_s + CHUNK_TOKENS * self.prefill_token_s
        if units < 1 and one_unit_s > LONGEST_STEP_S:
            part = int((LONGEST_STEP_S - decode_s) / self.prefill_token_s)
            return min(room, max(MIN_CHUNK_TOKENS, part))
        return min(room, max(1, units) * CHUNK_TOKENS - beside)


def plan_step(pending: Seq[int], chunk_tokens: int) -> list[Feed]:
    """Share one step among the running sequences.

    Args:
        pending: Pending tokens of each sequence, at least 1, oldest first.
        chunk_tokens: Tokens of prefill that fit.

    Returns:
        One feed for each sequence that takes part, in the order given.
    """
    shares = [1 if n == 1 else 0 for n in pending]
    prompts = [i for i, n in enumerate(pending) if n > 1]
    left = chunk_tokens
    if prompts:
        oldest = prompts[0]
        shares[oldest] = min(pending[oldest], left // 4 if len(prompts) > 1 else left)
        left -= shares[oldest]
        for i in sorted(prompts, key=lambda i: pending[i] - shares[i]):
            more = min(pending[i] - shares[i], left)
            shares[i] += more
            left -= more
    return [Feed(i, n) for i, n in enumerate(shares) if n]


def fit_step(feeds: Seq[Feed], n_cells: int) -> list[Feed]:
    """Cut a step down to the cells that are free: decoding first, then age.

    Args:
        feeds: The step as planned, oldest first.
        n_cells: Cells that it may use.
    """
    fitting = []
    for feed in sorted(feeds, key=lambda f: (f.n_tokens > 1, f.index)):
        n_tokens = min(feed.n_tokens, n_cells)
        n_cells -= n_tokens
        if n_tokens:
            fitting.append(Feed(feed.index, n_tokens))
    return sorted(fitting, key=lambda f: f.index)


def queue_rank(choice: int, arrival: int, *, preempted: bool) -> tuple[int, int, int]:
    """Rank a waiting sequence; the lowest rank runs next.

    Args:
        choice: The sequence's place among the choices of its request.
        arrival: A number that grows with every request.
        preempted: Whether it has run before.
    """
    return (0 if preempted else 1, choice, arrival)


def pick_victim(cells: Seq[int]) -> int | None:
    """Choose the running sequence to preempt: the youngest that holds cells.

    Args:
        cells: Tokens each running sequence has in the cache, oldest first.

    Returns:
        Its index, or None if only the oldest is left.
    """
    for index in range(len(cells) - 1, 0, -1):
        if cells[index]:
            return index
    return None


def _smooth(old: float, new: float) -> float:
    """Move towards a new reading; one hiccup of the machine counts little."""
    if old == 0.0:
        return new
    return old + _SMOOTHING * (min(new, 2.0 * old) - old)

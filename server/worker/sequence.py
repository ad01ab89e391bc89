"""A request inside the worker, and its continuations.

A `Job` is one request with its tokenized prompt; it has one `Sequence` for
each choice. The first choice is the leader: the others wait until the
leader's prompt is in the KV cache, and then find it there as their longest
common prefix. So `n` choices cost one prefill.
"""

from dataclasses import dataclass, field

from server.core.events import Finished, FinishReason, TextDelta, Timings, Usage
from server.core.requests import Generate
from server.core.sampling import SamplerSettings
from server.worker.backend import Sampler
from server.worker.course import PLAIN, Course, Form
from server.worker.tokens import Tokens, make_tokens


@dataclass(slots=True)
class Job:
    """One generation request, accepted and tokenized.

    Args:
        request: What was asked.
        prompt: Its tokens, at least one and fewer than the context.
        sampling: How tokens are drawn, every field settled.
        seed: Seed of the first choice; the others count up from it.
        arrived_s: Monotonic time of arrival.
        echo_text: The prompt as text, where it is to be echoed.
        form: What is known of the form of its answers.
        warnings: What could not be done quite as it was asked.
    """

    request: Generate
    prompt: Tokens
    sampling: SamplerSettings
    seed: int
    arrived_s: float
    echo_text: str | None = None
    form: Form = PLAIN
    warnings: tuple[str, ...] = ()
    arrival: int = 0
    n_unfinished: int = 0
    n_generated: int = 0
    n_reasoning: int = 0
    n_cached: int = 0
    leader_ready: bool = False
    started_s: float | None = None
    first_token_s: float | None = None
    echo: TextDelta | None = None

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether logits of the prompt's own tokens are needed."""
        return self.request.echo and self.request.top_logprobs is not None

    def finish(self, now_s: float) -> Finished:
        """Summarise the request once all choices are complete."""
        first = self.first_token_s
        started = self.arrived_s if self.started_s is None else self.started_s
        return Finished(
            usage=Usage(
                prompt_tokens=len(self.prompt),
                completion_tokens=self.n_generated,
                cached_tokens=self.n_cached,
                reasoning_tokens=self.n_reasoning,
            ),
            timings=Timings(
                queued_s=started - self.arrived_s,
                first_token_s=None if first is None else first - self.arrived_s,
                total_s=now_s - self.arrived_s,
            ),
        )


@dataclass(slots=True)
class Sequence:
    """One continuation of a job's prompt.

    `tokens` are the prompt and what was generated; the first `n_past` of them
    are in the KV cache under `seq_id`, which is None while waiting.
    """

    job: Job
    choice: int
    course: Course
    tokens: Tokens = field(default_factory=make_tokens)
    seq_id: int | None = None
    n_past: int = 0
    n_generated: int = 0
    preempted: bool = False
    sampler: Sampler | None = None

    @property
    def n_pending(self) -> int:
        """Tokens that are not in the KV cache yet."""
        return len(self.tokens) - self.n_past

    @property
    def held_id(self) -> int:
        """The sequence id of a running sequence."""
        if self.seq_id is None:
            msg = "a waiting sequence holds no sequence id"
            raise RuntimeError(msg)
        return self.seq_id

    @property
    def held_sampler(self) -> Sampler:
        """The sampler of a running sequence."""
        if self.sampler is None:
            msg = "a waiting sequence has no sampler yet"
            raise RuntimeError(msg)
        return self.sampler

    @property
    def is_ready(self) -> bool:
        """Whether it may start: the leader at once, the others after it."""
        return self.choice == 0 or self.job.leader_ready

    @property
    def needs_prompt_logprobs(self) -> bool:
        """Whether this sequence computes the logits of the prompt."""
        return self.choice == 0 and self.job.wants_prompt_logprobs

    def next_reason(self, n_ctx: int) -> FinishReason | None:
        """Tell whether a bound ends the sequence after its last token."""
        limit = self.job.request.max_tokens
        if limit is not None and self.n_generated >= limit:
            return FinishReason.MAX_TOKENS
        if len(self.tokens) >= n_ctx:
            return FinishReason.CONTEXT
        return None

"""A prompt's own tokens, where a client wants them reported before the answer."""

from collections.abc import Callable

from server.core.events import Event, TextDelta, TokenLogprob
from server.worker.backend import Backend, Part
from server.worker.sampling import describe_token
from server.worker.sequence import Job, Sequence


class PromptReader:
    """Collects log probabilities of prompts and reports echoes.

    Args:
        backend: Has the logits of the last step.
        piece: Gives the bytes of a token.
        emit: Reports an event of a job.
    """

    def __init__(
        self,
        backend: Backend,
        piece: Callable[[int], bytes],
        emit: Callable[[Job, Event], None],
    ) -> None:
        self._backend = backend
        self._piece = piece
        self._emit = emit

    def read(self, job: Job, part: Part, rows: list[int]) -> None:
        """Collect the log probabilities of a part of a prompt.

        The logits of a token speak of the next one.

        Raises:
            DecodeFailed: A row has no logits.
        """
        if job.echo is None:
            first = TokenLogprob(job.prompt[0], self._piece(job.prompt[0]), None)
            job.echo = TextDelta(0, job.echo_text or "", (first,))
        read = list(job.echo.logprobs)
        n_top = job.request.top_logprobs or 0
        for offset, row in enumerate(rows):
            index = part.position + offset + 1
            # After a preemption the prompt comes by again: read it once.
            if len(read) <= index < len(job.prompt):
                logits = self._backend.logits(row)
                read.append(
                    describe_token(logits, job.prompt[index], n_top, self._piece)
                )
        job.echo = TextDelta(0, job.echo.text, tuple(read))

    def tell(self, sequence: Sequence) -> None:
        """Report the prompt as the beginning of a continuation."""
        job = sequence.job
        if job.echo_text and sequence.n_generated == 0:
            logprobs = job.echo.logprobs if job.echo else ()
            self._emit(job, TextDelta(sequence.choice, job.echo_text, logprobs))

"""The embedding loop: batches texts of all requests together.

One thread runs it and owns the backend. Each turn takes as many texts as fit
into one batch, in order of arrival, whatever request they belong to; a text
never spans two batches, since its pooling needs all of its tokens at once.
"""

import logging
import queue
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from server.core.errors import EngineFailed, InvalidRequest, ServerError
from server.core.events import Embeddings, Failed
from server.core.requests import Embed
from server.ipc.messages import Embedded, Events, Report, RequestEvent, Stats
from server.worker.backend import Backend, DecodeFailed
from server.worker.inbox import Ask, Forget, Message, Quit, Submit
from server.worker.tokens import Tokens

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class EmbedJob:
    """One request with its tokenized texts and the vectors found so far."""

    request: Embed
    inputs: list[Tokens]
    vectors: list[npt.NDArray[np.float32]] = field(default_factory=list)
    n_taken: int = 0


class EmbeddingLoop:
    """Computes embeddings until told to quit.

    Args:
        backend: The loaded model; the loop's thread is its only user.
        n_batch: Most tokens of one batch.
        n_seq: Most texts of one batch.
        instance_id: The name that results carry.
        report: Sends a report; called on the loop's thread.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        n_batch: int,
        n_seq: int,
        instance_id: str,
        report: Callable[[Report], None],
    ) -> None:
        self.inbox: queue.SimpleQueue[Message[EmbedJob]] = queue.SimpleQueue()
        self._backend = backend
        self._n_batch = n_batch
        self._n_seq = n_seq
        self._instance_id = instance_id
        self._report = report
        self._jobs: deque[EmbedJob] = deque()
        self._n_tokens = 0

    def run(self) -> None:
        """Work until a `Quit` arrives."""
        while self._drain():
            batch = self._take_batch()
            if batch:
                self._compute(batch)

    def _drain(self) -> bool:
        while True:
            try:
                message = self.inbox.get(block=not self._jobs)
            except queue.Empty:
                return True
            match message:
                case Submit(job):
                    self._jobs.append(job)
                case Forget(request_id):
                    self._discard(request_id)
                case Ask():
                    self._report(self._stats())
                case Quit():
                    return False

    def _take_batch(self) -> list[tuple[EmbedJob, Tokens]]:
        """Take texts in order of arrival while they fit."""
        batch: list[tuple[EmbedJob, Tokens]] = []
        n_tokens = 0
        for job in self._jobs:
            while job.n_taken < len(job.inputs):
                tokens = job.inputs[job.n_taken]
                n_tokens += len(tokens)
                if n_tokens > self._n_batch or len(batch) == self._n_seq:
                    return batch
                batch.append((job, tokens))
                job.n_taken += 1
        return batch

    def _compute(self, batch: list[tuple[EmbedJob, Tokens]]) -> None:
        try:
            vectors = self._backend.embed([tokens for _, tokens in batch])
        except DecodeFailed as error:
            _log.exception("an embedding batch failed")
            for request_id in {job.request.id for job, _ in batch}:
                message = (
                    f"The engine could not embed this request: {error}. {error.hint}"
                )
                self._refuse(request_id, EngineFailed(message))
            return
        for (job, tokens), vector in zip(batch, vectors, strict=True):
            job.vectors.append(vector)
            self._n_tokens += len(tokens)
            if len(job.vectors) == len(job.inputs):
                self._deliver(job)

    def _deliver(self, job: EmbedJob) -> None:
        self._jobs.remove(job)
        try:
            vectors = shorten(np.stack(job.vectors), job.request.dimensions)
        except InvalidRequest as error:
            self._refuse(job.request.id, error)
            return
        result = Embeddings(
            instance_id=self._instance_id,
            n_embd=vectors.shape[1],
            vectors=vectors.astype("<f4").tobytes(),
            prompt_tokens=sum(len(tokens) for tokens in job.inputs),
        )
        self._report(Embedded(job.request.id, result))

    def _refuse(self, request_id: str, error: ServerError) -> None:
        self._discard(request_id)
        self._report(Events((RequestEvent(request_id, Failed(error.to_info())),)))

    def _discard(self, request_id: str) -> None:
        self._jobs = deque(j for j in self._jobs if j.request.id != request_id)

    def _stats(self) -> Stats:
        return Stats(
            n_running=len(self._jobs),
            n_waiting=0,
            n_retained=0,
            n_free_cells=0,
            n_cells=0,
            n_decoded_tokens=0,
            n_prefilled_tokens=self._n_tokens,
            n_preemptions=0,
            prefill_chunk_tokens=self._n_batch,
            prefill_token_s=0.0,
        )


def shorten(
    vectors: npt.NDArray[np.float32], dimensions: int | None
) -> npt.NDArray[np.float32]:
    """Cut vectors to their first `dimensions` and scale them to length 1.

    Args:
        vectors: `[n_inputs, n_embd] float32`.
        dimensions: None leaves them as they are.

    Raises:
        InvalidRequest: The model's vectors are shorter than that.
    """
    n_embd = vectors.shape[1]
    if dimensions is None or dimensions == n_embd:
        return vectors
    if dimensions > n_embd:
        raise InvalidRequest(
            f"This model's embeddings have {n_embd} dimensions, but {dimensions} "
            "were asked for. Ask for fewer, or leave 'dimensions' out.",
            param="dimensions",
        )
    cut = vectors[:, :dimensions]
    norms = np.linalg.norm(cut, axis=1, keepdims=True)
    shortened: npt.NDArray[np.float32] = cut / np.maximum(norms, np.float32(1e-12))
    return shortened

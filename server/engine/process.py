"""One worker process, from spawn to exit, as the API process sees it.

A `WorkerProcess` owns the child, its socket and the queues of the requests
that run in it. The child may die at any moment; then every request in it gets
`WorkerCrashed`, once, and the object is of no further use. Everything here
runs on the event loop's thread.
"""

import asyncio
import logging
import os
import signal
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar, assert_never, get_args

import msgspec
import psutil

from server.core.errors import (
    ErrorInfo,
    ModelLoadFailed,
    ReportedError,
    ServerError,
    ShuttingDown,
    WorkerCrashed,
)
from server.core.events import Embeddings, Event, Failed, Finished
from server.core.requests import Embed, Generate, Inquiry, InquiryResult
from server.engine.child import Sealing, start_child
from server.ipc.framing import FrameDecoder, FrameTooLarge, encode_frame
from server.ipc.messages import (
    PROTOCOL,
    Answered,
    Cancel,
    Command,
    Embedded,
    Events,
    Hello,
    Inspect,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
    Report,
    RunEmbed,
    RunGenerate,
    RunInquiry,
    Stats,
    Stop,
    decode_report,
    encode_message,
)
from server.seal.attempts import Attempt
from server.seal.layers import Layers
from server.seal.level import Level

_log = logging.getLogger(__name__)

STOP_S = 5.0
"""How long a worker may take to end by itself before it is killed."""

_READ_BYTES = 1 << 20
_KEPT_LINES = 20

Answer = Embeddings | InquiryResult
"""What ends a request that reports no events."""

Item = Event | Answer

A = TypeVar("A", bound=Answer)

_RESULTS: tuple[type[InquiryResult], ...] = get_args(InquiryResult)


class WorkerProcess:
    """A spawned worker. Create it with `spawn`, then `load` once."""

    def __init__(
        self,
        child: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_blocked: Callable[[Attempt], None] | None = None,
    ) -> None:
        self._child = child
        self._on_blocked = on_blocked
        self.seal = Layers(Level.OFF)
        self._reader = reader
        self._writer = writer
        self._requests: dict[str, asyncio.Queue[Item]] = {}
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._loaded: asyncio.Future[Loaded] = (
            asyncio.get_running_loop().create_future()
        )
        self._stats: list[asyncio.Future[Stats]] = []
        self._on_progress: Callable[[float], None] = _ignore
        self._ending: ServerError | None = None
        self.gone = asyncio.Event()
        self._tasks = (
            asyncio.create_task(self._read_reports(), name="worker reports"),
            asyncio.create_task(self._read_log(), name="worker log"),
        )

    @classmethod
    async def spawn(cls, sealing: Sealing | None = None) -> "WorkerProcess":
        """Start a worker process with nothing loaded.

        Args:
            sealing: None leaves it without a seal of its own, and free to load
                any file.

        Raises:
            EngineFailed: The operating system refused a new process.
        """
        sealing = sealing or Sealing()
        child, ours = await start_child(sealing)
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(child, reader, writer, sealing.on_blocked)

    def has_died(self) -> bool:
        """Tell whether the child is dead, even if its end was not noticed yet.

        A request that comes right after a crash is thus not sent to a corpse.
        The end can be waited for only when the last of its threads has ended.
        """
        if self.gone.is_set() or self._child.returncode is not None:
            return True
        try:
            return psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    @property
    def pid(self) -> int:
        """The operating system's number of the child."""
        return self._child.pid

    @property
    def n_requests(self) -> int:
        """Requests that run or wait in this worker."""
        return len(self._requests)

    async def load(self, load: Load, on_progress: Callable[[float], None]) -> Loaded:
        """Load a model and wait until it is ready.

        Args:
            load: What to load.
            on_progress: Called with 0.0 to 1.0.

        Raises:
            ModelLoadFailed: llama.cpp refused the file, or died over it.
            ReportedError: The worker gave another reason.
        """
        self._on_progress = on_progress
        self._send(load)
        try:
            return await asyncio.shield(self._loaded)
        except WorkerCrashed as error:
            path = os.fsdecode(load.paths[0])
            raise ModelLoadFailed(
                f"The engine died while it loaded {path} ({self._tell_exit()}). The "
                "file is probably damaged: check it against its published SHA-256.",
                param="model",
            ) from error

    async def generate(self, request: Generate) -> AsyncGenerator[Event]:
        """Run a generation; closing the iterator cancels it.

        Yields:
            Its events, `Finished` or `Failed` last.
        """
        items = self._open(request.id)
        try:
            self._send(RunGenerate(request))
            while True:
                item = await items.get()
                if isinstance(item, Answer):
                    continue
                if isinstance(item, Finished | Failed):
                    # The worker has forgotten it: nothing is left to cancel.
                    self._requests.pop(request.id, None)
                yield item
                if isinstance(item, Finished | Failed):
                    return
        finally:
            self._abandon(request.id)

    async def embed(self, request: Embed) -> Embeddings:
        """Compute embeddings; cancelling the call cancels the work.

        Raises:
            ReportedError: The worker refused or failed.
        """
        return await self._ask(request.id, RunEmbed(request), (Embeddings,))

    async def inquire(self, request: Inquiry) -> InquiryResult:
        """Answer a question about text.

        Raises:
            ReportedError: The worker refused or failed.
        """
        return await self._ask(request.id, RunInquiry(request), _RESULTS)

    async def _ask(
        self, request_id: str, command: Command, kinds: tuple[type[A], ...]
    ) -> A:
        """Send a request and wait for its one answer, of one of these kinds."""
        items = self._open(request_id)
        try:
            self._send(command)
            while True:
                item = await items.get()
                if isinstance(item, kinds):
                    self._requests.pop(request_id, None)
                    return item
                if isinstance(item, Failed):
                    self._requests.pop(request_id, None)
                    raise ReportedError(item.error)
        finally:
            self._abandon(request_id)

    async def inspect(self) -> Stats:
        """Ask the loop for its state.

        Raises:
            WorkerCrashed: The worker ended before it answered.
        """
        if self.gone.is_set():
            raise WorkerCrashed(self._describe_end().message)
        answer: asyncio.Future[Stats] = asyncio.get_running_loop().create_future()
        self._stats.append(answer)
        self._send(Inspect())
        return await answer

    async def stop(self, reason: ServerError | None = None) -> None:
        """End the worker and wait until it is gone.

        Args:
            reason: What requests that still run are told.
        """
        self._ending = reason or ShuttingDown("The model was unloaded. Try again.")
        self._send(Stop())
        try:
            await asyncio.wait_for(self._child.wait(), STOP_S)
        except TimeoutError:
            self._child.kill()
        await self.gone.wait()

    def kill(self) -> None:
        """End the worker at once."""
        if self._child.returncode is None:
            self._child.kill()

    def _open(self, request_id: str) -> asyncio.Queue[Item]:
        items: asyncio.Queue[Item] = asyncio.Queue()
        if self.gone.is_set():
            items.put_nowait(Failed(self._describe_end()))
        self._requests[request_id] = items
        return items

    def _abandon(self, request_id: str) -> None:
        """Cancel a request that has not ended."""
        if self._requests.pop(request_id, None) is not None:
            self._send(Cancel(request_id))

    def _send(self, command: Command) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode_frame(encode_message(command)))

    async def _read_reports(self) -> None:
        decoder = FrameDecoder()
        try:
            while data := await self._reader.read(_READ_BYTES):
                for payload in decoder.feed(data):
                    self._dispatch(decode_report(payload))
        except ConnectionError:
            _log.debug("worker %d closed its channel", self.pid)
        except (FrameTooLarge, msgspec.DecodeError):
            _log.exception("worker %d sent something unreadable", self.pid)
            self.kill()
        await self._conclude()

    def _dispatch(self, report: Report) -> None:
        match report:
            case Events(items):
                for item in items:
                    self._deliver(item.request_id, item.event)
            case Embedded(request_id, result) | Answered(request_id, result):
                self._deliver(request_id, result)
            case LoadProgress(done):
                self._on_progress(done)
            case Loaded():
                self._settle(report)
            case LoadFailed(error):
                # The worker ends after this, as it should.
                self._ending = ReportedError(error)
                self._settle(self._ending)
            case Stats():
                self._answer(report)
            case Hello():
                self._greet(report)
            case Attempt():
                self._note_blocked(report)
            case _:
                assert_never(report)

    def _deliver(self, request_id: str, item: Item) -> None:
        """Hand an item to its request, unless that was cancelled meanwhile."""
        items = self._requests.get(request_id)
        if items is not None:
            items.put_nowait(item)

    def _answer(self, stats: Stats) -> None:
        """Answer the oldest `inspect`; its caller may have given up."""
        answer = self._stats.pop(0)
        if not answer.done():
            answer.set_result(stats)

    def _greet(self, hello: Hello) -> None:
        _log.debug("worker %d runs %s", self.pid, hello.engine)
        self.seal = hello.seal
        for what in hello.seal.missing:
            _log.debug("worker %d is sealed without %s", self.pid, what)
        if hello.protocol != PROTOCOL:
            _log.error("worker %d speaks protocol %d", self.pid, hello.protocol)
            self.kill()

    def _note_blocked(self, attempt: Attempt) -> None:
        """Pass on what the worker's seal blocked, under a name made here."""
        if self._on_blocked is not None:
            process = f"worker {self.pid}"
            self._on_blocked(msgspec.structs.replace(attempt, process=process))

    def _settle(self, outcome: Loaded | ServerError) -> None:
        if self._loaded.done():
            return
        if isinstance(outcome, Loaded):
            self._loaded.set_result(outcome)
        else:
            self._loaded.set_exception(outcome)

    async def _conclude(self) -> None:
        """Tell everybody that the worker is gone."""
        await self._child.wait()
        await self._tasks[1]
        self._writer.close()
        self.gone.set()
        info = self._describe_end()
        if self._ending is None:
            _log.error("worker %d: %s %s", self.pid, info.message, self._last_words())
        self._settle(WorkerCrashed(info.message))
        # Retrieved or not, the outcome must not be reported as forgotten.
        self._loaded.exception()
        for queue in self._requests.values():
            queue.put_nowait(Failed(info))
        for answer in self._stats:
            if not answer.done():
                answer.set_exception(WorkerCrashed(info.message))

    def _describe_end(self) -> ErrorInfo:
        if self._ending is not None:
            return self._ending.to_info()
        return WorkerCrashed(
            f"The process that held the model ended unexpectedly ({self._tell_exit()})."
            " Send the request again: the model is loaded afresh."
        ).to_info()

    def _tell_exit(self) -> str:
        code = self._child.returncode
        if code is not None and code < 0:
            return f"signal {signal.Signals(-code).name}"
        return f"exit code {code}"

    def _last_words(self) -> str:
        return " | ".join(self._lines)

    async def _read_log(self) -> None:
        if self._child.stderr is None:
            return
        while line := await _read_line(self._child.stderr):
            text = line.decode("utf-8", "replace").rstrip()
            self._lines.append(text)
            _log.debug("worker %d: %s", self.pid, text)


async def _read_line(stream: asyncio.StreamReader) -> bytes:
    """Read a line; one that is too long comes in pieces."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await stream.read(error.consumed)


def _ignore(_done: float) -> None:
    """Take progress that nobody asked for."""

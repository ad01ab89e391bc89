"""One worker's life: greet, load, serve, stop.

    Hello ─▶ Load ─▶ LoadProgress* ─▶ Loaded | LoadFailed ─▶ requests ─▶ Stop

The command thread is the only reader of the channel; reports are written by
whichever thread has one, under a lock, a frame at a time.
"""

import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import assert_never

import msgspec

from server.core.errors import ModelLoadFailed, WrongModelType
from server.core.requests import Embed, Generate, Inquiry
from server.ipc.framing import FrameDecoder, FrameTooLarge, encode_frame
from server.ipc.messages import (
    PROTOCOL,
    Cancel,
    Command,
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
    Stop,
    decode_command,
    encode_message,
)
from server.seal.layers import Layers
from server.worker.bindings import NativeLog, load_bindings
from server.worker.chat import Chat
from server.worker.constraint import Constrainer
from server.worker.embedding import EmbeddingLoop, EmbedJob
from server.worker.inbox import Ask, Forget, Quit, Submit
from server.worker.intake import Intake
from server.worker.kvcache import KvCache
from server.worker.llama import PROMPT_LOGPROB_ROWS, LlamaBackend
from server.worker.loop import Limits, Loop
from server.worker.shelf import Shelf

_log = logging.getLogger(__name__)

_READ_BYTES = 1 << 20
_PROGRESS_INTERVAL_S = 0.1
_NO_CHAT = "This is an embedding model: it cannot generate text. Use /v1/embeddings."
_NO_EMBEDDINGS = "This model generates text; choose an embedding model instead."


class Session:
    """Serves one model over a connected socket.

    Args:
        channel: The worker's end of the socket pair.
        verbose: Pass all of llama.cpp's log on to standard error.
        seal: What holds in this process, for the greeting.
    """

    def __init__(self, channel: socket.socket, *, verbose: bool, seal: Layers) -> None:
        self._channel = channel
        self._seal = seal
        self._verbose = verbose
        self._send_lock = threading.Lock()
        self._loads: queue.SimpleQueue[Load | None] = queue.SimpleQueue()
        self._intake: Intake | None = None
        self._loop: Loop | None = None
        self._embedding: EmbeddingLoop | None = None

    def run(self) -> None:
        """Work until the parent says stop; its disappearance ends the process."""
        llama = load_bindings()
        llama.llama_backend_init()
        log = NativeLog(llama, verbose=self._verbose)
        engine = f"llama.cpp {llama.llama_version().decode()}"
        threading.Thread(target=self._read, name="commands", daemon=True).start()
        self.send(Hello(PROTOCOL, os.getpid(), engine, self._seal))
        load = self._loads.get()
        if load is None:
            return
        begin_s = time.monotonic()
        try:
            backend = LlamaBackend.load(llama, log, load, self._make_progress())
        except ModelLoadFailed as error:
            self.send(LoadFailed(error.to_info()))
            return
        try:
            self._serve(load, backend, begin_s)
        finally:
            backend.close()

    def send(self, report: Report) -> None:
        """Write one report; safe from every thread."""
        frame = encode_frame(encode_message(report))
        with self._send_lock:
            try:
                self._channel.sendall(frame)
            except OSError:
                _end_process()

    def _serve(self, load: Load, backend: LlamaBackend, begin_s: float) -> None:
        vocabulary = backend.vocabulary
        intake = Intake(
            vocabulary,
            Chat(
                vocabulary, backend.chat_template(), Constrainer(vocabulary.constrain)
            ),
            n_ctx=load.n_ctx,
            instance_id=load.instance_id,
            report=self.send,
            sampling=load.sampling,
        )
        loop: Loop | EmbeddingLoop
        if load.embedding:
            loop = self._embedding = EmbeddingLoop(
                backend,
                n_batch=backend.n_batch,
                n_seq=backend.n_seq,
                instance_id=load.instance_id,
                report=self.send,
            )
        else:
            loop = self._loop = Loop(
                backend,
                KvCache(
                    n_cells=load.n_cells,
                    n_seq=backend.n_seq,
                    can_cut=backend.can_cut,
                    counts_cells=backend.counts_cells,
                    shelf=_make_shelf(load, backend),
                ),
                Limits(load.n_ctx, backend.n_batch, load.parallel, PROMPT_LOGPROB_ROWS),
                piece=backend.vocabulary.piece,
                is_end=backend.vocabulary.is_end,
                report=self.send,
            )
        self._intake = intake
        self.send(Loaded(load.n_ctx, backend.n_vocab, time.monotonic() - begin_s))
        loop.run()

    def _read(self) -> None:
        """Read commands until the parent is gone, then end the process."""
        decoder = FrameDecoder()
        try:
            while data := self._channel.recv(_READ_BYTES):
                for payload in decoder.feed(data):
                    self._handle(decode_command(payload))
        except (OSError, FrameTooLarge, msgspec.DecodeError):
            _log.exception("the command channel failed")
        except Exception:  # noqa: BLE001 - the border: without commands there is nothing to do
            _log.exception("the command thread failed")
        _end_process()

    def _handle(self, command: Command) -> None:
        match command:
            case Load():
                self._loads.put(command)
            case RunGenerate(request):
                self._run_generate(request)
            case RunEmbed(request):
                self._run_embed(request)
            case RunInquiry(request):
                self._run_inquiry(request)
            case Cancel(request_id):
                self._post(Forget(request_id))
            case Inspect():
                self._post(Ask())
            case Stop():
                self._loads.put(None)
                self._post(Quit())
            case _:
                assert_never(command)

    def _run_generate(self, request: Generate) -> None:
        if self._intake is None:
            _log.error("a request came before the model was loaded")
        elif self._loop is None:
            self._intake.refuse(request.id, WrongModelType(_NO_CHAT))
        else:
            job = self._intake.accept(request)
            if job is not None:
                self._loop.inbox.put(Submit(job))

    def _run_embed(self, request: Embed) -> None:
        if self._intake is None:
            _log.error("a request came before the model was loaded")
        elif self._embedding is None:
            self._intake.refuse(request.id, WrongModelType(_NO_EMBEDDINGS))
        else:
            inputs = self._intake.accept_texts(request)
            if inputs is not None:
                self._embedding.inbox.put(Submit(EmbedJob(request, inputs)))

    def _run_inquiry(self, request: Inquiry) -> None:
        if self._intake is None:
            _log.error("a request came before the model was loaded")
        else:
            self._intake.answer(request)

    def _post(self, message: Forget | Ask | Quit) -> None:
        for loop in (self._loop, self._embedding):
            if loop is not None:
                loop.inbox.put(message)

    def _make_progress(self) -> Callable[[float], None]:
        last_s = 0.0

        def report(done: float) -> None:
            nonlocal last_s
            now_s = time.monotonic()
            if now_s - last_s >= _PROGRESS_INTERVAL_S:
                last_s = now_s
                self.send(LoadProgress(done))

        return report


def _make_shelf(load: Load, backend: LlamaBackend) -> Shelf | None:
    """Build the shelf, if there is memory for it and saved states are whole."""
    if load.shelf_bytes <= 0 or not backend.saves_whole_state:
        return None
    return Shelf(
        max_bytes=load.shelf_bytes,
        token_bytes=load.kv_token_bytes,
        state_bytes=load.kv_state_bytes,
        can_cut=backend.can_cut,
    )


def _end_process() -> None:
    """End at once, from any thread, whatever native code is doing."""
    os._exit(0)

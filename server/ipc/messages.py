"""The contract between the API process and a worker.

The parent sends commands, the worker sends reports; both are msgpack of
tagged structs. The first report is `Hello`, the first command is `Load`;
after `Loaded` any number of requests run at once. A request's events come in
the order of `server.core.events`, many requests' events in one frame.
"""

from typing import Any

import msgspec
from msgspec import Struct

from server.core.errors import ErrorInfo
from server.core.events import Embeddings, Event
from server.core.requests import Embed, Generate, Inquiry, InquiryResult
from server.seal.attempts import Attempt
from server.seal.layers import Layers
from server.seal.level import Level

PROTOCOL = 2
"""Raised with every change of this file that an older peer cannot read."""


class Load(Struct, frozen=True, tag="load"):
    """Load a model; sent once, before anything else.

    Args:
        instance_id: The name that reports carry.
        paths: All shards in order, as the file system spells them.
        embedding: Whether to serve `RunEmbed` instead of `RunGenerate`.
        n_ctx: Most tokens one request may use.
        n_cells: Tokens that the unified KV cache holds for all sequences.
        parallel: Most sequences computed at once.
        n_gpu_layers: Layers to put on a GPU; None means all, if there is one.
        n_threads: Compute threads.
        shelf_bytes: Memory for finished prefixes outside the KV cache.
        kv_token_bytes: What a token takes in the KV cache.
        kv_state_bytes: What a sequence takes whatever its length.
        sampling: The model's own defaults by the names of `SamplerSettings`,
            checked.
    """

    instance_id: str
    paths: tuple[bytes, ...]
    embedding: bool
    n_ctx: int
    n_cells: int
    parallel: int
    n_threads: int
    n_gpu_layers: int | None = None
    shelf_bytes: int = 0
    kv_token_bytes: int = 0
    kv_state_bytes: int = 0
    sampling: dict[str, Any] = {}


class RunGenerate(Struct, frozen=True, tag="generate"):
    """Start a generation; its events follow until `Finished` or `Failed`."""

    request: Generate


class RunEmbed(Struct, frozen=True, tag="embed"):
    """Compute embeddings; `Embedded` or a `Failed` event follows."""

    request: Embed


class RunInquiry(Struct, frozen=True, tag="inquire"):
    """Answer a question about text; `Answered` or a `Failed` event follows.

    It is answered beside the loop, at once, whatever is being generated.
    """

    request: Inquiry


class Cancel(Struct, frozen=True, tag="cancel"):
    """Forget a request; nothing more is reported of it."""

    request_id: str


class Inspect(Struct, frozen=True, tag="inspect"):
    """Ask for `Stats`."""


class Stop(Struct, frozen=True, tag="stop"):
    """End the process; running requests are lost."""


Command = Load | RunGenerate | RunEmbed | RunInquiry | Cancel | Inspect | Stop


class Hello(Struct, frozen=True, tag="hello"):
    """The worker is alive, sealed as it says, and its native library is loaded."""

    protocol: int
    pid: int
    engine: str
    seal: Layers = Layers(Level.OFF)


class LoadProgress(Struct, frozen=True, tag="load_progress"):
    """Loading has come so far, from 0.0 to 1.0."""

    done: float


class Loaded(Struct, frozen=True, tag="loaded"):
    """The model is ready. The counts are what llama.cpp really uses."""

    n_ctx: int
    n_vocab: int
    load_s: float


class LoadFailed(Struct, frozen=True, tag="load_failed"):
    """The model could not be loaded; the worker ends after this."""

    error: ErrorInfo


class RequestEvent(Struct, frozen=True, array_like=True):
    """An event and the request it belongs to."""

    request_id: str
    event: Event


class Events(Struct, frozen=True, tag="events"):
    """What one step brought, for all requests."""

    items: tuple[RequestEvent, ...]


class Embedded(Struct, frozen=True, tag="embedded"):
    """The answer to `RunEmbed`."""

    request_id: str
    result: Embeddings


class Answered(Struct, frozen=True, tag="answered"):
    """The answer to `RunInquiry`."""

    request_id: str
    result: InquiryResult


class Stats(Struct, frozen=True, tag="stats"):
    """The state of the loop, for tests and metrics.

    `n_retained` sequences are finished and kept as reusable prefixes.
    """

    n_running: int
    n_waiting: int
    n_retained: int
    n_free_cells: int
    n_cells: int
    n_decoded_tokens: int
    n_prefilled_tokens: int
    n_preemptions: int
    prefill_chunk_tokens: int
    prefill_token_s: float


Report = (
    Hello
    | LoadProgress
    | Loaded
    | LoadFailed
    | Events
    | Embedded
    | Answered
    | Stats
    | Attempt
)

_encoder = msgspec.msgpack.Encoder()
_command_decoder = msgspec.msgpack.Decoder(Command)
_report_decoder = msgspec.msgpack.Decoder(Report)


def encode_message(message: Command | Report) -> bytes:
    """Encode a message as msgpack."""
    return _encoder.encode(message)


def decode_command(payload: bytes) -> Command:
    """Decode what the parent sent.

    Raises:
        msgspec.DecodeError: The payload is no command of this protocol.
    """
    command: Command = _command_decoder.decode(payload)
    return command


def decode_report(payload: bytes) -> Report:
    """Decode what a worker sent.

    Raises:
        msgspec.DecodeError: The payload is no report of this protocol.
    """
    report: Report = _report_decoder.decode(payload)
    return report

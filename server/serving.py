"""The running server: catalog, engine, app and socket put together.

Start: check the home, look for models, bind the socket, say what there is,
serve. Stop (SIGTERM, Ctrl-C): refuse new work, let running answers end within
the grace time, end the rest with an error their clients can read, unload every
model, exit. A second Ctrl-C skips the waiting.
"""

import asyncio
import errno
import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import psutil
import uvicorn
from fastapi import FastAPI

from model_store.catalog import Catalog
from server.app import create_app
from server.config import Settings
from server.core.errors import ShuttingDown
from server.engine.client import Client
from server.engine.memory import GIB, read_available_bytes
from server.engine.pool import Pool, PoolSettings
from server.logs import configure_logging

_log = logging.getLogger(__name__)

_POLL_S = 0.05
_LISTED_MODELS = 20
_BACKLOG = 2048

_STOPPING = "The server is stopping. Try again once it is back."


class StartError(Exception):
    """The server cannot start; the text says why and what to do."""


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or Ctrl-C.

    Returns:
        The exit code: 0 after a clean stop, 1 if the server could not start.
    """
    configure_logging(settings.log_level)
    try:
        directories = _prepare_directories(settings)
        catalog = Catalog(directories)
        catalog.refresh()
        listener = _bind(settings.host, settings.port)
    except StartError as error:
        print(f"cloister: {error}", file=sys.stderr)  # noqa: T201 - for a person
        return 1
    with listener:
        asyncio.run(_run(settings, catalog, directories, listener))
    return 0


async def _run(
    settings: Settings,
    catalog: Catalog,
    directories: Sequence[Path],
    listener: socket.socket,
) -> None:
    pool = Pool(_pool_settings(settings))
    client = Client(catalog, pool)
    app = create_app(
        engine=client,
        max_body_bytes=settings.max_body_bytes,
        # The pool ends running answers first; this is for what it cannot see.
        shutdown_grace_s=settings.shutdown_grace_s + 1.0,
    )
    _greet(catalog, directories, listener)
    server = _Server(app, pool, settings)
    await server.serve(sockets=[listener])
    await pool.close(ShuttingDown(_STOPPING))


class _Server(uvicorn.Server):
    """uvicorn's server with an orderly end for running answers."""

    def __init__(self, app: FastAPI, pool: Pool, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="on",
                server_header=False,
                timeout_graceful_shutdown=2,
            )
        )
        self._pool = pool
        self._grace_s = settings.shutdown_grace_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Stop in order; the second signal skips the waiting.

        uvicorn's own would remember the signal and raise it again at the end:
        the process would die of it instead of exiting with code 0.
        """
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let running answers end, then end the others, then close."""
        self._pool.refuse_new()
        deadline_s = asyncio.get_running_loop().time() + self._grace_s
        while self._pool.n_leases and not self.force_exit:
            if asyncio.get_running_loop().time() > deadline_s:
                _log.warning("%d answers did not end in time", self._pool.n_leases)
                break
            await asyncio.sleep(_POLL_S)
        await self._pool.close(ShuttingDown(_STOPPING))
        await super().shutdown(sockets)


def _pool_settings(settings: Settings) -> PoolSettings:
    return PoolSettings(
        parallel=settings.parallel,
        n_ctx=settings.context_length,
        n_threads=settings.threads or count_cores(),
        n_gpu_layers=settings.gpu_layers,
        ttl_s=settings.ttl_s,
        read_available_bytes=read_available_bytes,
        memory_limit_bytes=settings.memory_limit_bytes,
    )


def count_cores() -> int:
    """Count the physical cores that this process may use, at least 1."""
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return max(1, min(physical, len(os.sched_getaffinity(0))))
    return physical


def _prepare_directories(settings: Settings) -> tuple[Path, ...]:
    """Make the home and find the models directories.

    Raises:
        StartError: The home cannot be written, or a directory does not exist.
    """
    own = settings.home / "models"
    try:
        own.mkdir(parents=True, exist_ok=True)
        if not os.access(settings.home, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise StartError(
            f"the home folder {settings.home} cannot be used ({error.strerror}). "
            "Make it writable, or choose another one with --home."
        ) from error
    for directory in settings.models_dir:
        if not directory.is_dir():
            raise StartError(
                f"the models folder {directory} does not exist. Check --models-dir."
            )
        if not os.access(directory, os.R_OK | os.X_OK):
            raise StartError(
                f"the models folder {directory} cannot be read. Give this user read "
                "permission, or choose another one with --models-dir."
            )
    return settings.models_dir or (own,)


def _bind(host: str, port: int) -> socket.socket:
    """Bind the listening socket.

    Raises:
        StartError: The address is taken, not ours, or not an address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise StartError(_explain_bind(host, port, error)) from error
    listener.setblocking(False)  # noqa: FBT003
    return listener


def _explain_bind(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is in use by another program (LM Studio, or "
            "another cloister?). Stop it, or choose another port with --port."
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs privileges. Choose one above 1023 with --port."
    return (
        f"cannot listen on {host} port {port}: {error.strerror or error}. Give an "
        "address of this machine with --host, such as 127.0.0.1."
    )


def _greet(
    catalog: Catalog,
    directories: Sequence[Path],
    listener: socket.socket,
) -> None:
    """Print where the server listens, what it serves and what to try."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}"
    models = catalog.models()
    lines = [f"Cloister listens on {url}  (OpenAI API at {url}/v1)"]
    lines += [f"Models in {directory}" for directory in directories]
    for model in models[:_LISTED_MODELS]:
        kind = "embedding" if model.is_embedding else "llm"
        size = f"{model.size_bytes / GIB:.2f} GiB"
        lines.append(f"  {model.id}  ({kind}, {model.quantization or '?'}, {size})")
    if len(models) > _LISTED_MODELS:
        lines.append(f"  and {len(models) - _LISTED_MODELS} more: GET {url}/v1/models")
    lines += [f"  not served: {broken.reason}" for broken in catalog.broken()]
    lines += [f"  note: {note}" for note in catalog.notes()]
    lines += _suggest(url, catalog, directories)
    print("\n".join(lines), flush=True)  # noqa: T201 - for a person


def _suggest(url: str, catalog: Catalog, directories: Sequence[Path]) -> list[str]:
    """Name the next step: a request to try, or where to put a model."""
    models = catalog.models()
    if not models:
        target = directories[0] / "publisher" / "repository" / "model.gguf"
        hint = (
            f"  none yet: copy a GGUF file to {target}, it is served at once, or "
            "start with --models-dir DIR."
        )
        return [hint]
    chat = [model for model in models if not model.is_embedding]
    model = (chat or models)[0]
    path, field = (
        ("chat/completions", '"messages":[{"role":"user","content":"Hello"}]')
        if chat
        else ("embeddings", '"input":"Hello"')
    )
    return [
        "Try:",
        f"  curl {url}/v1/{path} -H 'Content-Type: application/json' \\",
        f'    -d \'{{"model":"{model.id}",{field}}}\'',
    ]

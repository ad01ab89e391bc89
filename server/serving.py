"""The running server: catalog, engine, app and socket put together.

Start: check the home, look for models, bind the socket, say what there is,
serve. Stop (SIGTERM, Ctrl-C): refuse new work, let running answers end within
the grace time, end the rest with an error their clients can read, unload every
model, exit. A second Ctrl-C skips the waiting.
"""

import asyncio
import errno
import logging
import math
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import psutil
import uvicorn
from fastapi import FastAPI

from model_store import builtin
from model_store.catalog import Catalog, StoredModel
from model_store.layout import Store
from server.app import create_app
from server.config import Settings
from server.core.errors import ShuttingDown
from server.engine import models_file
from server.engine.client import Client
from server.engine.guard import LoadGuard
from server.engine.memory import GIB, read_available_bytes
from server.engine.pool import Pool, PoolSettings
from server.engine.queue_limit import QueueLimit
from server.listening import (
    StartError,
    describe_endpoint,
    listen,
    remove_unix_socket,
)
from server.seal.apply import Seal
from server.seal.level import Level
from server.security.connections import bound_protocol
from server.security.door import Door, describe_access, make_door

_log = logging.getLogger(__name__)

_POLL_S = 0.05
_LISTED_MODELS = 20

_STOPPING = "The server is stopping. Try again once it is back."


def serve(settings: Settings, listener: socket.socket, seal: Seal) -> int:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        settings: How.
        listener: A bound socket; it is closed in the end.
        seal: What is in force in this process.

    Returns:
        The exit code: 0 after a clean stop, 1 if the server could not start.
    """
    try:
        directories = _prepare_directories(settings)
        catalog = Catalog(directories)
        catalog.refresh()
        guard = LoadGuard(settings.verify, Store(settings.home))
        if settings.verify == "start" and not guard.verify_all(catalog.models(), _tell):
            catalog.refresh()
        _warn_of_models_file(settings.home / models_file.FILE_NAME, catalog)
        door = make_door(settings, listener)
        listen(listener)
    except StartError as error:
        print(f"cloister: {error}", file=sys.stderr)  # noqa: T201 - for a person
        remove_unix_socket(settings.unix_socket)
        return 1
    with listener:
        try:
            asyncio.run(_run(settings, catalog, guard, directories, door, seal))
        finally:
            remove_unix_socket(settings.unix_socket)
    return 0


async def _run(
    settings: Settings,
    catalog: Catalog,
    guard: LoadGuard,
    directories: Sequence[Path],
    door: Door,
    seal: Seal,
) -> None:
    pool = Pool(_pool_settings(settings, guard, seal))
    client = Client(catalog, pool, QueueLimit(settings.parallel, settings.max_queue))
    app = create_app(
        engine=client,
        seal=seal,
        guard=door.guard,
        max_body_bytes=settings.max_body_bytes,
        # The pool ends running answers first; this is for what it cannot see.
        shutdown_grace_s=settings.shutdown_grace_s + 1.0,
    )
    _greet(catalog, directories, door, seal)
    server = _Server(app, pool, settings, door)
    await server.serve(sockets=[door.listener])
    await pool.close(ShuttingDown(_STOPPING))


class _Server(uvicorn.Server):
    """uvicorn's server with an orderly end for running answers."""

    def __init__(
        self, app: FastAPI, pool: Pool, settings: Settings, door: Door
    ) -> None:
        limits, tls = door.guard.limits, door.tls
        super().__init__(
            uvicorn.Config(
                app,
                http=bound_protocol(limits),
                log_config=None,
                access_log=False,
                lifespan="on",
                proxy_headers=False,  # whoever asks could claim any address
                server_header=False,
                ssl_context_factory=(lambda *_: tls) if tls else None,
                timeout_graceful_shutdown=2,
                timeout_keep_alive=math.ceil(limits.idle_timeout_s),
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


def _tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - for a person


def _warn_of_models_file(path: Path, catalog: Catalog) -> None:
    names = [name for model in catalog.entries() for name in (model.id, *model.aliases)]
    for warning in models_file.check_models_file(path, names):
        print(f"cloister: {warning}", file=sys.stderr)  # noqa: T201 - for a person


def _pool_settings(settings: Settings, guard: LoadGuard, seal: Seal) -> PoolSettings:
    return PoolSettings(
        parallel=settings.parallel,
        n_ctx=settings.context_length,
        n_threads=settings.threads or count_cores(),
        n_gpu_layers=settings.gpu_layers,
        ttl_s=settings.ttl_s,
        read_available_bytes=read_available_bytes,
        memory_limit_bytes=settings.memory_limit_bytes,
        admit=guard.admit,
        models_file=settings.home / models_file.FILE_NAME,
        seal_workers="required" if seal.level is Level.KERNEL else "best",
        on_blocked=seal.log.record,
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
    if not settings.builtin:
        return settings.models_dir
    if not builtin.is_present():
        _log.warning(
            "the built-in model is missing: there is no %s in %s. Install Cloister "
            "again, or start with --no-builtin.",
            builtin.MODEL_NAME,
            builtin.DIRECTORY,
        )
        return settings.models_dir
    # Last, so that it never hides a file of the user's.
    return (*settings.models_dir, builtin.DIRECTORY)


def _greet(
    catalog: Catalog, directories: Sequence[Path], door: Door, seal: Seal
) -> None:
    """Print where the server listens, what it serves and what to try."""
    endpoint = describe_endpoint(door.listener, tls=door.tls is not None)
    url, curl = endpoint.url, endpoint.curl
    if door.guard.access.asks():
        curl = curl.replace("curl", 'curl -H "Authorization: Bearer $TOKEN"', 1)
    models = catalog.models()
    lines = [
        f"Cloister listens on {endpoint.shown}  (OpenAI API at {url}/v1)",
        describe_access(door.guard.access),
        f"Offline seal: {seal.level.meaning}",
    ]
    lines += [
        f"Models in {directory}"
        for directory in directories
        if directory != builtin.DIRECTORY
    ]
    lines += [_describe(model) for model in models[:_LISTED_MODELS]]
    if len(models) > _LISTED_MODELS:
        lines.append(f"  and {len(models) - _LISTED_MODELS} more: GET {url}/v1/models")
    lines += [f"  not served: {broken.reason}" for broken in catalog.broken()]
    lines += [f"  note: {note}" for note in catalog.notes()]
    lines += _suggest(curl, catalog, directories)
    print("\n".join(lines), flush=True)  # noqa: T201 - for a person


def _describe(model: StoredModel) -> str:
    kind = "embedding" if model.is_embedding else "llm"
    size = f"{model.size_bytes / GIB:.2f} GiB"
    origin = ", built in" if _is_builtin(model) else ""
    return f"  {model.id}  ({kind}, {model.quantization or '?'}, {size}{origin})"


def _is_builtin(model: StoredModel) -> bool:
    return model.paths[0].parent == builtin.DIRECTORY


def _suggest(curl: str, catalog: Catalog, directories: Sequence[Path]) -> list[str]:
    """Name the next step: a request to try, or where to put a model."""
    models = catalog.models()
    own = [model for model in models if not _is_builtin(model)]
    target = directories[0] / "publisher" / "repository" / "model.gguf"
    hint = (
        f"copy a GGUF file to {target}, it is served at once, or start with "
        "--models-dir DIR."
    )
    if not models:
        return [f"  none yet: {hint}"]
    lines = [] if own else [f"To add models of your own: {hint}"]
    # Whoever has models wants to try those; embedding is for who has no other.
    chat = [model for model in own or models if not model.is_embedding]
    model = (chat or own)[0]
    question = "Who are you?" if _is_builtin(model) else "Hello"
    path, field = (
        ("chat/completions", f'"messages":[{{"role":"user","content":"{question}"}}]')
        if chat
        else ("embeddings", '"input":"Hello"')
    )
    return [
        *lines,
        "Try:",
        f"  {curl}/v1/{path} -H 'Content-Type: application/json' \\",
        f'    -d \'{{"model":"{model.id}",{field}}}\'',
    ]

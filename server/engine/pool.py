"""Which models are loaded: the one writer of every instance's life.

Theory
------
    absent ──lease──▶ loading ──▶ ready ⇄ busy
                         │          │
                         ▼          ▼ idle for too long, wanted memory, stop
                       failed     stopping ──▶ absent
                                    ▲
    a worker that dies goes straight to absent

Nobody asks for a state and then acts on it: a request calls `lease`, which
either returns a ready worker that cannot be unloaded while the lease lasts,
or raises. Rules, and who wins:

* Requests for a model that is loading wait for that one load, however many
  they are. A client that leaves does not stop a load that others may want.
* Loads go one after another: two at once would both count the same free
  memory as theirs.
* An instance with a lease is never unloaded. If memory is short, idle ones go,
  longest unused first; if that is not enough the new one is refused.
* A lease and an unload of the same instance exclude each other, because both
  happen between two awaits on one thread: `_take` marks it used, `_retire`
  takes it out of the table first and stops it afterwards.
"""

import asyncio
import logging
import os
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_store.catalog import StoredModel
from server.core.errors import InsufficientMemory, ServerError, ShuttingDown
from server.core.models import InstanceInfo
from server.engine.child import Sealing
from server.engine.memory import Sizes, choose_sizes, measure_sequence
from server.engine.models_file import read_defaults
from server.engine.process import WorkerProcess
from server.ipc.messages import Load
from server.seal.attempts import Attempt
from server.seal.layers import WorkerSeal

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How instances are loaded and kept.

    Args:
        parallel: Requests of one instance computed at once.
        n_ctx: Context length in tokens; None chooses for each model.
        n_threads: Compute threads of each worker.
        n_gpu_layers: Layers on a GPU; None means all, if there is one.
        ttl_s: Idle seconds until an instance is unloaded; 0 keeps it.
        read_available_bytes: Tells how much memory is free now.
        memory_limit_bytes: What all instances together may take, by their
            estimates; None is what is free.
        admit: Asked before each load, beside other loads; raises a
            `ServerError` where the model must not be loaded. None lets all
            through.
        models_file: What the operator says about single models; None says
            nothing.
        seal_workers: Whether workers must have the kernel's seal.
        on_blocked: Told of what the seal of a worker blocked.
    """

    parallel: int
    n_ctx: int | None
    n_threads: int
    n_gpu_layers: int | None
    ttl_s: float
    read_available_bytes: Callable[[], int]
    memory_limit_bytes: int | None = None
    admit: Callable[[StoredModel], Awaitable[None]] | None = None
    models_file: Path | None = None
    seal_workers: WorkerSeal = "best"
    on_blocked: Callable[[Attempt], None] | None = None


@dataclass(slots=True)
class Instance:
    """One loaded copy of a model."""

    info: InstanceInfo
    process: WorkerProcess
    size_bytes: int
    n_leases: int = 0
    last_used_s: float = field(default_factory=time.monotonic)
    expiry: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class _Loading:
    """A load that requests wait for."""

    task: asyncio.Task[Instance]
    done: float = 0.0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Pool:
    """Loads, lends and unloads model instances."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._ready: dict[str, Instance] = {}
        self._loading: dict[str, _Loading] = {}
        self._load_lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def instances(self, model_id: str) -> tuple[InstanceInfo, ...]:
        """List the loaded copies of a model; for reports only."""
        instance = self._ready.get(model_id)
        return () if instance is None else (instance.info,)

    def processes(self) -> dict[str, WorkerProcess]:
        """Map instance ids to their workers; for reports only."""
        return {key: instance.process for key, instance in self._ready.items()}

    async def watch_load(self, model: StoredModel) -> AsyncGenerator[float]:
        """Load a model unless it is ready.

        Yields:
            How far the load has come, 0.0 to 1.0, whenever that changes.
            Ends when the model is ready.

        Raises:
            ServerError: The load failed, or the server is stopping.
        """
        if model.id in self._ready:
            return
        loading = self._begin(model)
        while not loading.task.done():
            loading.changed.clear()
            yield loading.done
            waiter = asyncio.create_task(loading.changed.wait())
            try:
                await asyncio.wait(
                    (waiter, loading.task), return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                waiter.cancel()
        if not loading.task.cancelled():
            # A `lease` would not know of a failure and load once more.
            loading.task.result()

    @asynccontextmanager
    async def lease(self, model: StoredModel) -> AsyncGenerator[Instance]:
        """Lend a ready instance, loading it first if it must be.

        Raises:
            ServerError: The load failed; `InsufficientMemory`,
                `ModelLoadFailed` and `ShuttingDown` among its kinds.
        """
        while (instance := self._take(model.id)) is None:
            task = self._begin(model).task
            # Leaving does not stop the load; a stopped load is no leaving.
            await asyncio.wait((task,))
            if not task.cancelled():
                task.result()
        try:
            yield instance
        finally:
            self._give_back(instance)

    @property
    def n_leases(self) -> int:
        """Requests that hold an instance now; for reports and stopping."""
        return sum(instance.n_leases for instance in self._ready.values())

    def refuse_new(self) -> None:
        """Let running requests go on and refuse every new one."""
        self._closing = True

    async def close(self, reason: ServerError) -> None:
        """Unload everything; requests that still run end with `reason`."""
        self._closing = True
        for loading in list(self._loading.values()):
            loading.task.cancel()
        await asyncio.gather(
            *(loading.task for loading in self._loading.values()),
            return_exceptions=True,
        )
        instances = list(self._ready.values())
        self._ready.clear()
        for instance in instances:
            self._cancel_expiry(instance)
        await asyncio.gather(*(i.process.stop(reason) for i in instances))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Lending

    def _take(self, model_id: str) -> Instance | None:
        if self._closing:
            raise ShuttingDown("The server is stopping. Try again once it is back.")
        instance = self._ready.get(model_id)
        if instance is None or instance.process.has_died():
            return None
        self._cancel_expiry(instance)
        instance.n_leases += 1
        return instance

    def _give_back(self, instance: Instance) -> None:
        instance.n_leases -= 1
        instance.last_used_s = time.monotonic()
        self._plan_expiry(instance)

    def _plan_expiry(self, instance: Instance) -> None:
        is_current = self._ready.get(instance.info.id) is instance
        if instance.n_leases == 0 and self._settings.ttl_s > 0 and is_current:
            loop = asyncio.get_running_loop()
            instance.expiry = loop.call_later(
                self._settings.ttl_s, self._expire, instance
            )

    def _cancel_expiry(self, instance: Instance) -> None:
        if instance.expiry is not None:
            instance.expiry.cancel()
            instance.expiry = None

    def _expire(self, instance: Instance) -> None:
        _log.info(
            "%s was idle for %g s: unloaded", instance.info.id, self._settings.ttl_s
        )
        self._spawn(self._retire(instance))

    async def _retire(self, instance: Instance) -> None:
        """Take an idle instance out and stop it."""
        if instance.n_leases:
            return  # lent between the timer and this task
        self._cancel_expiry(instance)
        if self._ready.get(instance.info.id) is instance:
            del self._ready[instance.info.id]
        await instance.process.stop()

    # Loading

    def _begin(self, model: StoredModel) -> _Loading:
        """Join the load of a model, or start it."""
        if self._closing:
            raise ShuttingDown("The server is stopping. Try again once it is back.")
        loading = self._loading.get(model.id)
        if loading is None:
            task = asyncio.create_task(self._load(model), name=f"load {model.id}")
            loading = self._loading[model.id] = _Loading(task)
            task.add_done_callback(lambda task: self._end_load(model.id, task))
        return loading

    def _end_load(self, model_id: str, task: asyncio.Task[Instance]) -> None:
        loading = self._loading.pop(model_id)
        loading.changed.set()
        # Told here, since the clients that waited may all have left.
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("%s is not loaded: %s", model_id, error)

    async def _load(self, model: StoredModel) -> Instance:
        if self._settings.admit is not None:
            # Before the lock: it may read the whole file, which others need not
            # wait for.
            await self._settings.admit(model)
        sampling = await asyncio.to_thread(
            read_defaults, model, self._settings.models_file
        )
        async with self._load_lock:
            sizes = await self._make_room(model)
            load = self._describe(model, sizes, sampling)
            process = await WorkerProcess.spawn(
                Sealing(
                    self._settings.seal_workers,
                    load.paths,
                    self._settings.on_blocked,
                )
            )
            begin_s = time.monotonic()
            try:
                loaded = await process.load(
                    load,
                    lambda done: self._note_progress(model.id, done),
                )
            except BaseException:
                process.kill()
                # The next load must find its memory free.
                await process.gone.wait()
                raise
            _log.info(
                "%s is ready after %.1f s: context %d tokens, %d in parallel",
                model.id,
                time.monotonic() - begin_s,
                loaded.n_ctx,
                self._settings.parallel,
            )
            info = InstanceInfo(model.id, loaded.n_ctx, self._settings.parallel)
            instance = Instance(info, process, sizes.estimate.total_bytes)
            self._ready[model.id] = instance
            self._spawn(self._watch(instance))
            self._plan_expiry(instance)
            return instance

    async def _make_room(self, model: StoredModel) -> Sizes:
        """Find sizes that fit, unloading idle instances if they must go."""
        while True:
            try:
                return choose_sizes(
                    model.summary,
                    name=model.id,
                    n_ctx=self._settings.n_ctx,
                    parallel=self._settings.parallel,
                    available_bytes=self._count_available_bytes(),
                )
            except InsufficientMemory:
                victim = pick_idle(list(self._ready.values()))
                if victim is None:
                    raise
                _log.info("%s is unloaded to make room", victim.info.id)
                await self._retire(victim)

    def _count_available_bytes(self) -> int:
        available_bytes = self._settings.read_available_bytes()
        limit_bytes = self._settings.memory_limit_bytes
        if limit_bytes is None:
            return available_bytes
        taken_bytes = sum(i.size_bytes for i in self._ready.values())
        return max(0, min(available_bytes, limit_bytes - taken_bytes))

    def _describe(
        self, model: StoredModel, sizes: Sizes, sampling: dict[str, Any]
    ) -> Load:
        token_bytes, state_bytes = measure_sequence(model.summary)
        return Load(
            instance_id=model.id,
            paths=tuple(os.fsencode(path) for path in model.paths),
            embedding=model.is_embedding,
            n_ctx=sizes.n_ctx,
            n_cells=sizes.n_cells,
            parallel=self._settings.parallel,
            n_threads=self._settings.n_threads,
            n_gpu_layers=self._settings.n_gpu_layers,
            shelf_bytes=sizes.shelf_bytes,
            kv_token_bytes=token_bytes,
            kv_state_bytes=state_bytes,
            sampling=sampling,
        )

    def _note_progress(self, model_id: str, done: float) -> None:
        loading = self._loading.get(model_id)
        if loading is not None:
            loading.done = done
            loading.changed.set()

    async def _watch(self, instance: Instance) -> None:
        """Forget an instance whose worker died."""
        await instance.process.gone.wait()
        if self._ready.get(instance.info.id) is instance:
            self._cancel_expiry(instance)
            del self._ready[instance.info.id]

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def pick_idle(instances: Sequence[Instance]) -> Instance | None:
    """Choose what to unload first: of the idle ones the longest unused."""
    idle = [instance for instance in instances if instance.n_leases == 0]
    return min(idle, key=lambda instance: instance.last_used_s, default=None)

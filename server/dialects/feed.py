"""Several generations, read as one stream, with nothing left running behind.

A `Feed` drives each engine generator in a task of its own, because waiting
for an event must be able to time out (heartbeats) or be abandoned (the client
left) without cancelling the generation's own wait. Events that arrived
together are handed over together, so a busy stream costs one write for many.

Who wins when things collide: leaving the `Feed` always ends with every
generator closed, whether it was entered, half read or failed. A slow client
stops its generators, not the server: a full feed makes them wait.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar

from server.core.errors import EngineFailed, ReportedError
from server.core.events import Event, Failed, Started
from server.core.fold import Fold

CAPACITY = 1024
"""Events that may wait in a feed before its generators do."""

MAX_RUNNING = 32
"""Generations of one feed that run at once; the others start as these end."""


T = TypeVar("T")


class ClientGone(Exception):
    """The client closed its connection before the answer was complete."""


class Feed:
    """Merges the events of several generations.

    Use as an asynchronous context manager, or call `aclose`.

    Args:
        sources: Generators not yet started. An event of the i-th is handed
            over as `(i, event)`; events of one source stay in order.
        capacity: Events that may wait before the generators do.
        max_running: Sources that run at once.

    Attributes:
        n_sources: How many sources there are.
        n_running: How many of them run from the start.
    """

    def __init__(
        self,
        sources: Sequence[AsyncGenerator[Event]],
        *,
        capacity: int = CAPACITY,
        max_running: int = MAX_RUNNING,
    ) -> None:
        self._capacity = capacity
        self._waiting: deque[tuple[int, Event]] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._slots = asyncio.Semaphore(max_running)
        self.n_sources = len(sources)
        self.n_running = min(len(sources), max_running)
        self._tasks = [
            asyncio.create_task(self._pump(number, source))
            for number, source in enumerate(sources)
        ]
        for task in self._tasks:
            task.add_done_callback(lambda _: self._changed.set())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    @property
    def finished(self) -> bool:
        """Whether every source has ended well and nothing waits to be taken."""
        return not self._waiting and all(
            task.done() and (task.cancelled() or task.exception() is None)
            for task in self._tasks
        )

    async def take(self, timeout_s: float | None = None) -> list[tuple[int, Event]]:
        """Hand over what has arrived, waiting for the first event.

        Args:
            timeout_s: How long to wait; None waits for ever.

        Returns:
            Events with the number of their source, in order of arrival. Empty
            after the timeout and once the feed is finished.

        Raises:
            Exception: Whatever a source raised, after the events before it.
        """
        if not self._waiting:
            deadline = asyncio.timeout(timeout_s)
            try:
                async with deadline:
                    await self._wait()
            except TimeoutError:
                if not deadline.expired():
                    raise  # a source's own
        taken = list(self._waiting)
        self._waiting.clear()
        self._room.set()
        return taken

    async def aclose(self) -> None:
        """End every source and wait until it has cleaned up."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for task in self._tasks:
            if not task.cancelled():
                task.exception()  # seen here, so that asyncio does not warn

    async def _wait(self) -> None:
        """Wait until an event waits or none will come; raise a source's error."""
        while not self._waiting and not self.finished:
            for task in self._tasks:
                if task.done() and not task.cancelled():
                    task.result()
            # Nothing ran since these checks, so no change can be lost here.
            self._changed.clear()
            await self._changed.wait()

    async def _pump(self, number: int, source: AsyncGenerator[Event]) -> None:
        async with aclosing(source), self._slots:
            async for event in source:
                self._waiting.append((number, event))
                self._changed.set()
                if len(self._waiting) >= self._capacity:
                    self._room.clear()
                    await self._room.wait()


async def start(feed: Feed) -> list[tuple[int, Event]]:
    """Wait until every generation that runs has been accepted.

    Returns:
        All events up to then, in order of arrival.

    Raises:
        ReportedError: A generation failed.
        EngineFailed: A generation ended without a result.
    """
    events: list[tuple[int, Event]] = []
    started: set[int] = set()
    while len(started) < feed.n_running:
        taken = await feed.take()
        if not taken:
            raise no_result()
        for number, event in taken:
            if isinstance(event, Started):
                started.add(number)
            elif isinstance(event, Failed):
                raise ReportedError(event.error)
        events += taken
    return events


async def collect(feed: Feed, *, n: int) -> tuple[Fold, ...]:
    """Fold every generation to its end.

    Args:
        feed: Where the events come from.
        n: Choices of each generation.

    Returns:
        One finished fold for each source, in their order.

    Raises:
        ReportedError: A generation failed.
        EngineFailed: A generation ended without a result.
    """
    folds = tuple(Fold(n) for _ in range(feed.n_sources))
    while not feed.finished:
        for number, event in await feed.take():
            if isinstance(event, Failed):
                raise ReportedError(event.error)
            folds[number].add(event)
    if not all(fold.ended for fold in folds):
        raise no_result()
    return folds


def no_result() -> EngineFailed:
    """Describe a generation whose events stopped before their end."""
    return EngineFailed(
        "The engine ended this generation without a result. Send the request again."
    )


async def until_disconnect(
    receive: Callable[[], Awaitable[Any]], work: Coroutine[Any, Any, T]
) -> T:
    """Run `work`, but cancel it as soon as the client leaves.

    Args:
        receive: The ASGI channel of a request whose body was read.
        work: What to run.

    Raises:
        ClientGone: The client left first; `work` was cancelled and has ended.
        Exception: Whatever `work` raised.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnect(receive))
    both: set[asyncio.Task[Any]] = {working, leaving}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        for task in both:
            task.cancel()
        await asyncio.wait(both)
        for task in both:
            if not task.cancelled():
                task.exception()  # seen here, so that asyncio does not warn


async def _disconnect(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

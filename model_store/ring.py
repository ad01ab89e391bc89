"""A ring of buffers between one reader and several workers.

The reader takes an empty block, fills it and gives it to all workers; it
becomes empty again when the last of them is done with it. So the slowest
worker sets the pace, and memory does not grow.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Final

N_BUFFERS: Final = 6


class Block:
    """One buffer of the ring; `users` workers still need its content."""

    def __init__(self, size_bytes: int) -> None:
        self.buffer = memoryview(bytearray(size_bytes))
        self.size = 0
        self.users = 0


class Ring:
    """The buffers and the workers that empty them.

    A worker that fails keeps its error and goes on taking blocks without
    looking at them, so nobody waits for a buffer for ever.

    Args:
        jobs: One for each worker; called with the filled part of each block,
            in order.
        block_bytes: Length of a buffer.
    """

    def __init__(
        self, jobs: Sequence[Callable[[memoryview], None]], block_bytes: int
    ) -> None:
        self._free: queue.SimpleQueue[Block] = queue.SimpleQueue()
        for _ in range(N_BUFFERS):
            self._free.put(Block(block_bytes))
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []
        self._queues: list[queue.SimpleQueue[Block | None]] = []
        self._threads: list[threading.Thread] = []
        for job in jobs:
            blocks: queue.SimpleQueue[Block | None] = queue.SimpleQueue()
            self._queues.append(blocks)
            self._threads.append(
                threading.Thread(target=self._work, args=(job, blocks), daemon=True)
            )

    def start(self) -> None:
        """Start the workers."""
        for thread in self._threads:
            thread.start()

    def take(self) -> Block:
        """Wait for an empty buffer; raise what a worker raised."""
        block = self._free.get()
        self._raise_first()
        return block

    def give(self, block: Block) -> None:
        """Hand a filled block to all workers."""
        block.users = len(self._queues)
        for blocks in self._queues:
            blocks.put(block)

    def join(self) -> None:
        """Let the workers finish what they have, and end them."""
        for blocks in self._queues:
            blocks.put(None)
        for thread in self._threads:
            thread.join()

    def finish(self) -> None:
        """End the workers; raise what one of them raised."""
        self.join()
        self._raise_first()

    def _raise_first(self) -> None:
        if self._errors:
            raise self._errors[0]

    def _work(
        self,
        job: Callable[[memoryview], None],
        blocks: "queue.SimpleQueue[Block | None]",
    ) -> None:
        has_failed = False
        while (block := blocks.get()) is not None:
            if not has_failed:
                try:
                    job(block.buffer[: block.size])
                except BaseException as error:  # noqa: BLE001 - raised by `take`
                    self._errors.append(error)
                    has_failed = True
            with self._lock:
                block.users -= 1
                is_last = not block.users
            if is_last:
                self._free.put(block)

"""How many requests may wait for a model before further ones are turned away.

A queue without an end makes every client wait in vain; one that is told at once
can try again or elsewhere. Counted are the generations of each model, from when
they ask for it until they end: as many as run at once, and so many more.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from server.core.errors import QueueFull


class QueueLimit:
    """Counts the requests of each model.

    Args:
        parallel: Requests of one model that are computed at once.
        max_waiting: Further ones that may wait; None means any number.
    """

    def __init__(self, parallel: int = 1, max_waiting: int | None = None) -> None:
        self._parallel = parallel
        self._max_waiting = max_waiting
        self._n_inside: Counter[str] = Counter()

    @contextmanager
    def enter(self, model_id: str) -> Iterator[None]:
        """Count a request while it waits and runs.

        Raises:
            QueueFull: The limit is reached.
        """
        n_waiting = self._n_inside[model_id] - self._parallel
        if self._max_waiting is not None and n_waiting >= self._max_waiting:
            raise QueueFull(
                f"{self._max_waiting} requests wait for the model '{model_id}' "
                "already, the most allowed. Try again later, or start the server with "
                "a larger --max-queue."
            )
        self._n_inside[model_id] += 1
        try:
            yield
        finally:
            self._n_inside[model_id] -= 1
            if not self._n_inside[model_id]:
                del self._n_inside[model_id]

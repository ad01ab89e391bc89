"""How often and how long a hub is asked again."""

import time
from collections.abc import Callable

from msgspec import Struct

from model_store.hub_errors import HubError


class Patience(Struct, frozen=True):
    """When to give up.

    Attributes:
        attempts: Most tries in a row that bring no new byte.
        first_wait_s: Pause after the first; doubles with each further one.
        most_wait_s: A hub that asks for a longer pause is not waited for.
        timeout_s: Longest silence, when connecting too.
    """

    attempts: int = 5
    first_wait_s: float = 1.0
    most_wait_s: float = 120.0
    timeout_s: float = 20.0


class Pauses:
    """The pauses of one task; counts its failures.

    Args:
        patience: When to give up.
        tell: Told in a sentence why it pauses; None tells nobody.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        patience: Patience,
        tell: Callable[[str], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._patience = patience
        self._tell = tell
        self._sleep = sleep
        self._failures = 0

    def wait(self, error: HubError, *, has_moved: bool = False) -> None:
        """Wait before the next try, or raise the error if there is none.

        Args:
            error: What the last try ended with; `wait_s` of it is honoured.
            has_moved: Whether the last try brought something.

        Raises:
            HubError: `error`, if it will not pass, came too often, or asks for
                too long a pause.
        """
        patience = self._patience
        self._failures = 1 if has_moved else self._failures + 1
        pause_s = patience.first_wait_s * 2.0 ** (self._failures - 1)
        if error.wait_s is not None:
            pause_s = error.wait_s
        if (
            not error.is_passing
            or self._failures >= patience.attempts
            or pause_s > patience.most_wait_s
        ):
            raise error
        if self._tell is not None:
            self._tell(f"{error.reason}; trying again in {pause_s:g} s")
        self._sleep(pause_s)

"""What other threads of a worker put into a loop's inbox."""

from dataclasses import dataclass
from typing import Generic, TypeVar

JobT = TypeVar("JobT")


@dataclass(frozen=True, slots=True)
class Submit(Generic[JobT]):
    """Start a job."""

    job: JobT


@dataclass(frozen=True, slots=True)
class Forget:
    """Cancel a request."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Report `Stats`."""


@dataclass(frozen=True, slots=True)
class Quit:
    """End the loop."""


Message = Submit[JobT] | Forget | Ask | Quit

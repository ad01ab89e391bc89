"""What a sealed process says of its own seal."""

from typing import Literal

from msgspec import Struct

from server.seal.level import Level

WorkerSeal = Literal["required", "best", "off"]
"""How a worker is sealed: the kernel's seal or no worker, as far as the machine
goes, or not at all (tests)."""


class Layers(Struct, frozen=True):
    """What holds in one process.

    Args:
        level: The level in force.
        filter_instructions: Length of the seccomp program; 0 if there is none.
        landlock_abi: Version of Landlock in use; 0 if there is none.
        capabilities: Those that are left; empty for an ordinary user.
        closed: Inherited descriptors that were closed.
        missing: Layers that this machine does not have, and why.
    """

    level: Level
    filter_instructions: int = 0
    landlock_abi: int = 0
    capabilities: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

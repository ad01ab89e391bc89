"""How tight the seal is: three levels, each named, never one taken for another.

    off      no seal was asked for
    process  Python's audit hook alone: it does not hold native code
    kernel   the hook, and a seccomp filter that holds native code and children too

What is asked for on the command line is `--offline` (kernel) or
`--offline=process`; a machine that cannot have the one never gets the other.
"""

from enum import StrEnum


class Level(StrEnum):
    """A level of the seal, loosest first."""

    OFF = "off"
    PROCESS = "process"
    KERNEL = "kernel"

    @property
    def meaning(self) -> str:
        """One sentence for a person."""
        return _MEANINGS[self]


_MEANINGS = {
    Level.OFF: "off: nothing stops an outgoing connection (start with --offline)",
    Level.PROCESS: "process: Python code cannot connect; native code is not held",
    Level.KERNEL: "kernel: no process of this server can open a connection",
}


class SealError(Exception):
    """The seal cannot be had as asked; the text says why and what to do."""

"""Looks at a process from outside: its filters, privileges and descriptors."""

import errno
from pathlib import Path

import psutil

from server.seal.descriptors import describe_process
from server.seal.report import ProcessView


def view_process(pid: int, what: str) -> ProcessView:
    """Look at a process of this user.

    Args:
        pid: Its number.
        what: What it is, for the report.

    Raises:
        OSError: It is gone, or another user's.
    """
    folder = Path(f"/proc/{pid}")
    fields = _read_status(folder / "status")
    modes = tuple(
        int(_read_status(task / "status")["Seccomp"])
        for task in sorted((folder / "task").iterdir(), key=lambda path: int(path.name))
    )
    return ProcessView(
        pid=pid,
        what=what,
        no_new_privileges=fields["NoNewPrivs"] == "1",
        seccomp=modes,
        # Kernels before 5.10 do not count them.
        n_filters=int(fields.get("Seccomp_filters", "0")),
        capabilities=fields["CapEff"],
        descriptors=describe_process(pid),
    )


def list_children(pid: int) -> tuple[int, ...]:
    """List the processes that a process has started and that live.

    Raises:
        OSError: It is gone.
    """
    try:
        children = psutil.Process(pid).children()
    except psutil.NoSuchProcess as error:
        raise ProcessLookupError(errno.ESRCH, f"there is no process {pid}") from error
    return tuple(child.pid for child in children)


def _read_status(path: Path) -> dict[str, str]:
    pairs = (line.partition(":") for line in path.read_text("utf-8").splitlines())
    return {name: value.strip() for name, _, value in pairs}

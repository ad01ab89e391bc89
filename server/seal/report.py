"""The report of the proof, for a person and for a program."""

import os
import platform
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from server import __version__
from server.seal.descriptors import Descriptor
from server.seal.landlock import find_abi
from server.seal.level import Level
from server.seal.proof import MIN_WAYS, Row

NOT_COVERED: Final = (
    "files that the server writes and programs outside the seal read",
    "network file systems: for a file there the kernel talks to another machine",
    "clients: whoever may connect gets answers",
    "other programs of this machine",
)


class ProcessView(Struct, frozen=True):
    """A process of a running server, as the kernel shows it.

    `seccomp` lists the mode of every thread: 2 is a filter.
    """

    pid: int
    what: str
    no_new_privileges: bool
    seccomp: tuple[int, ...]
    n_filters: int
    capabilities: str
    descriptors: tuple[Descriptor, ...]

    @property
    def is_sealed(self) -> bool:
        """Whether every thread has a filter and every descriptor is explained."""
        return (
            self.no_new_privileges
            and set(self.seccomp) == {_FILTER_MODE}
            and all(each.is_expected for each in self.descriptors)
        )


_FILTER_MODE: Final = 2


class ProofReport(Struct, frozen=True):
    """Everything that the proof found."""

    cloister: str
    made_at: str
    machine: str
    user_id: int
    level: Level
    landlock_abi: int
    is_control: bool
    ok: bool
    counts: dict[str, int]
    n_ways: int
    problems: tuple[str, ...]
    processes: tuple[ProcessView, ...]
    rows: tuple[Row, ...]
    not_covered: tuple[str, ...] = NOT_COVERED


def make_report(
    level: Level,
    rows: Sequence[Row],
    processes: Sequence[ProcessView],
    problems: Iterable[str] = (),
    *,
    is_control: bool = False,
) -> ProofReport:
    """Put a report together and judge it.

    Args:
        level: How the tries were sealed.
        rows: All tries.
        processes: The running server; empty if it was not looked at.
        problems: What went wrong besides.
        is_control: Whether the seal was left out; then all must have got out.
    """
    wanted = "got out" if is_control else "blocked"
    told = list(problems)
    told += [
        f"{row.way} ({row.role}): {row.verdict}, {row.result} {row.detail}".rstrip()
        for row in rows
        if row.verdict not in {wanted, "not tried"}
    ]
    told += [
        f"process {view.pid} ({view.what}) is not sealed as it should be"
        for view in processes
        if not view.is_sealed
    ]
    n_ways = len({row.way for row in rows if row.verdict == wanted})
    if n_ways < MIN_WAYS:
        told.append(f"only {n_ways} ways out could be tried, {MIN_WAYS} are needed")
    return ProofReport(
        cloister=__version__,
        made_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        machine=f"{platform.system()} {platform.release()} {platform.machine()}",
        user_id=os.getuid(),
        level=level,
        landlock_abi=find_abi(),
        is_control=is_control,
        ok=not told,
        counts=dict(Counter(row.verdict for row in rows)),
        n_ways=n_ways,
        problems=tuple(told),
        processes=tuple(processes),
        rows=tuple(rows),
    )


def encode_report(report: ProofReport) -> str:
    """Write it as one JSON document."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


def format_row(row: Row) -> str:
    """Write one line about a try."""
    silence = "" if not row.listener else ", silence" if not row.heard else ", HEARD"
    detail = f" ({row.detail})" if row.verdict not in {"blocked", "got out"} else ""
    return (
        f"{row.verdict:<9}  {row.role:<6}  {row.way:<22}  {row.tries}: "
        f"{row.result}{silence}{detail}"
    )


def format_report(report: ProofReport) -> str:
    """Write the whole report as text."""
    lines = [
        "Proof of the offline seal" + (", control" if report.is_control else ""),
        (
            f"Cloister {report.cloister}, {report.made_at}, {report.machine}, "
            f"user {report.user_id}"
        ),
        f"Level: {report.level.meaning}; Landlock: version {report.landlock_abi}",
        "",
        *(format_row(row) for row in report.rows),
        "",
    ]
    for view in report.processes:
        lines += _format_process(view)
    lines += ["Not covered:", *(f"  {what}" for what in report.not_covered), ""]
    return "\n".join([*lines, format_end(report)])


def format_end(report: ProofReport) -> str:
    """Write the outcome."""
    counts = ", ".join(f"{n} {verdict}" for verdict, n in report.counts.items())
    lines = [f"problem: {problem}" for problem in report.problems]
    expected = "got out" if report.is_control else "was blocked, every listener silent"
    outcome = f"OK: every try {expected}" if report.ok else "FAILED"
    return "\n".join([*lines, f"{outcome} ({report.n_ways} ways out; tries: {counts})"])


def _format_process(view: ProcessView) -> list[str]:
    modes = Counter(view.seccomp)
    threads = ", ".join(f"{n} threads in mode {mode}" for mode, n in modes.items())
    head = (
        f"Process {view.pid}, {view.what}: seccomp {threads}, {view.n_filters} "
        f"filters, no new privileges {'yes' if view.no_new_privileges else 'NO'}, "
        f"capabilities {view.capabilities}"
    )
    rows = [
        f"  {each.number:>3}  {each.what:<32}  {each.why}"
        + ("" if each.is_expected else "  UNEXPECTED")
        for each in view.descriptors
    ]
    return [head, *rows, ""]

"""What the self-test found: rows, and how they are shown."""

import enum
import textwrap

import msgspec
from msgspec import Struct

_STATUS_WIDTH = 8
_LINE_WIDTH = 100
_LEAST_TEXT_WIDTH = 20


class Status(enum.StrEnum):
    """How a check ended."""

    OK = "ok"
    FAILED = "failed"
    NOT_RUN = "not_run"


class CheckFailed(Exception):
    """A check did not find what it should; `advice` says what to do."""

    def __init__(self, *, expected: str, actual: str, advice: str) -> None:
        super().__init__(f"expected {expected}, came {actual}")
        self.expected = expected
        self.actual = actual
        self.advice = advice


class Row(Struct, frozen=True):
    """One check; the last three fields are set where it failed."""

    name: str
    status: Status
    elapsed_s: float
    detail: str = ""
    expected: str | None = None
    actual: str | None = None
    advice: str | None = None


class Report(Struct, frozen=True):
    """The whole self-test; `url` is None where no server was reached."""

    version: str
    url: str | None
    elapsed_s: float
    rows: tuple[Row, ...]

    @property
    def is_ok(self) -> bool:
        """Tell whether every check ran and was passed."""
        return all(row.status is Status.OK for row in self.rows)


_SHOWN = {Status.OK: "ok", Status.FAILED: "FAILED", Status.NOT_RUN: "not run"}


def format_row(row: Row, *, name_width: int, line_width: int | None = None) -> str:
    """Write a row as aligned text; one that failed has lines below it.

    Args:
        row: What to write.
        name_width: Characters of the longest name of all rows.
        line_width: Characters of a terminal's line, into which the text is
            broken; None keeps the row on one line, for programs that read it.
    """
    time = f"{row.elapsed_s:6.2f} s" if row.status is not Status.NOT_RUN else " " * 8
    status = _SHOWN[row.status].ljust(_STATUS_WIDTH)
    head = f"{status}{row.name.ljust(name_width)} {time}  "
    lines = [f"{head}{row.detail}".rstrip()]
    if line_width is not None and len(lines[0]) > line_width:
        lines = _wrap(row.detail, head, line_width)
    for label, text in (
        ("expected  ", row.expected),
        ("came      ", row.actual),
        ("do        ", row.advice),
    ):
        if text is not None:
            width = min(line_width or _LINE_WIDTH, _LINE_WIDTH)
            lines += _wrap(text, " " * _STATUS_WIDTH + label, width)
    return "\n".join(lines)


def _wrap(text: str, head: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, len(head) + _LEAST_TEXT_WIDTH),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_on_hyphens=False,
    )


def format_end(report: Report) -> str:
    """Sum the report up in one line."""
    counts = [
        f"{n} {_SHOWN[status]}"
        for status in Status
        if (n := sum(row.status is status for row in report.rows))
    ]
    verdict = (
        "This installation works."
        if report.is_ok
        else "Do not rely on this installation before it is repaired."
    )
    return (
        f"{len(report.rows)} checks in {report.elapsed_s:.1f} s: "
        f"{', '.join(counts)}. {verdict}"
    )


def encode_report(report: Report) -> str:
    """Write a report as one JSON document."""
    document = {
        "ok": report.is_ok,
        "version": report.version,
        "url": report.url,
        "elapsed_s": round(report.elapsed_s, 3),
        "checks": [
            {**msgspec.structs.asdict(row), "elapsed_s": round(row.elapsed_s, 3)}
            for row in report.rows
        ],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()

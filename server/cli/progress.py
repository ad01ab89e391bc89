"""A progress bar that is of use on a terminal and in a log.

On a terminal one line is redrawn; elsewhere a plain line is printed every few
seconds and one at the end. All goes to stderr, so that stdout is the result.
"""

import shutil
import sys
import time
from collections.abc import Callable
from typing import Final, Self, TextIO

from model_store.sizes import format_bytes

__all__ = ["Bar", "format_bytes", "format_duration"]

LINE_EVERY_S: Final = 5.0
_DRAW_EVERY_S: Final = 0.1
_BAR_CELLS: Final = 20
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600


def format_duration(seconds: float) -> str:
    """Write a time as "42 s", "3 min 05 s" or "2 h 07 min"."""
    whole = max(0, round(seconds))
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S:02} s"
    return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S:02} min"


class Bar:
    """Shows how far some bytes are, with their rate and the time left.

    Any thread may advance it, one at a time.

    Args:
        label: What is done, e.g. a file's name.
        total_bytes: None means unknown: no share and no time left are shown.
        quiet: Show nothing at all.
        stream: Where to; None means stderr.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        label: str,
        total_bytes: int | None,
        *,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = label
        self._total = total_bytes
        self._stream = sys.stderr if stream is None else stream
        self._quiet = quiet
        self._clock = clock
        self._is_terminal = self._stream.isatty()
        self._every_s = _DRAW_EVERY_S if self._is_terminal else LINE_EVERY_S
        self._done = 0
        self._start = self._shown = clock()

    def __enter__(self) -> Self:
        if self._is_terminal:
            self._show()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._is_terminal or kind is None:
            self._show(is_last=True)

    def advance(self, n_bytes: int) -> None:
        """Count bytes that were done since the last call."""
        self._done += n_bytes
        if self._clock() - self._shown >= self._every_s:
            self._show()

    def _show(self, *, is_last: bool = False) -> None:
        if self._quiet:
            return
        self._shown = self._clock()
        line = self._describe(is_last=is_last)
        if self._is_terminal:
            columns = shutil.get_terminal_size().columns
            line = f"\r{line[: columns - 1]}\x1b[K" + ("\n" if is_last else "")
        else:
            line += "\n"
        self._stream.write(line)
        self._stream.flush()

    def _describe(self, *, is_last: bool) -> str:
        took_s = self._shown - self._start
        rate = self._done / took_s if took_s > 0 else 0.0
        speed = f"{format_bytes(int(rate))}/s"
        if self._total is None:
            parts = [format_bytes(self._done), speed]
        else:
            share = min(1.0, self._done / self._total) if self._total else 1.0
            amount = f"{format_bytes(self._done)} of {format_bytes(self._total)}"
            parts = [f"{share:4.0%}", amount, speed]
            if self._is_terminal:
                cells = int(share * _BAR_CELLS)
                parts.insert(0, f"[{'#' * cells}{'.' * (_BAR_CELLS - cells)}]")
            if rate > 0 and not is_last:
                left_s = max(0, self._total - self._done) / rate
                parts.append(f"{format_duration(left_s)} left")
        if is_last:
            parts.append(f"in {format_duration(took_s)}")
        return f"{self._label}: {', '.join(parts)}"

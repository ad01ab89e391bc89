"""A bundle on disk: one file, or the parts that it was split into.

Parts are called `NAME.001`, `NAME.002` and so on, and joined in that order they
are the bundle. All but the last have one size, so a part that is missing or was
cut is known before any content is read.
"""

import re
import stat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from model_store.errors import StoreError, UnreadableFile
from model_store.names import printable

MAX_PARTS: Final = 999
_MAX_NAMED: Final = 8
_NUMBERED: Final = re.compile(r"(?P<stem>.+)\.(?P<number>\d{3})", re.DOTALL)


class BadParts(StoreError):
    """Parts of a bundle are missing or do not fit together."""

    code = "bad_parts"
    hint = "Copy all parts into one folder, those named here again."

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The bundle '{printable(str(path))}' is not complete: "
            f"{reason}. {self.hint}",
            path=path,
            reason=reason,
        )


def is_part_name(name: str) -> bool:
    """Tell whether a file name ends as those of parts do."""
    return _NUMBERED.fullmatch(name) is not None


def part_path(path: Path, number: int) -> Path:
    """Name the part of a bundle; numbers count from 1."""
    return path.with_name(f"{path.name}.{number:03}")


def bundle_name(path: Path) -> str:
    """Name the bundle that a file is, or is a part of."""
    match = _NUMBERED.fullmatch(path.name)
    return match["stem"] if match else path.name


def find_parts(path: Path) -> tuple[Path, ...]:
    """Find the files of a bundle.

    Args:
        path: The bundle's file, one of its parts, or the name that the parts
            have in common.

    Returns:
        The files in order; `path` alone where there are no parts.

    Raises:
        BadParts: The numbers of the parts have gaps.
        UnreadableFile: There is no such file, or its folder cannot be read.
    """
    match = _NUMBERED.fullmatch(path.name)
    stem = path.with_name(match["stem"]) if match else path
    if match is None and path.exists():
        return (path,)
    try:
        names = [each.name for each in stem.parent.iterdir()]
    except (OSError, ValueError) as error:
        raise UnreadableFile(path, str(error)) from error
    numbers = sorted(
        int(found["number"])
        for name in names
        if (found := _NUMBERED.fullmatch(name)) and found["stem"] == stem.name
    )
    if not numbers:
        raise UnreadableFile(path, "there is no such file and no part of it")
    if numbers != list(range(1, len(numbers) + 1)):
        missing = sorted({*range(1, numbers[-1])} - {*numbers})
        raise BadParts(stem, f"of its parts {_list(stem, missing)} missing")
    return tuple(part_path(stem, number) for number in numbers)


class Parts:
    """Reads the files of a bundle as one, with a position; not thread-safe.

    `size_bytes` sums over all files. One file is open at a time.

    Args:
        paths: In order, at least one.

    Raises:
        BadParts: The sizes of the files do not fit together.
        UnreadableFile: A file is missing or not a regular one.
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths
        self._sizes = [_measure(path) for path in paths]
        self.size_bytes = sum(self._sizes)
        self._position = 0
        self._file: BinaryIO | None = None
        self._open_index = -1
        self._check_sizes()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the open file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def position(self) -> int:
        """Offset of the next byte in the whole bundle."""
        return self._position

    def seek(self, position: int) -> None:
        """Go to an offset in the whole bundle, from 0 to `size_bytes`."""
        self._position = position

    def read(self, n_bytes: int) -> bytes:
        """Read so many bytes, across files; fewer only at the end.

        Raises:
            BadParts: A file became shorter since it was measured.
            UnreadableFile: The system refused.
        """
        pieces = []
        while n_bytes > 0 and self._position < self.size_bytes:
            index, offset = self._locate(self._position)
            room = min(n_bytes, self._sizes[index] - offset)
            piece = self._read_from(index, offset, room)
            pieces.append(piece)
            self._position += len(piece)
            n_bytes -= len(piece)
        return b"".join(pieces) if len(pieces) != 1 else pieces[0]

    def name_at(self, position: int) -> str:
        """Say where an offset lies, for errors: the file's name and its byte."""
        index, offset = self._locate(min(position, max(0, self.size_bytes - 1)))
        return f"byte {offset} of '{printable(self.paths[index].name)}'"

    def _locate(self, position: int) -> tuple[int, int]:
        index = min(position // max(self._sizes[0], 1), len(self._sizes) - 1)
        return index, position - index * self._sizes[0]

    def _read_from(self, index: int, offset: int, n_bytes: int) -> bytes:
        path = self.paths[index]
        try:
            if self._file is None or index != self._open_index:
                self.close()
                self._file = path.open("rb", buffering=0)
                self._open_index = index
            if self._file.tell() != offset:
                self._file.seek(offset)
            piece = self._file.read(n_bytes)
        except OSError as error:
            raise UnreadableFile(path, error.strerror or str(error)) from error
        if not piece:
            raise BadParts(
                path,
                f"'{printable(path.name)}' ended at byte {offset} and had "
                f"{self._sizes[index]} before; it is being changed",
            )
        return piece

    def _check_sizes(self) -> None:
        first = self._sizes[0]
        for index, size in enumerate(self._sizes):
            is_last = index == len(self._sizes) - 1
            if size == 0 or size > first or (size != first and not is_last):
                raise BadParts(
                    self.paths[index],
                    f"'{printable(self.paths[index].name)}' has {size} bytes and "
                    f"'{printable(self.paths[0].name)}' {first}; all parts but the "
                    "last have one size, and the last is not larger",
                )


def _list(stem: Path, numbers: list[int]) -> str:
    names = [part_path(stem, number).name for number in numbers[:_MAX_NAMED]]
    named = printable(", ".join(names))
    more = len(numbers) - len(names)
    tail = f" and {more} more" if more else ""
    return f"{named}{tail} {'is' if len(numbers) == 1 else 'are'}"


def _measure(path: Path) -> int:
    try:
        facts = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableFile(path, reason) from error
    if not stat.S_ISREG(facts.st_mode):
        raise UnreadableFile(path, "it is not a regular file")
    return facts.st_size

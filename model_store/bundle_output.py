"""The files of a bundle on the disk, as it is written.

They have hidden names until all bytes are on the disk, then get their own in an
order that makes the first part appear last. Whatever ends the writing before,
nothing of it stays; only a kill can leave hidden files.
"""

import contextlib
import errno
import os
import secrets
import shutil
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final, Self

from msgspec import Struct

from model_store.errors import StoreError
from model_store.layout import sync_folder
from model_store.names import printable
from model_store.parts import MAX_PARTS, is_part_name, part_path
from model_store.sizes import tell_bytes
from model_store.tar_header import RECORD_BYTES

MIN_SPLIT_BYTES: Final = 2**20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class CannotWrite(StoreError):
    """The bundle cannot be written where it was asked for."""

    code = "cannot_write"

    def __init__(self, path: Path, reason: str, advice: str) -> None:
        super().__init__(
            f"The bundle '{printable(str(path))}' was not written: {reason}. {advice}",
            path=path,
            reason=reason,
        )


class Written(Struct, frozen=True):
    """A bundle that was written.

    `paths` are its files in order, `digests` their SHA-256. `sums_path` is the
    list of those, for `sha256sum -c`; None where there is one file only.
    """

    paths: tuple[Path, ...]
    digests: tuple[str, ...]
    sums_path: Path | None
    size_bytes: int


class Output:
    """A bundle that is being written; a context manager.

    `position` is the number of bytes written.

    Args:
        out: The bundle.
        part_bytes: Most bytes of a part; None means one file.
    """

    def __init__(self, out: Path, part_bytes: int | None) -> None:
        self._out = out
        self._part_bytes = part_bytes
        self._token = secrets.token_hex(8)
        self._files: list[Path] = []
        self._digests: list[str] = []
        self._file: BinaryIO | None = None
        self._digest = sha256()
        self._room = 0
        self.position = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was not published."""
        if self._file is not None:
            self._file.close()
        for path in self._files:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def write(self, content: bytes) -> None:
        """Add bytes.

        Raises:
            CannotWrite: The disk is full or refuses.
        """
        view = memoryview(content)
        self.position += len(view)
        try:
            while view:
                file = self._file if self._room else None
                if file is None:
                    file = self._begin_part()
                piece = view[: self._room]
                view = view[len(piece) :]
                self._room -= len(piece)
                self._digest.update(piece)
                while piece:
                    piece = piece[file.write(piece) :]
        except OSError as error:
            raise _refuse(self._out, error) from error

    def publish(self) -> Written:
        """Give all files their names, the first part last.

        Raises:
            CannotWrite: A name was taken meanwhile, or the disk refuses.
        """
        try:
            self._end_part()
            paths = self._name_parts()
            sums_path = self._write_sums(paths) if len(paths) > 1 else None
            targets = [*paths, *([] if sums_path is None else [sums_path])]
            for target in targets:
                _check_free(target)
            for index in reversed(range(len(targets))):
                self._files[index].rename(targets[index])
                self._files[index] = targets[index]
            sync_folder(self._out.parent)
        except OSError as error:
            raise _refuse(self._out, error) from error
        self._files.clear()
        return Written(
            paths=tuple(paths),
            digests=tuple(self._digests),
            sums_path=sums_path,
            size_bytes=self.position,
        )

    def _name_parts(self) -> list[Path]:
        if self._part_bytes is None:
            return [self._out]
        return [part_path(self._out, n + 1) for n in range(len(self._files))]

    def _write_sums(self, paths: list[Path]) -> Path:
        lines = zip(self._digests, paths, strict=True)
        text = "".join(f"{digest}  {path.name}\n" for digest, path in lines)
        with self._open_hidden("sha256") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        return _sums_path(self._out)

    def _open_hidden(self, suffix: str) -> BinaryIO:
        path = self._out.with_name(f".{self._out.name}.{self._token}.{suffix}")
        self._files.append(path)
        return path.open("xb", buffering=0)

    def _begin_part(self) -> BinaryIO:
        self._end_part()
        self._file = self._open_hidden(f"{len(self._files) + 1:03}")
        self._digest = sha256()
        self._room = self._part_bytes or 2**62
        return self._file

    def _end_part(self) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
            self._digests.append(self._digest.hexdigest())


def check_output(out: Path, size_bytes: int, split_bytes: int | None) -> int | None:
    """Check the place of a bundle before anything is written.

    Args:
        out: The bundle.
        size_bytes: Of the whole bundle.
        split_bytes: Every part is smaller than this; None means one file.

    Returns:
        Most bytes of a part; None where it is one file.

    Raises:
        CannotWrite: The place is taken, not writable or too small.
    """
    if is_part_name(out.name):
        raise CannotWrite(
            out, "its name ends like that of a part", "Choose another one by --out."
        )
    part_bytes = None
    if split_bytes is not None:
        part_bytes = _part_bytes(out, size_bytes, split_bytes)
    try:
        if not out.parent.is_dir():
            raise CannotWrite(
                out, "its folder does not exist", "Make it, or choose another by --out."
            )
        for path in (out, part_path(out, 1), _sums_path(out)):
            _check_free(path)
        free = shutil.disk_usage(out.parent).free
    except OSError as error:
        raise _refuse(out, error) from error
    if free < size_bytes:
        raise CannotWrite(
            out,
            f"{tell_bytes(size_bytes)} are needed, {tell_bytes(free)} are free",
            "Free some space there, or choose another disk by --out.",
        )
    return part_bytes


def _part_bytes(out: Path, size_bytes: int, split_bytes: int) -> int | None:
    # Smaller than asked for: a FAT32 disk takes files below 4 GiB only.
    part_bytes = (split_bytes - 1) // RECORD_BYTES * RECORD_BYTES
    if split_bytes < MIN_SPLIT_BYTES or part_bytes * MAX_PARTS < size_bytes:
        least = max(MIN_SPLIT_BYTES, size_bytes // MAX_PARTS + 2 * RECORD_BYTES)
        raise CannotWrite(
            out,
            f"parts of {split_bytes} bytes are too small for {tell_bytes(size_bytes)}",
            f"Split into at least {least} bytes; {MAX_PARTS} parts are possible.",
        )
    return part_bytes if part_bytes < size_bytes else None


def _sums_path(out: Path) -> Path:
    return out.with_name(out.name + ".sha256")


def _check_free(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise CannotWrite(
            path, "it exists already", "Remove it, or choose another name by --out."
        )


def _refuse(out: Path, error: OSError) -> CannotWrite:
    if error.errno in _FULL:
        return CannotWrite(
            out,
            "the disk became full",
            "Nothing of it was left there; free some space, or use another disk.",
        )
    if error.errno == errno.EFBIG:
        return CannotWrite(
            out,
            "the disk does not take files of this size",
            "Use --split 4GiB for a FAT32 disk.",
        )
    return CannotWrite(
        out,
        error.strerror or str(error),
        "Check the permissions of the folder, or choose another by --out.",
    )

"""Digests of whole files and of their chunks, computed beside the copying.

One thread reads blocks of a chunk's size into a small ring of buffers; each
block then goes to independent workers: one updates the digest of the whole,
one digests the chunk, one writes the copy. hashlib and the system calls
release the interpreter lock, so the slowest of them sets the pace and not
their sum. A buffer returns to the ring when the last worker is done with it,
so memory is a few chunks, whatever the file (`ring`).

What is hashed is what was read and what is written: there is no second read
that could see other bytes.
"""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from msgspec import Struct

from model_store.errors import (
    BadDigest,
    CutShort,
    DiskFull,
    FileChanged,
    StoreUnwritable,
    UnreadableFile,
)
from model_store.ring import Ring

CHUNK_BYTES: Final = 4 * 2**20
"""Length of the pieces whose digests tell which part of a file is bad."""

Progress = Callable[[int], None]
"""Told how many bytes were done since the last call; may raise to cancel."""

_HEX_DIGITS: Final = 64
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_FALLOCATE: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


class FileDigest(Struct, frozen=True):
    """SHA-256 of a file, in lower case hexadecimal.

    `chunks` are the digests of each `CHUNK_BYTES`, the last one shorter;
    empty for an empty file.
    """

    sha256: str
    size_bytes: int
    chunks: tuple[str, ...]


def parse_sha256(text: str) -> str:
    """Read a digest as people and tools write it.

    Digits in any case, blanks anywhere and "sha256:" before it are accepted.

    Raises:
        BadDigest: There are not 64 hexadecimal digits.
    """
    digits = "".join(text.split()).lower()
    digits = digits.removeprefix("sha256:").removeprefix("sha256-")
    if len(digits) != _HEX_DIGITS or not set(digits) <= set("0123456789abcdef"):
        raise BadDigest(text)
    return digits


def hash_file(path: Path, progress: Progress | None = None) -> FileDigest:
    """Digest a file.

    Raises:
        UnreadableFile: It cannot be opened or read, or is no regular file.
        FileChanged: Its size or time moved meanwhile.
    """
    with _SourceFile(path) as source:
        digest = _pump(source.read_into, None, progress)
        source.check()
    return digest


def copy_and_hash(
    source: Path, target: Path, progress: Progress | None = None
) -> FileDigest:
    """Copy a file to a new one and digest the bytes on their way.

    The copy has the source's modification time and is on the disk when this
    returns. After an error the target may be there in part.

    Args:
        source: Links are followed.
        target: Must not exist.
        progress: Told of bytes read.

    Raises:
        UnreadableFile: The source cannot be opened or read.
        FileChanged: Its size or time moved meanwhile.
        DiskFull: The copy does not fit; known before the first byte where the
            file system can reserve space.
        StoreUnwritable: The target cannot be written.
    """
    with _SourceFile(source) as reader, _TargetFile(target) as writer:
        writer.reserve(reader.facts.st_size)
        digest = _pump(reader.read_into, writer.write, progress)
        reader.check()
        writer.finish(digest.size_bytes, mtime_ns=reader.facts.st_mtime_ns)
    return digest


def hash_stream(
    read: Callable[[int], bytes],
    target: Path,
    size_bytes: int | None,
    progress: Progress | None = None,
) -> FileDigest:
    """Write a stream to a new file and digest it on its way.

    Args:
        read: Gives up to so many bytes; fewer are fine, none mean the end.
            What it raises comes through.
        target: Must not exist.
        size_bytes: Announced length, beyond which nothing is read; None means
            until the end.
        progress: Told of bytes read.

    Raises:
        CutShort: The stream ended before `size_bytes`.
        DiskFull: See `copy_and_hash`.
        StoreUnwritable: The target cannot be written.
    """
    left = size_bytes

    def read_into(buffer: memoryview) -> int:
        nonlocal left
        wanted = len(buffer) if left is None else min(left, len(buffer))
        data = read(wanted)[:wanted] if wanted else b""
        buffer[: len(data)] = data
        if left is not None:
            left -= len(data)
        return len(data)

    with _TargetFile(target) as writer:
        writer.reserve(size_bytes or 0)
        digest = _pump(read_into, writer.write, progress)
        if size_bytes is not None and digest.size_bytes != size_bytes:
            raise CutShort(
                target, expected_bytes=size_bytes, got_bytes=digest.size_bytes
            )
        writer.finish(digest.size_bytes, mtime_ns=None)
    return digest


class _SourceFile:
    """A regular file that is read once, watched for changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0

    def __enter__(self) -> Self:
        # Without O_NONBLOCK the open of a named pipe would wait for a writer.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._descriptor = os.open(self._path, flags)
        except OSError as error:
            raise self._unreadable(error) from error
        except ValueError as error:  # a path with a NUL in it
            raise UnreadableFile(self._path, str(error)) from error
        self.facts = os.fstat(self._descriptor)
        if not stat.S_ISREG(self.facts.st_mode):
            os.close(self._descriptor)
            raise UnreadableFile(self._path, "it is not a regular file")
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def read_into(self, buffer: memoryview) -> int:
        try:
            n_bytes = os.readv(self._descriptor, [buffer])
        except OSError as error:
            raise self._unreadable(error) from error
        self._read_bytes += n_bytes
        if self._read_bytes > self.facts.st_size:
            # A file that somebody appends to would never end.
            self.check()
        return n_bytes

    def check(self) -> None:
        """Raise `FileChanged` if the file is not as it was when opened."""
        before, now = self.facts, os.fstat(self._descriptor)
        read_bytes = self._read_bytes
        if not before.st_size == now.st_size == read_bytes:
            raise FileChanged(
                self._path,
                f"it had {before.st_size} bytes, of which {read_bytes} were read, "
                f"and now has {now.st_size}",
            )
        if before.st_mtime_ns != now.st_mtime_ns:
            raise FileChanged(
                self._path, f"its {before.st_size} bytes were written again"
            )

    def _unreadable(self, error: OSError) -> UnreadableFile:
        return UnreadableFile(self._path, error.strerror or str(error))


class _TargetFile:
    """A new file; its errors are those of the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._needed = 0

    def __enter__(self) -> Self:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self._path, flags, 0o644)
        except OSError as error:
            raise self._failed(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def reserve(self, size_bytes: int) -> None:
        self._needed = size_bytes
        if not size_bytes or not hasattr(os, "posix_fallocate"):
            return
        # Before reserving: the C library may emulate it by writing each block.
        if size_bytes > self._free_bytes():
            raise self._full()
        try:
            os.posix_fallocate(self._descriptor, 0, size_bytes)
        except OSError as error:
            if error.errno not in _NO_FALLOCATE:
                raise self._failed(error) from error

    def write(self, block: memoryview) -> None:
        try:
            while block:
                block = block[os.write(self._descriptor, block) :]
        except OSError as error:
            raise self._failed(error) from error

    def finish(self, size_bytes: int, *, mtime_ns: int | None) -> None:
        try:
            os.ftruncate(self._descriptor, size_bytes)
            if mtime_ns is not None:
                os.utime(self._descriptor, ns=(mtime_ns, mtime_ns))
            os.fsync(self._descriptor)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> DiskFull | StoreUnwritable:
        if error.errno in _FULL:
            return self._full()
        return StoreUnwritable(self._path, error.strerror or str(error))

    def _full(self) -> DiskFull:
        return DiskFull(
            self._path, needed_bytes=self._needed, free_bytes=self._free_bytes()
        )

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._path.parent).free


def _pump(
    read_into: Callable[[memoryview], int],
    write: Callable[[memoryview], None] | None,
    progress: Progress | None,
) -> FileDigest:
    """Read to the end; digest and, if asked, write every byte."""
    whole = hashlib.sha256()
    chunks: list[str] = []

    def digest_chunk(block: memoryview) -> None:
        chunks.append(hashlib.sha256(block).hexdigest())

    jobs: list[Callable[[memoryview], None]] = [whole.update, digest_chunk]
    if write is not None:
        jobs.append(write)
    ring = Ring(jobs, CHUNK_BYTES)
    ring.start()
    size_bytes = 0
    try:
        while True:
            block = ring.take()
            block.size = _fill(block.buffer, read_into)
            size_bytes += block.size
            if not block.size:
                break
            ring.give(block)
            if progress is not None:
                progress(block.size)
    except BaseException:
        ring.join()
        raise
    ring.finish()
    return FileDigest(
        sha256=whole.hexdigest(), size_bytes=size_bytes, chunks=tuple(chunks)
    )


def _fill(buffer: memoryview, read_into: Callable[[memoryview], int]) -> int:
    """Fill a buffer as far as there is something; a chunk has no gaps."""
    size = 0
    while size < len(buffer):
        n_bytes = read_into(buffer[size:])
        if not n_bytes:
            break
        size += n_bytes
    return size

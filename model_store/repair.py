"""Mends a damaged file in place: only the chunks that are bad are written.

    find bad chunks → quarantine → for each: read from a good copy, compare
    with the recorded digest, write → sync → hash the whole file → release

Rules
* The mark is set before the first byte is written and lifted only after the
  whole file has the recorded digest. A process that is killed in between
  leaves a quarantined file with fewer bad chunks; the next repair finds by
  itself what is left.
* Nothing is written that does not have its recorded digest, so a bad copy
  never makes a file worse.
* A file that is too short lacks its last chunks; they are bad like others.
  One that is too long is cut.
* A link is refused: the bytes belong to somebody else too.
* After syncing, cached pages are dropped where the system allows it, so that
  the last check reads what the disk has.
"""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from model_store.chunks import find_bad_chunks, find_ranges, tell_ranges
from model_store.digest import Progress, hash_file
from model_store.errors import (
    DiskFull,
    StoreError,
    StoreUnwritable,
    UnreadableFile,
)
from model_store.good_copy import GoodCopy, OpenCopies, read_good_chunk
from model_store.layout import Store
from model_store.names import printable
from model_store.quarantine import (
    FileIdentity,
    identify,
    is_ours,
    lift,
    now,
    set_aside,
)
from model_store.record import Damage, Record, read_damage, read_record
from model_store.sizes import tell_bytes

Watch = Callable[[str, int], AbstractContextManager[Progress]]
"""Told what begins and how many bytes it has; gives what is told of each."""

MAX_CHUNK_BYTES: Final = 64 * 2**20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Repaired(Struct, frozen=True):
    """What a repair did to one file; `bad_chunks` are what it wrote."""

    path: Path
    bad_chunks: tuple[int, ...]
    written_bytes: int
    cut_bytes: int
    sha256: str


class CannotRepair(StoreError):
    """This file cannot be mended in place; `advice` is what to do instead."""

    code = "cannot_repair"

    def __init__(self, path: Path, reason: str, advice: str) -> None:
        super().__init__(
            f"The file '{printable(str(path))}' cannot be repaired: {reason}. {advice}",
            path=path,
            reason=reason,
        )


def repair_file(
    store: Store, path: Path, open_copies: OpenCopies, *, watch: Watch | None = None
) -> Repaired:
    """Mend a file of the store by its record.

    Args:
        store: The store that `path` lies in.
        path: The file.
        open_copies: Where good bytes come from; not asked if nothing is bad.
        watch: Told how it goes on; None tells nobody. What its progress
            raises ends the repair; the file stays in quarantine.

    Returns:
        What was done. The file is sound and released.

    Raises:
        CannotRepair: It is not ours, a link, gone, has no record, or a record
            that contradicts itself.
        GoodCopyMissing: There is nothing to take bytes from.
        GoodCopyBad: The copy is bad itself; the text names the chunk.
        UnreadableFile: The file or the copy cannot be read.
        DiskFull: What is missing does not fit.
        StoreUnwritable: The file or its mark cannot be written.
        FileChanged: Somebody else wrote or replaced it.
        StoreBusy: Another process keeps the store's lock for too long.
    """
    watch = watch or _watch_nothing
    record = _demand_record(store, path)
    with watch(f"checking {printable(path.name)}", record.size_bytes) as progress:
        bad = find_bad_chunks(path, record, progress)
    seen = _identify(path)
    too_long_bytes = max(0, seen.size_bytes - record.size_bytes)
    written_bytes = 0
    if bad or seen.size_bytes != record.size_bytes:
        _quarantine(store, path, record, bad, seen)
        todo = find_ranges(
            bad, chunk_bytes=record.chunk_bytes, size_bytes=record.size_bytes
        )
        written_bytes = sum(each.last - each.first + 1 for each in todo)
        label = f"mending {printable(path.name)}"
        with watch(label, written_bytes) as progress:
            if bad:
                with open_copies(path, record) as copies:
                    _write(path, record, bad, copies, progress=progress)
            _finish(path, record)
    with watch(f"verifying {printable(path.name)}", record.size_bytes) as progress:
        seen = _identify(path)
        digest = hash_file(path, progress)
    if digest.sha256 != record.sha256:
        raise CannotRepair(
            path,
            f"its SHA-256 is {digest.sha256}, but its record says {record.sha256}, "
            "although each chunk is as recorded",
            "Its record is wrong: remove it by `cloister rm` and import a good copy.",
        )
    try:
        lift(store, path, seen=seen, record=record)
    except FileNotFoundError as error:
        raise _tell_gone(path) from error
    return Repaired(
        path=path,
        bad_chunks=bad,
        written_bytes=written_bytes,
        cut_bytes=too_long_bytes,
        sha256=digest.sha256,
    )


def _demand_record(store: Store, path: Path) -> Record:
    """Check that a file may be written, and read what it should be.

    Raises:
        CannotRepair: See there.
        BadRecord: The record cannot be understood.
    """
    if not is_ours(store, path):
        raise CannotRepair(
            path,
            f"it does not lie in the store {printable(str(store.models_dir))}, and "
            "other folders are never written to",
            "Copy the good file there by hand.",
        )
    try:
        facts = path.lstat()
    except OSError as error:
        raise _tell_gone(path) from error
    if stat.S_ISLNK(facts.st_mode) or facts.st_nlink > 1:
        kind = "a link" if stat.S_ISLNK(facts.st_mode) else "hard-linked"
        raise CannotRepair(
            path,
            f"it is {kind}, so its bytes belong to another folder too",
            "Remove it by `cloister rm`, which leaves the other one alone, and "
            "import a good copy by `cloister import PATH --copy`.",
        )
    record = read_record(path)
    if record is None:
        raise CannotRepair(
            path,
            "it has no record, so nothing says which bytes are bad",
            "Remove it by `cloister rm` and import a good copy by `cloister import`.",
        )
    if record.chunk_bytes > MAX_CHUNK_BYTES:
        raise CannotRepair(
            path,
            f"its record has chunks of {tell_bytes(record.chunk_bytes)}; at most "
            f"{tell_bytes(MAX_CHUNK_BYTES)} are read at once",
            "Remove it by `cloister rm` and import a good copy by `cloister import`.",
        )
    return record


def _quarantine(
    store: Store, path: Path, record: Record, bad: Sequence[int], seen: FileIdentity
) -> None:
    """Mark the file before it is written, unless it says the same already."""
    ranges = find_ranges(
        bad, chunk_bytes=record.chunk_bytes, size_bytes=record.size_bytes
    )
    reason = (
        f"{len(bad)} of {len(record.chunks)} chunks are bad ({tell_ranges(ranges)})"
    )
    if seen.size_bytes != record.size_bytes:
        reason = (
            f"it has {tell_bytes(seen.size_bytes)}, but its record says "
            f"{tell_bytes(record.size_bytes)}"
        )
    before = read_damage(path)
    since = before.found_at if before is not None and before.found_at else now()
    try:
        set_aside(store, path, Damage(since, reason, tuple(bad)), seen=seen)
    except FileNotFoundError as error:
        raise _tell_gone(path) from error


def _write(
    path: Path,
    record: Record,
    bad: Sequence[int],
    copies: Sequence[GoodCopy],
    *,
    progress: Progress,
) -> None:
    """Write the bad chunks, each compared with its digest first."""
    with _open_for_writing(path) as descriptor:
        _reserve(path, descriptor, record.size_bytes)
        for chunk in bad:
            data = read_good_chunk(copies, file=path, record=record, chunk=chunk)
            first = chunk * record.chunk_bytes
            rest = memoryview(data)
            while rest:
                n_bytes = os.pwrite(descriptor, rest, first)
                first, rest = first + n_bytes, rest[n_bytes:]
            os.fsync(descriptor)
            progress(len(data))


def _finish(path: Path, record: Record) -> None:
    """Cut what is too much, sync, and forget the cached pages."""
    with _open_for_writing(path) as descriptor:
        if os.fstat(descriptor).st_size > record.size_bytes:
            os.ftruncate(descriptor, record.size_bytes)
        os.fsync(descriptor)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _reserve(path: Path, descriptor: int, size_bytes: int) -> None:
    """Refuse early where the missing end does not fit."""
    missing_bytes = size_bytes - os.fstat(descriptor).st_size
    free_bytes = shutil.disk_usage(path.parent).free
    if missing_bytes > free_bytes:
        raise DiskFull(path, needed_bytes=missing_bytes, free_bytes=free_bytes)


@contextmanager
def _open_for_writing(path: Path) -> Iterator[int]:
    """Open a file to be written in place, and name what the disk refuses.

    Raises:
        DiskFull: It is full.
        StoreUnwritable: It refuses for another reason.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise StoreUnwritable(path, error.strerror or str(error)) from error
    try:
        yield descriptor
    except OSError as error:
        if error.errno in _FULL:
            free_bytes = shutil.disk_usage(path.parent).free
            needed_bytes = os.fstat(descriptor).st_size
            raise DiskFull(
                path, needed_bytes=needed_bytes, free_bytes=free_bytes
            ) from error
        raise StoreUnwritable(path, error.strerror or str(error)) from error
    finally:
        os.close(descriptor)


def _identify(path: Path) -> FileIdentity:
    try:
        return identify(path)
    except FileNotFoundError as error:
        raise _tell_gone(path) from error
    except OSError as error:
        raise UnreadableFile(path, error.strerror or str(error)) from error


def _tell_gone(path: Path) -> CannotRepair:
    return CannotRepair(path, "it is gone", "Import a good copy by `cloister import`.")


@contextmanager
def _watch_nothing(_label: str, _total_bytes: int) -> Iterator[Progress]:
    yield lambda _n_bytes: None

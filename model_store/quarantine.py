"""Quarantine: a damaged file is neither served nor deleted.

The mark lies beside the file (`record.damage_path`), so it holds for every
process and outlives them. Only files of the store itself get one: a folder
that is not ours is never written to.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from model_store.chunks import ByteRange, find_ranges, tell_ranges
from model_store.digest import CHUNK_BYTES
from model_store.errors import BadRecord, FileChanged
from model_store.layout import Store
from model_store.names import printable
from model_store.record import (
    Damage,
    Record,
    clear_damage,
    read_record,
    write_damage,
    write_record,
)


class FileIdentity(Struct, frozen=True):
    """What tells that a path still means the same bytes."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int


def identify(path: Path) -> FileIdentity:
    """Look at a file, links followed.

    Raises:
        OSError: It is gone or cannot be reached.
    """
    facts = path.stat()
    return FileIdentity(
        device=facts.st_dev,
        inode=facts.st_ino,
        size_bytes=facts.st_size,
        mtime_ns=facts.st_mtime_ns,
    )


def is_ours(store: Store, path: Path) -> bool:
    """Tell whether a file lies in the store and not merely below it.

    A folder of somebody else's that is linked into the store is not ours; a
    link to a file is, because its record and mark lie in our folder.
    """
    top = os.path.realpath(store.models_dir)
    real = os.path.realpath(path.parent)
    return real == top or real.startswith(top + os.sep)


def now() -> str:
    """Give the time as records have it: UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def set_aside(store: Store, path: Path, damage: Damage, *, seen: FileIdentity) -> None:
    """Put a file of the store into quarantine.

    Args:
        store: The one that `path` lies in.
        path: The damaged file.
        damage: What is wrong with it.
        seen: The file that was judged.

    Raises:
        FileChanged: The path means another file by now.
        FileNotFoundError: The file was removed meanwhile.
        StoreUnwritable: The mark cannot be written.
        StoreBusy: Another process keeps the lock for too long.
    """
    with store.exclusive():
        _check_same(path, seen)
        write_damage(path, damage)


def lift(
    store: Store, path: Path, *, seen: FileIdentity, record: Record | None
) -> None:
    """Take a file that was found sound out of quarantine.

    Args:
        store: The one that `path` lies in.
        path: The sound file; need not be in quarantine.
        seen: The file that was judged.
        record: Its record; from now on with the file's modification time.

    Raises:
        FileChanged: The path means another file by now.
        FileNotFoundError: The file was removed meanwhile.
        StoreUnwritable: The mark cannot be removed, or the record written.
        StoreBusy: Another process keeps the lock for too long.
    """
    with store.exclusive():
        _check_same(path, seen)
        if record is not None and record.mtime_ns != seen.mtime_ns:
            # First: if the process dies in between, the mark is still there.
            write_record(path, replace(record, mtime_ns=seen.mtime_ns))
        clear_damage(path)


def tell_quarantine(path: Path, model: str, damage: Damage) -> str:
    """Say that a file is not served: since when, which bytes, what to do.

    Args:
        path: The damaged file.
        model: Name by which the commands find it.
        damage: Its mark.
    """
    ranges = tell_ranges(ranges_of(path, damage.bad_chunks))
    since = f" since {damage.found_at}" if damage.found_at else ""
    where = f" ({ranges})" if ranges and ranges not in damage.reason else ""
    return (
        f"The file '{printable(str(path))}' is quarantined{since} and is not served: "
        f"{printable(damage.reason).rstrip('.')}{where}. Rewrite the bad bytes from a "
        f"good copy by `cloister repair {model} --from PATH`, or check the file again "
        f"by `cloister verify {model}`."
    )


def ranges_of(path: Path, bad_chunks: Sequence[int]) -> tuple[ByteRange, ...]:
    """Name the bytes of a file's bad chunks, by its record if it has one."""
    chunk_bytes, size_bytes = CHUNK_BYTES, 0
    try:
        record = read_record(path)
    except BadRecord:
        record = None
    if record is not None:
        chunk_bytes, size_bytes = record.chunk_bytes, record.size_bytes
    elif bad_chunks:
        size_bytes = (max(bad_chunks) + 1) * chunk_bytes
    return find_ranges(
        sorted(bad_chunks), chunk_bytes=chunk_bytes, size_bytes=size_bytes
    )


def _check_same(path: Path, seen: FileIdentity) -> None:
    if identify(path) != seen:
        raise FileChanged(path, "another file took its place, or it was written")

"""Which parts of a file are bad, by the digests of its chunks.

A chunk that is missing, and one that the disk cannot read any more, is bad
like one with other bytes.
"""

import errno
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from model_store.digest import Progress
from model_store.errors import UnreadableFile
from model_store.record import Record

_MAX_RANGES_TOLD: Final = 8
_PIECE_BYTES: Final = 4 * 2**20
_LOST_BLOCKS: Final = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG})


class ByteRange(Struct, frozen=True):
    """Bytes of a file, `first` and `last` included, counted from 0."""

    first: int
    last: int


def find_ranges(
    chunks: Sequence[int], *, chunk_bytes: int, size_bytes: int
) -> tuple[ByteRange, ...]:
    """Turn chunk indices into byte ranges, neighbours joined.

    Args:
        chunks: Ascending.
        chunk_bytes: Length of all chunks but the last.
        size_bytes: Length that the file should have.
    """
    ranges: list[ByteRange] = []
    for chunk in chunks:
        first = chunk * chunk_bytes
        last = min(first + chunk_bytes, size_bytes) - 1
        if ranges and ranges[-1].last + 1 == first:
            ranges[-1] = ByteRange(ranges[-1].first, last)
        else:
            ranges.append(ByteRange(first, last))
    return tuple(ranges)


def tell_ranges(ranges: Sequence[ByteRange]) -> str:
    """Write ranges as "bytes 0-4194303 and 8388608-8388700"; "" for none."""
    if not ranges:
        return ""
    told = [f"{each.first}-{each.last}" for each in ranges[:_MAX_RANGES_TOLD]]
    more = len(ranges) - len(told)
    if more:
        told.append(f"{more} more ranges")
    if len(told) > 1:
        told[-2:] = [f"{told[-2]} and {told[-1]}"]
    return "bytes " + ", ".join(told)


def find_bad_chunks(
    path: Path, record: Record, progress: Progress | None = None
) -> tuple[int, ...]:
    """Hash each chunk of a file and name those that are not as recorded.

    Chunks that are missing or that the disk cannot read are bad; what lies
    behind the recorded end is not looked at.

    Returns:
        Indices from 0, ascending.

    Raises:
        UnreadableFile: The file cannot be opened, or not be read for another
            reason than a lost block.
    """
    bad = []
    try:
        with path.open("rb", buffering=0) as file:
            for index, expected in enumerate(record.chunks):
                first = index * record.chunk_bytes
                length = min(record.chunk_bytes, record.size_bytes - first)
                if _hash_chunk(file.fileno(), first, length) != expected:
                    bad.append(index)
                if progress is not None:
                    progress(length)
    except OSError as error:
        raise UnreadableFile(path, error.strerror or str(error)) from error
    return tuple(bad)


def has_lost_blocks(error: UnreadableFile) -> bool:
    """Tell whether a file was refused because the disk has lost some of it."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _LOST_BLOCKS


def _hash_chunk(descriptor: int, first: int, length: int) -> str | None:
    """Digest so many bytes, fewer at the file's end; None for a lost block.

    In pieces: the length comes from a record, which may lie.
    """
    digest = hashlib.sha256()
    try:
        while length > 0:
            part = os.pread(descriptor, min(length, _PIECE_BYTES), first)
            if not part:
                break
            digest.update(part)
            first += len(part)
            length -= len(part)
    except OSError as error:
        if error.errno not in _LOST_BLOCKS:
            raise
        return None
    return digest.hexdigest()

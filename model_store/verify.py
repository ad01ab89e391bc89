"""Compares files with what is known of them, and quarantines what is damaged.

What a file is compared with, the first that there is:

    record       size and SHA-256 of the whole, and of each chunk
    SHA256SUMS   a line for it in the list beside it: SHA-256 of the whole
    *.sha256     the same in a file of its own, `model.gguf.sha256`
    nothing      it is called "not verified", which is no failure

The whole digest decides; chunk digests say which bytes are bad. A file of the
wrong size is not hashed as a whole: its chunks tell what of it is still good.
A block that the disk cannot read any more is a bad chunk like any other.

Only a full comparison changes anything, and only in the store: it sets or
lifts the quarantine, and notes a new modification time where the bytes are
still the same. Between reading and marking the file may be replaced or
removed by another process, so the mark is set under the store's lock and only
if the path still means the file that was read.
"""

import contextlib
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from model_store.chunks import (
    ByteRange,
    find_bad_chunks,
    find_ranges,
    has_lost_blocks,
)
from model_store.digest import CHUNK_BYTES, FileDigest, Progress, hash_file
from model_store.errors import (
    BadRecord,
    BadSums,
    FileChanged,
    StoreBusy,
    StoreError,
    StoreUnwritable,
    UnreadableFile,
)
from model_store.layout import Store
from model_store.quarantine import (
    FileIdentity,
    identify,
    is_ours,
    lift,
    now,
    ranges_of,
    set_aside,
)
from model_store.record import (
    SUMS_NAME,
    Damage,
    Record,
    read_damage,
    read_record,
    read_sums,
)
from model_store.sizes import tell_bytes

_DIGEST_SUFFIX: Final = ".sha256"
_GONE: Final = "it is gone"
_NOTHING_KNOWN: Final = "nothing to compare with"


class Verdict(StrEnum):
    """What a check found; `SOUND` and `UNKNOWN` are no failures."""

    SOUND = "sound"
    UNKNOWN = "not verified"
    CHANGED = "changed"
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"
    MISSING = "missing"


class FileCheck(Struct, frozen=True, kw_only=True):
    """The outcome for one file.

    `reason` is a clause, empty where the file is sound. `sha256` is set where
    the whole file was hashed. `bad_chunks` are indices from 0, `bad_ranges`
    the bytes they cover, as far as known. `quarantine` tells what became of
    the file's mark; None means that it has none. `compared_with` is "record" or
    the name of the list of checksums.
    """

    path: Path
    verdict: Verdict
    reason: str = ""
    size_bytes: int = 0
    compared_with: str | None = None
    sha256: str | None = None
    bad_chunks: tuple[int, ...] = ()
    bad_ranges: tuple[ByteRange, ...] = ()
    quarantine: Literal["set", "kept", "lifted"] | None = None

    @property
    def is_failure(self) -> bool:
        """Whether the file is not what it should be."""
        return self.verdict not in {Verdict.SOUND, Verdict.UNKNOWN}


class _Known(Struct, frozen=True):
    """What a file is compared with; `record` or `sha256` or neither is set.

    `by` is who says so, for texts.
    """

    record: Record | None = None
    sha256: str | None = None
    by: str = ""

    @property
    def name(self) -> str:
        """What `FileCheck.compared_with` calls it."""
        return "record" if self.record is not None else self.by


def has_reference(path: Path) -> bool:
    """Tell whether there is something to compare a file with."""
    try:
        known = _find_known(path)
    except (BadRecord, BadSums):
        return False
    return known.record is not None or known.sha256 is not None


def check_quickly(path: Path) -> FileCheck:
    """Compare size and modification time with the record; write nothing.

    Never raises an error: all there is to say is in the result.
    """
    try:
        seen = identify(path)
        record = read_record(path)
    except OSError as error:
        return _tell_absence(path, error)
    except BadRecord as error:
        return FileCheck(path=path, verdict=Verdict.UNREADABLE, reason=error.reason)
    damage = read_damage(path)
    if damage is not None:
        return FileCheck(
            path=path,
            verdict=Verdict.DAMAGED,
            reason=damage.reason,
            size_bytes=seen.size_bytes,
            compared_with="record" if record is not None else None,
            bad_chunks=damage.bad_chunks,
            bad_ranges=ranges_of(path, damage.bad_chunks),
            quarantine="kept",
        )
    if record is None:
        return FileCheck(
            path=path,
            verdict=Verdict.UNKNOWN,
            reason=_NOTHING_KNOWN,
            size_bytes=seen.size_bytes,
        )
    reason = ""
    if seen.size_bytes != record.size_bytes:
        reason = _tell_size(seen.size_bytes, record.size_bytes)
    elif seen.mtime_ns != record.mtime_ns:
        reason = "it was written to after it was admitted"
    return FileCheck(
        path=path,
        verdict=Verdict.CHANGED if reason else Verdict.SOUND,
        reason=reason,
        size_bytes=seen.size_bytes,
        compared_with="record",
    )


def verify_file(
    path: Path, *, store: Store | None = None, progress: Progress | None = None
) -> FileCheck:
    """Compare every byte of a file with what is known of it.

    A damaged file of the store is quarantined, one that is sound again is
    released. Everything else is never written to. What the check finds is in
    the result, not raised.

    Args:
        path: The file.
        store: Whose files may be marked; None marks none.
        progress: Told of bytes read.

    Raises:
        StoreBusy: Another process keeps the store's lock for too long.
    """
    try:
        seen = identify(path)
        known = _find_known(path)
        check = _examine(path, known, seen, progress)
        if store is None or not is_ours(store, path):
            return check
        return _mark(store, path, known.record, check, seen)
    except StoreBusy:
        raise
    except (OSError, StoreError) as error:
        return _tell_failure(path, error)


def _find_known(path: Path) -> _Known:
    record = read_record(path)
    if record is not None:
        return _Known(record=record, by="its record")
    for name in (SUMS_NAME, path.name + _DIGEST_SUFFIX):
        sums = path.with_name(name)
        if sums.is_file():
            listed = read_sums(sums)
            own = listed.get("") if name != SUMS_NAME else None
            sha256 = listed.get(path.name, own)
            if sha256 is not None:
                return _Known(sha256=sha256, by=name)
    return _Known()


def _examine(
    path: Path, known: _Known, seen: FileIdentity, progress: Progress | None
) -> FileCheck:
    """Read a file and judge it.

    Raises:
        UnreadableFile: It cannot be read, but not for lost blocks.
        FileChanged: Somebody wrote it meanwhile.
    """
    record = known.record
    if record is None and known.sha256 is None:
        return FileCheck(
            path=path,
            verdict=Verdict.UNKNOWN,
            reason=_NOTHING_KNOWN,
            size_bytes=seen.size_bytes,
        )
    check = FileCheck(
        path=path,
        verdict=Verdict.SOUND,
        size_bytes=seen.size_bytes,
        compared_with=known.name,
    )
    if record is not None and seen.size_bytes != record.size_bytes:
        bad = find_bad_chunks(path, record, progress)
        reason = _tell_size(seen.size_bytes, record.size_bytes)
        return _add_damage(check, record, bad, reason)
    try:
        digest = hash_file(path, progress)
    except UnreadableFile as error:
        if not has_lost_blocks(error):
            raise
        bad = () if record is None else find_bad_chunks(path, record)
        return _add_damage(check, record, bad, error.reason)
    check = replace(check, sha256=digest.sha256)
    expected = known.sha256 if record is None else record.sha256
    if digest.sha256 == expected:
        return check
    bad = () if record is None else _compare_chunks(path, record, digest)
    reason = f"its SHA-256 is {digest.sha256}, but {known.by} says {expected}"
    if record is not None and not bad:
        reason += ", although every chunk is as recorded: the record is wrong"
    return _add_damage(check, record, bad, reason)


def _compare_chunks(path: Path, record: Record, digest: FileDigest) -> tuple[int, ...]:
    if record.chunk_bytes != CHUNK_BYTES:
        return find_bad_chunks(path, record)
    pairs = zip(record.chunks, digest.chunks, strict=True)
    return tuple(index for index, (old, new) in enumerate(pairs) if old != new)


def _add_damage(
    check: FileCheck, record: Record | None, bad: Sequence[int], reason: str
) -> FileCheck:
    ranges: tuple[ByteRange, ...] = ()
    if record is not None:
        ranges = find_ranges(
            bad, chunk_bytes=record.chunk_bytes, size_bytes=record.size_bytes
        )
    return replace(
        check,
        verdict=Verdict.DAMAGED,
        reason=reason,
        bad_chunks=tuple(bad),
        bad_ranges=ranges,
    )


def _mark(
    store: Store,
    path: Path,
    record: Record | None,
    check: FileCheck,
    seen: FileIdentity,
) -> FileCheck:
    """Set or lift the quarantine as a check demands.

    A store that cannot be written, such as a read-only mount, is left alone:
    the check tells all the same.
    """
    damage = read_damage(path)
    if check.verdict is Verdict.UNKNOWN:
        if damage is None:
            return check
        reason = f"it is quarantined ({damage.reason}), and there is {_NOTHING_KNOWN}"
        return replace(check, verdict=Verdict.DAMAGED, reason=reason, quarantine="kept")
    with contextlib.suppress(StoreUnwritable):
        if check.verdict is Verdict.DAMAGED:
            _quarantine(store, path, check, seen, damage)
            return replace(check, quarantine="set" if damage is None else "kept")
        if damage is not None or (record and record.mtime_ns != seen.mtime_ns):
            lift(store, path, seen=seen, record=record)
            return replace(check, quarantine=None if damage is None else "lifted")
    return check


def _quarantine(
    store: Store,
    path: Path,
    check: FileCheck,
    seen: FileIdentity,
    before: Damage | None,
) -> None:
    since = before.found_at if before is not None and before.found_at else now()
    damage = Damage(since, check.reason, check.bad_chunks)
    if damage != before:
        set_aside(store, path, damage, seen=seen)


def _tell_failure(path: Path, error: OSError | StoreError) -> FileCheck:
    """Turn what stopped a check into its outcome."""
    if isinstance(error, OSError):
        return _tell_absence(path, error)
    if isinstance(error, FileChanged):
        return FileCheck(path=path, verdict=Verdict.CHANGED, reason=error.reason)
    if isinstance(error.__cause__, OSError):
        return _tell_absence(path, error.__cause__)
    return FileCheck(path=path, verdict=Verdict.UNREADABLE, reason=error.message)


def _tell_absence(path: Path, error: OSError) -> FileCheck:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return FileCheck(path=path, verdict=Verdict.MISSING, reason=_GONE)
    reason = error.strerror or str(error)
    return FileCheck(path=path, verdict=Verdict.UNREADABLE, reason=reason)


def _tell_size(size_bytes: int, expected_bytes: int) -> str:
    return (
        f"it has {tell_bytes(size_bytes)}, but its record says "
        f"{tell_bytes(expected_bytes)}"
    )

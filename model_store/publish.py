"""Puts files that were admitted into their folder, and finds what is there.

The order in which a single file appears: its record, then the file by one
rename, then SHA256SUMS. A record without its file means nothing, so a kill
between any two steps leaves a store in which the file is there or not.
Several new files of one model appear by one rename of their whole folder.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from model_store.digest import FileDigest
from model_store.errors import AlreadyTaken, BadRecord, FileChanged, StoreUnwritable
from model_store.layout import sync_folder
from model_store.record import (
    Record,
    clear_damage,
    read_damage,
    read_record,
    write_record,
    write_sums,
)


class Standing(Struct, frozen=True):
    """A file that is in the store already.

    `record` is None where there is none that can be read. `is_sound` says
    that the record speaks of these bytes: size and time are the recorded
    ones and the file is not in quarantine.
    """

    path: Path
    size_bytes: int
    mtime_ns: int
    record: Record | None
    is_sound: bool
    is_damaged: bool


class Arrival(Struct, frozen=True):
    """A file on its way in.

    `staged` is where its bytes are, None if it was found in the store and not
    staged. `standing_digest` is what hashing a file of that name in the store
    gave, where that had no record, and is good for `standing`.
    """

    name: str
    origin: Path
    staged: Path | None
    record: Record
    standing: Standing | None = None
    standing_digest: FileDigest | None = None


class Placed(Struct, frozen=True):
    """Where a file is in the store; `is_new` if it came there now."""

    path: Path
    record: Record
    is_new: bool


def find_standing(repository: Path, folder_name: str, name: str) -> Standing | None:
    """Find a file of that name in a repository or in its model's folder."""
    for path in (repository / name, repository / folder_name / name):
        try:
            facts = path.stat()
        except FileNotFoundError:
            if path.is_symlink():
                raise AlreadyTaken(
                    path, "it is a link to a file that is not there"
                ) from None
            continue
        except OSError as error:
            raise StoreUnwritable(path, error.strerror or str(error)) from error
        record = None
        with contextlib.suppress(BadRecord):
            record = read_record(path)
        is_damaged = read_damage(path) is not None
        stamp = (facts.st_size, facts.st_mtime_ns)
        return Standing(
            path=path,
            size_bytes=facts.st_size,
            mtime_ns=facts.st_mtime_ns,
            record=record,
            is_sound=(
                record is not None
                and not is_damaged
                and stamp == (record.size_bytes, record.mtime_ns)
            ),
            is_damaged=is_damaged,
        )
    return None


def check_unchanged(arrival: Arrival) -> None:
    """See that the staged bytes are still those that were hashed.

    Raises:
        FileChanged: Size or time moved; linked files can be written from
            outside.
    """
    if arrival.staged is None:
        return
    record = arrival.record
    try:
        facts = arrival.staged.stat()
    except OSError as error:
        raise FileChanged(arrival.origin, error.strerror or str(error)) from error
    if (facts.st_size, facts.st_mtime_ns) != (record.size_bytes, record.mtime_ns):
        raise FileChanged(
            arrival.origin,
            f"it had {record.size_bytes} bytes when its SHA-256 was computed and "
            f"now has {facts.st_size}, or was written again",
        )


def settle(arrival: Arrival, standing: Standing | None) -> Placed | None:
    """Decide about a file of the same name; None if this one is to be placed.

    Raises:
        AlreadyTaken: It has other bytes.
    """
    if standing is None:
        return None
    sha256 = arrival.record.sha256
    if standing.is_sound and standing.record is not None:
        if standing.record.sha256 == sha256:
            return Placed(path=standing.path, record=standing.record, is_new=False)
        raise AlreadyTaken(
            standing.path,
            f"its SHA-256 is {standing.record.sha256}, that of "
            f"'{arrival.origin.name}' is {sha256}",
        )
    if standing.is_damaged:
        if standing.record is None or standing.record.sha256 == sha256:
            return None
        raise AlreadyTaken(standing.path, "it is damaged and was another file")
    known = arrival.standing_digest
    if known is None or arrival.standing != standing:
        raise AlreadyTaken(
            standing.path, "it appeared or changed while this file was being imported"
        )
    if known.sha256 != sha256:
        raise AlreadyTaken(
            standing.path,
            f"its SHA-256 is {known.sha256}, that of '{arrival.origin.name}' is "
            f"{sha256}",
        )
    adopted = _adopt(arrival.record, standing)
    return Placed(path=standing.path, record=adopted, is_new=False)


def publish(
    repository: Path, folder_name: str, arrivals: Sequence[Arrival], staging: Path
) -> tuple[Placed, ...]:
    """Make all files visible; the store's lock is held.

    Args:
        repository: Folder publisher/repository; made if it is missing.
        folder_name: Folder in it for a model of several files, if others are
            there already.
        arrivals: All files of one model, staged in one folder.
        staging: Scratch folder of the same file system.

    Returns:
        In the order of `arrivals`.

    Raises:
        AlreadyTaken: A file of such a name has other bytes; nothing was
            changed.
        FileChanged: Staged bytes are not those that were hashed.
        StoreUnwritable: The system refused.
    """
    settled: dict[str, Placed] = {}
    standings: dict[str, Standing] = {}
    for arrival in arrivals:
        check_unchanged(arrival)
        standing = find_standing(repository, folder_name, arrival.name)
        placed = settle(arrival, standing)
        if standing is not None:
            standings[arrival.name] = standing
        if placed is not None:
            settled[arrival.name] = placed
    missing = [each for each in arrivals if each.name not in settled]
    try:
        if len(missing) > 1 and not standings:
            settled |= _place_folder(repository, folder_name, missing, staging)
        else:
            home = next((each.path.parent for each in standings.values()), repository)
            # Without its first shard a model is not seen: that one comes last.
            for arrival in reversed(missing):
                standing = standings.get(arrival.name)
                path = home / arrival.name if standing is None else standing.path
                settled[arrival.name] = _place_file(path, arrival, staging)
        for placed in settled.values():
            if not placed.is_new and read_standing_record(placed) != placed.record:
                write_record(placed.path, placed.record, scratch=staging)
        for folder in sorted({each.path.parent for each in settled.values()}):
            write_sums(folder, scratch=staging)
    except OSError as error:
        raise StoreUnwritable(repository, error.strerror or str(error)) from error
    return tuple(settled[each.name] for each in arrivals)


def read_standing_record(placed: Placed) -> Record | None:
    """Read the record of a placed file; None where none can be read."""
    with contextlib.suppress(BadRecord):
        return read_record(placed.path)
    return None


def _adopt(record: Record, standing: Standing) -> Record:
    """Describe a file that lay in the store without a record."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    linked = "symlink" if standing.path.is_symlink() else "copy"
    fields |= {"mtime_ns": standing.mtime_ns, "linked": linked}
    return Record(**fields)


def _place_file(path: Path, arrival: Arrival, staging: Path) -> Placed:
    if arrival.staged is None:
        raise StoreUnwritable(path, "the file vanished from the store meanwhile")
    _make_folder(path.parent)
    write_record(path, arrival.record, scratch=staging)
    arrival.staged.replace(path)
    sync_folder(path.parent)
    clear_damage(path)
    return Placed(path=path, record=arrival.record, is_new=True)


def _place_folder(
    repository: Path, folder_name: str, arrivals: Sequence[Arrival], staging: Path
) -> dict[str, Placed]:
    ready = staging / "folder"
    ready.mkdir()
    for arrival in arrivals:
        if arrival.staged is None:
            raise StoreUnwritable(
                repository / arrival.name, "the file vanished from the store meanwhile"
            )
        write_record(ready / arrival.name, arrival.record, scratch=staging)
        arrival.staged.replace(ready / arrival.name)
    write_sums(ready, scratch=staging)
    sync_folder(ready)
    target = repository
    if repository.exists() and any(repository.iterdir()):
        target = repository / folder_name
        if target.exists() and any(target.iterdir()):
            raise AlreadyTaken(target, "it is a folder that holds other files")
    _make_folder(target.parent)
    ready.replace(target)
    sync_folder(target.parent)
    return {
        each.name: Placed(path=target / each.name, record=each.record, is_new=True)
        for each in arrivals
    }


def _make_folder(path: Path) -> None:
    """Make a folder and those above it, durably."""
    if path.is_dir():
        return
    _make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def remove_source(source: Path, stored: Path) -> str | None:
    """Remove a file that was moved; say why where it could not be.

    It stays where removing it would take the store's own bytes away.
    """
    with contextlib.suppress(OSError):
        if os.path.realpath(source) == os.path.realpath(stored):
            return None
    try:
        source.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return None

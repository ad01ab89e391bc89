"""The only door into the store.

One model at a time, all of its files or none, in an order that never changes;
a step is taken only after the one before:

    size       within `MIN_FILE_BYTES` and `MAX_FILE_BYTES`, and there is room
    SHA-256    of the bytes that were read, against what was announced
    structure  the header within its bounds, all shards there (`structure`)
    record     who it is and where it came from
    publish    one rename, under the store's lock (`publish`)

Until the last step everything lies in a staging area that nobody looks at.
Sources are only read; the one exception is a move, whose source is removed
after its bytes are in the store. Files that a record already knows are not
read again.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from model_store.digest import Progress, hash_file
from model_store.errors import AlreadyTaken, BadGguf, DiskFull
from model_store.intake import (
    How,
    Incoming,
    make_content,
    receive,
    source_of,
    stat_incoming,
)
from model_store.layout import Store
from model_store.names import printable
from model_store.publish import (
    Arrival,
    Placed,
    Standing,
    find_standing,
    publish,
    remove_source,
)
from model_store.record import Record, Source
from model_store.structure import FileFacts, Part, examine
from model_store.target import Target, check_names, locate, name_folder, parse_target

__all__ = [
    "MAX_FILE_BYTES",
    "MIN_FILE_BYTES",
    "Admitted",
    "How",
    "Incoming",
    "Target",
    "admit",
    "count_bytes",
    "find_known",
    "parse_target",
]

MIN_FILE_BYTES: Final = 24
"""A GGUF header without any key."""
MAX_FILE_BYTES: Final = 16 * 2**40


class Admitted(Struct, frozen=True):
    """A model that is in the store now.

    `paths` and `records` are in the order of the files that were given.
    `was_there` if no file was added. `notes` are sentences for the user.
    """

    paths: tuple[Path, ...]
    records: tuple[Record, ...]
    was_there: bool
    notes: tuple[str, ...] = ()


def find_known(
    store: Store, files: Sequence[Incoming], target: Target, source: Source
) -> Admitted | None:
    """Tell whether the store has all these files, by its records alone.

    Nothing is hashed and nothing written. A file is known if one of the same
    name is in `target`, is as it was recorded, and either came from this
    source with this size and time, or has the digest that is expected.

    Raises:
        UnreadableFile: A file is not there.
    """
    standings = _find_all(store, files, target)
    paths: list[Path] = []
    records: list[Record] = []
    for file in files:
        standing = standings[file.name]
        if standing is None or not _is_known(file, standing, source):
            return None
        if standing.record is not None:
            paths.append(standing.path)
            records.append(standing.record)
    return Admitted(paths=tuple(paths), records=tuple(records), was_there=True)


def count_bytes(
    store: Store, files: Sequence[Incoming], target: Target, source: Source
) -> int:
    """Sum up the bytes that `admit` will read, for a progress bar.

    Raises:
        UnreadableFile: A file is not there.
    """
    standings = _find_all(store, files, target)
    return sum(
        stat_incoming(file).st_size
        for file in files
        if file.digest is None and not _is_known(file, standings[file.name], source)
    )


def admit(
    store: Store,
    staging: Path,
    files: Sequence[Incoming],
    target: Target,
    source: Source,
    *,
    progress: Progress | None = None,
) -> Admitted:
    """Take one model into the store, all files or none.

    Args:
        store: Where to.
        staging: An area of `Store.staging`, used by this call alone.
        files: A model's only file or all its shards, and its projectors; or
            projectors alone. Names are unique.
        target: Folder of the model. If a folder with other files is there, a
            model of several files gets one of its own in it.
        source: What the records say; `file` is set for each.
        progress: Told of bytes read; may raise to cancel.

    Raises:
        BadGguf: A file is no model, too small or large, or shards are missing.
        DigestMismatch: The bytes are not those announced.
        BadTarget: A name cannot be used.
        AlreadyTaken: The store has other bytes under such a name.
        CannotLink: The file system refuses the link that was asked for.
        DiskFull: There is no room.
        FileChanged: A file was written meanwhile.
        UnreadableFile: A file cannot be read.
        StoreBusy: Another process holds the store's lock too long.
        StoreUnwritable: The store cannot be written.
    """
    check_names([file.name for file in files])
    repository = locate(store, target)
    standings = _find_all(store, files, target)
    fresh = [f for f in files if not _is_known(f, standings[f.name], source)]
    _check_sizes(fresh, standings, staging)
    content = make_content(staging)
    arrivals: list[Arrival] = []
    for file in files:
        standing = standings[file.name]
        if file in fresh or standing is None or standing.record is None:
            arrivals.append(receive(file, standing, content, source, progress))
        else:
            arrivals.append(
                Arrival(
                    name=file.name,
                    origin=file.path,
                    staged=None,
                    record=standing.record,
                    standing=standing,
                )
            )
    if fresh:
        arrivals = _describe(arrivals, standings)
    with store.exclusive():
        placed = publish(
            repository, name_folder([file.name for file in files]), arrivals, staging
        )
    return Admitted(
        paths=tuple(each.path for each in placed),
        records=tuple(each.record for each in placed),
        was_there=not any(each.is_new for each in placed),
        notes=_remove_moved(files, placed),
    )


def _find_all(
    store: Store, files: Sequence[Incoming], target: Target
) -> dict[str, Standing | None]:
    repository = locate(store, target)
    folder_name = name_folder([file.name for file in files])
    return {
        file.name: find_standing(repository, folder_name, file.name) for file in files
    }


def _is_known(file: Incoming, standing: Standing | None, source: Source) -> bool:
    """Tell by the record that the store has this file."""
    if standing is None or standing.record is None or not standing.is_sound:
        return False
    record = standing.record
    if file.expected_sha256 not in {None, record.sha256}:
        return False
    facts = stat_incoming(file)
    stored = standing.path.stat()
    is_same = (facts.st_dev, facts.st_ino) == (stored.st_dev, stored.st_ino)
    if file.how == "move" or is_same:
        # What is removed afterwards must be these very bytes.
        return is_same
    if file.expected_sha256 is not None:
        return True
    return (
        file.how != "staged"
        and record.source == source_of(file, source)
        and (facts.st_size, facts.st_mtime_ns) == (record.size_bytes, record.mtime_ns)
    )


def _check_sizes(
    files: Sequence[Incoming], standings: dict[str, Standing | None], staging: Path
) -> None:
    needed = 0
    for file in files:
        size = stat_incoming(file).st_size
        if not MIN_FILE_BYTES <= size <= MAX_FILE_BYTES:
            raise BadGguf(
                file.path,
                f"it has {size} bytes; from {MIN_FILE_BYTES} to {MAX_FILE_BYTES} are "
                "accepted",
            )
        standing = standings[file.name]
        if standing is not None and standing.is_sound and standing.size_bytes != size:
            raise AlreadyTaken(
                standing.path,
                f"it has {standing.size_bytes} bytes, '{printable(file.path.name)}' "
                f"has {size}",
            )
        if file.how == "copy":
            needed += size
    free = shutil.disk_usage(staging).free
    if needed > free:
        raise DiskFull(files[0].path, needed_bytes=needed, free_bytes=free)


def _describe(
    arrivals: list[Arrival], standings: dict[str, Standing | None]
) -> list[Arrival]:
    """Check the structure of all files; complete the new records."""
    parts = []
    for arrival in arrivals:
        standing = standings[arrival.name]
        path = arrival.staged
        if path is None and standing is not None:
            path = standing.path
        parts.append(Part(arrival.name, path or arrival.origin, arrival.origin))
    facts = examine(parts)
    return [
        arrival
        if arrival.staged is None
        else msgspec.structs.replace(
            arrival, record=_complete(arrival.record, facts[arrival.name])
        )
        for arrival in arrivals
    ]


def _complete(record: Record, facts: FileFacts) -> Record:
    return msgspec.structs.replace(
        record,
        licence=facts.licence,
        architecture=facts.architecture,
        quantization=facts.quantization,
        n_params=facts.n_params,
        template_sha256=facts.template_sha256,
    )


def _remove_moved(
    files: Sequence[Incoming], placed: Sequence[Placed]
) -> tuple[str, ...]:
    """Remove what was moved; what lay in the store before is read once more."""
    notes = []
    for file, stored in zip(files, placed, strict=True):
        if file.how != "move":
            continue
        reason: str | None = None
        if not stored.is_new and not _holds(stored, file.path):
            reason = "the stored file is damaged; run `cloister verify`"
        else:
            reason = remove_source(file.path, stored.path)
        if reason is not None:
            notes.append(
                f"'{printable(str(file.path))}' is in the store, but was not removed "
                f"where it was: {reason}."
            )
    return tuple(notes)


def _holds(stored: Placed, source: Path) -> bool:
    """Tell whether a stored file has the bytes of its record."""
    return (
        source.samefile(stored.path)
        or hash_file(stored.path).sha256 == stored.record.sha256
    )

"""Finds a model in the whole store by what the records say of it."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from model_store.admission import Admitted, Incoming
from model_store.errors import BadRecord, StoreError
from model_store.intake import source_of, stat_incoming
from model_store.layout import Store
from model_store.publish import Standing, find_standing
from model_store.record import RECORD_SUFFIX, Source

_DEPTHS: Final = ("*/*", "*/*/*")


def find_elsewhere(
    store: Store, files: Sequence[Incoming], source: Source
) -> Admitted | None:
    """Tell where the store has all these files already, in one folder.

    By its records alone: a file counts if its announced digest is recorded,
    or if it came from this source with this size and time. Stored files that
    are not as they were recorded do not count.

    Raises:
        UnreadableFile: A file is not there.
    """
    found: dict[str, dict[int, Standing]] = {}
    stamps = [(facts.st_size, facts.st_mtime_ns) for facts in map(stat_incoming, files)]
    for standing in _list_standings(store):
        record = standing.record
        if record is None:
            continue
        for index, file in enumerate(files):
            is_it = (
                record.sha256 == file.expected_sha256
                if file.expected_sha256 is not None
                else record.source == source_of(file, source)
                and (record.size_bytes, record.mtime_ns) == stamps[index]
            )
            if is_it:
                found.setdefault(str(standing.path.parent), {})[index] = standing
    for places in found.values():
        if len(places) == len(files):
            standings = [places[index] for index in range(len(files))]
            return Admitted(
                paths=tuple(each.path for each in standings),
                records=tuple(each.record for each in standings if each.record),
                was_there=True,
            )
    return None


def _list_standings(store: Store) -> Iterator[Standing]:
    """List the sound files that have records, in the order of their paths."""
    for depth in _DEPTHS:
        for mark in sorted(store.models_dir.glob(f"{depth}/*{RECORD_SUFFIX}")):
            if mark.relative_to(store.models_dir).parts[0].startswith("."):
                continue
            name = mark.name.removesuffix(RECORD_SUFFIX)
            with contextlib.suppress(BadRecord, StoreError, OSError):
                standing = find_standing(mark.parent, "", name)
                if standing is not None and standing.is_sound:
                    yield standing

"""The models that lie in the models directories, sound and broken ones.

A refresh looks at every file's size and times and reads only headers it has
not seen, so it is cheap when nothing changed. Readers see one consistent
snapshot: a refresh builds the next one and swaps it in at its end.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from model_store.errors import BadGguf, UnreadableFile
from model_store.gguf import read_header
from model_store.grouping import ModelFiles, group_files, tell_missing
from model_store.names import (
    Candidate,
    Names,
    assign_names,
    fold,
    is_projector_name,
)
from model_store.scan import FoundFile, scan_directories
from model_store.summary import (
    FileKind,
    GgufSummary,
    ShardSummary,
    join_shards,
    summarize,
    summarize_shard,
    tell_kind,
)


class FileStamp(Struct, frozen=True):
    """What tells that a file was changed."""

    path: Path
    size_bytes: int
    mtime_ns: int
    inode: int


class StoredModel(Struct, frozen=True):
    """A model that can be loaded.

    `paths` are all shards in order. `publisher` and `repository` are the
    first two folders below the models directory, empty where there are none.
    `size_bytes` sums over all shards; `mtime_s` is the newest, in Unix
    seconds. `projectors` are multimodal projectors that lie with the model.
    All names are printable; `paths` are exact.
    """

    id: str
    aliases: tuple[str, ...]
    publisher: str
    repository: str
    file_name: str
    paths: tuple[Path, ...]
    stamps: tuple[FileStamp, ...]
    size_bytes: int
    mtime_s: int
    quantization: str | None
    is_embedding: bool
    summary: GgufSummary
    projectors: tuple[Path, ...]


class BrokenModel(Struct, frozen=True):
    """A file that looks like a model and cannot be loaded, and why.

    `id` is the one it has while broken; `reason` says what happened and what
    to do, and names the file.
    """

    id: str
    aliases: tuple[str, ...]
    path: Path
    reason: str


class _Reading(Struct, frozen=True):
    """What reading one file's header gave.

    Of a model `summary`, `shard` (any file but the first) or `error` is set.
    `is_lasting` is false where the file's stamp does not cover the outcome.
    """

    kind: FileKind
    summary: GgufSummary | None = None
    shard: ShardSummary | None = None
    error: str | None = None
    is_lasting: bool = True


class _Entry(Struct, frozen=True):
    """A model before it has names; `summary` or `error` is set."""

    files: ModelFiles
    summary: GgufSummary | None = None
    error: str = ""


class _Snapshot(Struct, frozen=True):
    models: tuple[StoredModel, ...] = ()
    broken: tuple[BrokenModel, ...] = ()
    notes: tuple[str, ...] = ()
    names: dict[str, StoredModel | BrokenModel] = {}


class Catalog:
    """Lists and finds the models below some directories.

    It starts empty; `refresh` fills it. Any thread may call any method.

    Args:
        directories: Models directories; where a file of the same relative
            path lies in several, the first one counts.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = tuple(directories)
        self._lock = threading.Lock()
        self._readings: dict[FileStamp, _Reading] = {}
        self._snapshot = _Snapshot()

    def refresh(self) -> None:
        """Look at the directories again. Nothing is written."""
        with self._lock:
            scan = scan_directories(self._directories)
            seen: dict[FileStamp, _Reading] = {}
            entries: list[_Entry] = []
            projectors: list[FoundFile] = []
            for group in group_files(scan.files):
                entry = self._examine(group, seen)
                if isinstance(entry, _Entry):
                    entries.append(entry)
                elif entry is FileKind.PROJECTOR:
                    projectors.extend(group.files)
            self._readings = seen
            self._snapshot = _build_snapshot(entries, projectors, scan.notes)

    def models(self) -> tuple[StoredModel, ...]:
        """List the models that can be loaded, ordered by id."""
        return self._snapshot.models

    def broken(self) -> tuple[BrokenModel, ...]:
        """List the files that look like models but are not, ordered by id."""
        return self._snapshot.broken

    def notes(self) -> tuple[str, ...]:
        """List what the last refresh could not look at, as sentences."""
        return self._snapshot.notes

    def find(self, name: str) -> StoredModel | BrokenModel | None:
        """Resolve an id or alias, without regard to case; None if unknown."""
        return self._snapshot.names.get(fold(name))

    def _examine(
        self, group: ModelFiles, seen: dict[FileStamp, _Reading]
    ) -> _Entry | FileKind:
        """Judge one model by its files; a kind is what is no model at all."""
        if is_projector_name(group.file_name):
            return FileKind.PROJECTOR
        if group.missing:
            return _Entry(files=group, error=tell_missing(group))
        first = self._recall(group.files[0], seen, is_first=True)
        if first.error is not None:
            return _Entry(files=group, error=first.error)
        if first.summary is None:
            return first.kind
        others = [self._recall(each, seen, is_first=False) for each in group.files[1:]]
        for other in others:
            if other.error is not None:
                return _Entry(files=group, error=other.error)
        shards = [each.shard for each in others if each.shard is not None]
        return _join(group, first.summary, shards)

    def _recall(
        self, file: FoundFile, seen: dict[FileStamp, _Reading], *, is_first: bool
    ) -> _Reading:
        stamp = _stamp(file)
        reading = self._readings.get(stamp) or _read(file, is_first=is_first)
        if reading.is_lasting:
            seen[stamp] = reading
        return reading


def _stamp(file: FoundFile) -> FileStamp:
    return FileStamp(
        path=file.path,
        size_bytes=file.size_bytes,
        mtime_ns=file.mtime_ns,
        inode=file.inode,
    )


def _read(file: FoundFile, *, is_first: bool) -> _Reading:
    try:
        header = read_header(file.path)
        if not is_first:
            return _Reading(FileKind.MODEL, shard=summarize_shard(header))
        kind = tell_kind(header)
        if kind is not FileKind.MODEL:
            return _Reading(kind)
        return _Reading(kind, summary=summarize(header))
    except BadGguf as error:
        return _Reading(FileKind.MODEL, error=error.message)
    except UnreadableFile as error:
        # Permissions change without a trace in the stamp: ask again.
        return _Reading(FileKind.MODEL, error=error.message, is_lasting=False)


def _join(
    group: ModelFiles, first: GgufSummary, shards: Sequence[ShardSummary]
) -> _Entry:
    try:
        _check_split(group, first, shards)
    except BadGguf as error:
        return _Entry(files=group, error=error.message)
    return _Entry(files=group, summary=join_shards(first, shards))


def _check_split(
    group: ModelFiles, first: GgufSummary, shards: Sequence[ShardSummary]
) -> None:
    """Check that the parts of a model are what their names say.

    Raises:
        BadGguf: They are not, or have no tensors.
    """
    parts: list[GgufSummary | ShardSummary] = [first, *shards]
    count = len(group.files)
    for number, shard in enumerate(parts):
        path = group.files[number].path
        if shard.split_count > 1 and group.name.shard is None:
            raise BadGguf(
                path,
                f"it says that it is part {shard.split_no + 1} of "
                f"{shard.split_count}, but its name does not end in "
                f"-{shard.split_no + 1:05}-of-{shard.split_count:05}.gguf",
            )
        if (shard.split_no, shard.split_count) != (number, count):
            raise BadGguf(
                path,
                f"its name says part {number + 1} of {count}, its header part "
                f"{shard.split_no + 1} of {shard.split_count}",
            )
    n_tensors = sum(each.n_tensors for each in parts)
    if n_tensors == 0:
        raise BadGguf(group.path, "it has no tensors, so it holds no model")
    if first.split_tensors_count not in {None, n_tensors}:
        raise BadGguf(
            group.path,
            f"it says that all parts together have {first.split_tensors_count} "
            f"tensors, but they have {n_tensors}",
        )


def _build_snapshot(
    entries: list[_Entry], projectors: list[FoundFile], notes: tuple[str, ...]
) -> _Snapshot:
    names, owners = assign_names([_candidate(entry) for entry in entries])
    results: list[StoredModel | BrokenModel] = []
    for entry, name in zip(entries, names, strict=True):
        if entry.summary is None:
            results.append(
                BrokenModel(
                    id=name.id,
                    aliases=name.aliases,
                    path=entry.files.path,
                    reason=entry.error,
                )
            )
        else:
            results.append(_build_model(entry.files, entry.summary, name, projectors))
    ordered = sorted(results, key=lambda each: each.id)
    return _Snapshot(
        models=tuple(each for each in ordered if isinstance(each, StoredModel)),
        broken=tuple(each for each in ordered if isinstance(each, BrokenModel)),
        notes=notes,
        names={name: results[index] for name, index in owners.items()},
    )


def _candidate(entry: _Entry) -> Candidate:
    files, summary = entry.files, entry.summary
    label = files.name.label
    if label is None and summary is not None and summary.quantization is not None:
        label = summary.quantization.lower()
    return Candidate(
        file=files.name,
        file_name=files.file_name,
        publisher=files.publisher,
        repository=files.repository,
        label=label or "unknown",
        is_embedding=summary is not None and summary.is_embedding,
        is_broken=summary is None,
    )


def _build_model(
    files: ModelFiles, summary: GgufSummary, names: Names, projectors: list[FoundFile]
) -> StoredModel:
    return StoredModel(
        id=names.id,
        aliases=names.aliases,
        publisher=files.publisher,
        repository=files.repository,
        file_name=files.file_name,
        paths=tuple(file.path for file in files.files),
        stamps=tuple(_stamp(file) for file in files.files),
        size_bytes=sum(file.size_bytes for file in files.files),
        mtime_s=max(file.mtime_ns for file in files.files) // 10**9,
        # The name tells variants apart that headers cannot express (Q4_K_XL).
        quantization=files.name.quantization or summary.quantization,
        is_embedding=summary.is_embedding,
        summary=summary,
        projectors=tuple(
            projector.path
            for projector in projectors
            if projector.path.parent in files.folders
        ),
    )

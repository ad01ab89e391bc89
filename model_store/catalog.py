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
from model_store.grouping import ModelFiles, check_split, group_files, tell_missing
from model_store.names import (
    Candidate,
    Names,
    assign_names,
    fold,
    is_projector_name,
)
from model_store.quarantine import tell_quarantine
from model_store.record import Damage, read_damage
from model_store.scan import FoundFile, Scan, scan_directories
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
    `is_recorded` tells whether every shard has a record beside it. All names
    are printable; `paths` are exact.
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
    is_recorded: bool


class BrokenModel(Struct, frozen=True):
    """A file that looks like a model and cannot be loaded, and why.

    `id` is the one it has while broken; `reason` says what happened and what
    to do, and names the file. `paths` are the shards that are there, `path`
    the one to blame. `summary` is None where the header cannot be used.
    """

    id: str
    aliases: tuple[str, ...]
    path: Path
    reason: str
    paths: tuple[Path, ...]
    publisher: str
    repository: str
    file_name: str
    size_bytes: int
    quantization: str | None
    projectors: tuple[Path, ...]
    is_quarantined: bool
    is_recorded: bool
    summary: GgufSummary | None


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

    @property
    def quarantined(self) -> FoundFile | None:
        """The first file that is known to be damaged."""
        return next((file for file in self.files.files if file.is_quarantined), None)

    @property
    def is_sound(self) -> bool:
        """Whether the model can be loaded."""
        return self.summary is not None and self.quarantined is None


class _Snapshot(Struct, frozen=True):
    entries: tuple[StoredModel | BrokenModel, ...] = ()
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
        self._scan: Scan | None = None
        self._snapshot = _Snapshot()

    def refresh(self) -> None:
        """Look at the directories again. Nothing is written."""
        with self._lock:
            scan = scan_directories(self._directories)
            if scan == self._scan:
                return
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
            self._scan = scan if self._is_settled(scan) else None
            self._snapshot = _build_snapshot(entries, projectors, scan.notes)

    def models(self) -> tuple[StoredModel, ...]:
        """List the models that can be loaded, ordered by id."""
        return self._snapshot.models

    def broken(self) -> tuple[BrokenModel, ...]:
        """List the files that look like models but are not, ordered by id."""
        return self._snapshot.broken

    def entries(self) -> tuple[StoredModel | BrokenModel, ...]:
        """List sound and broken models together, ordered by id."""
        return self._snapshot.entries

    def notes(self) -> tuple[str, ...]:
        """List what the last refresh could not look at, as sentences."""
        return self._snapshot.notes

    def find(self, name: str) -> StoredModel | BrokenModel | None:
        """Resolve an id or alias, without regard to case; None if unknown."""
        return self._snapshot.names.get(fold(name))

    def _is_settled(self, scan: Scan) -> bool:
        """Tell whether an equal scan would give an equal snapshot.

        A mark of damage may be rewritten, and a file that could not be read
        may be allowed; neither shows in a scan.
        """
        return not any(file.is_quarantined for file in scan.files) and all(
            _stamp(file) in self._readings or is_projector_name(file.relative[-1])
            for file in scan.files
        )

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
        paths = [file.path for file in group.files]
        check_split(group.name, paths, first, shards)
    except BadGguf as error:
        return _Entry(files=group, error=error.message)
    return _Entry(files=group, summary=join_shards(first, shards))


def _build_snapshot(
    entries: list[_Entry], projectors: list[FoundFile], notes: tuple[str, ...]
) -> _Snapshot:
    names, owners = assign_names([_candidate(entry) for entry in entries])
    results: list[StoredModel | BrokenModel] = []
    for entry, name in zip(entries, names, strict=True):
        beside = _find_projectors(entry.files, projectors)
        if entry.summary is None or not entry.is_sound:
            results.append(_build_broken(entry, name, beside))
        else:
            results.append(_build_model(entry.files, entry.summary, name, beside))
    ordered = sorted(results, key=lambda each: each.id)
    return _Snapshot(
        entries=tuple(ordered),
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
        is_broken=not entry.is_sound,
    )


def _find_projectors(
    files: ModelFiles, projectors: list[FoundFile]
) -> tuple[Path, ...]:
    return tuple(
        projector.path
        for projector in projectors
        if projector.path.parent in files.folders
    )


def _name_quantization(files: ModelFiles, summary: GgufSummary | None) -> str | None:
    # The name tells variants apart that headers cannot express (Q4_K_XL).
    header = None if summary is None else summary.quantization
    return files.name.quantization or header


def _build_broken(
    entry: _Entry, names: Names, projectors: tuple[Path, ...]
) -> BrokenModel:
    files, damaged = entry.files, entry.quarantined
    reason = entry.error
    if damaged is not None:
        # The mark may be gone by now; the next refresh will see that.
        damage = read_damage(damaged.path) or Damage("", "it was damaged", ())
        reason = tell_quarantine(damaged.path, names.id, damage)
    return BrokenModel(
        id=names.id,
        aliases=names.aliases,
        path=files.path if damaged is None else damaged.path,
        reason=reason,
        paths=tuple(file.path for file in files.files),
        publisher=files.publisher,
        repository=files.repository,
        file_name=files.file_name,
        size_bytes=sum(file.size_bytes for file in files.files),
        quantization=_name_quantization(files, entry.summary),
        projectors=projectors,
        is_quarantined=damaged is not None,
        is_recorded=all(file.is_recorded for file in files.files),
        summary=entry.summary,
    )


def _build_model(
    files: ModelFiles,
    summary: GgufSummary,
    names: Names,
    projectors: tuple[Path, ...],
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
        quantization=_name_quantization(files, summary),
        is_embedding=summary.is_embedding,
        summary=summary,
        projectors=projectors,
        is_recorded=all(file.is_recorded for file in files.files),
    )

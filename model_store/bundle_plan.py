"""Plans a bundle: which files under which names, and all their digests.

The digests are those of the records; a file without one is digested now. What
is small (records, licences) is read now and kept, so it cannot change later.
"""

import os
import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from msgspec import Struct

from model_store.bundle import (
    MAX_LICENCE_BYTES,
    BundledFile,
    BundledModel,
    FileRole,
    Manifest,
    check_manifest,
    encode_manifest,
    is_licence_name,
    render_sums,
)
from model_store.catalog import StoredModel
from model_store.digest import Progress, hash_file
from model_store.errors import Quarantined, StoreError, UnreadableFile
from model_store.names import parse_file_name, printable, quoted
from model_store.record import (
    MAX_RECORD_BYTES,
    RECORD_SUFFIX,
    Record,
    read_damage,
    read_record,
    record_path,
)
from model_store.tar_header import MAX_MTIME_S

_ODD: Final = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
_MAX_FOLDER: Final = 96
_NS: Final = 10**9


class CannotBundle(StoreError):
    """A model cannot be put into a bundle; `advice` is what to do."""

    code = "cannot_bundle"

    def __init__(self, path: Path, reason: str, advice: str) -> None:
        super().__init__(
            f"'{printable(str(path))}' cannot be put into a bundle: {reason}. {advice}",
            path=path,
            reason=reason,
        )


class Plan(Struct, frozen=True):
    """All that a bundle will hold.

    `sources` are the files by their paths in the bundle, `contents` small ones
    that were read already.
    """

    manifest: Manifest
    manifest_raw: bytes
    sums: bytes
    sources: dict[str, Path]
    contents: dict[str, bytes]

    @property
    def content_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.size_bytes for file in self.manifest.files)


def count_unrecorded(models: Sequence[StoredModel]) -> int:
    """Count the bytes that `plan_bundle` has to digest.

    Raises:
        BadRecord: A record cannot be understood.
        UnreadableFile: A file cannot be read.
    """
    paths = {path for model in models for path in (*model.paths, *model.projectors)}
    return sum(_stat(path).st_size for path in paths if read_record(path) is None)


def plan_bundle(
    models: Sequence[StoredModel], progress: Progress | None = None
) -> Plan:
    """Collect what a bundle of these models holds.

    Args:
        models: At least one; their order does not matter.
        progress: Told of the bytes of files without a record.

    Raises:
        CannotBundle: A name is not carried, or a file is not as recorded.
        Quarantined: A file is known to be damaged.
        BadRecord: A record cannot be understood.
        UnreadableFile: A file cannot be read.
        FileChanged: A file changed while it was read.
    """
    collector = _Collector(progress)
    for model in sorted(models, key=lambda each: each.paths[0]):
        collector.add(model)
    manifest = Manifest(models=tuple(collector.models), files=tuple(collector.files))
    try:
        check_manifest(manifest)
    except ValueError as error:
        raise CannotBundle(
            models[0].paths[0],
            f"{error} (as its list would say)",
            "Rename the file or its folders, or bundle the models one by one.",
        ) from error
    raw = encode_manifest(manifest)
    return Plan(
        manifest=manifest,
        manifest_raw=raw,
        sums=render_sums(manifest, raw),
        sources=collector.sources,
        contents=collector.contents,
    )


class _Collector:
    """Collects the files of models in the order of the list."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self.models: list[BundledModel] = []
        self.files: list[BundledFile] = []
        self.sources: dict[str, Path] = {}
        self.contents: dict[str, bytes] = {}

    def add(self, model: StoredModel) -> None:
        folder = "/".join(_name_folders(model))
        entries = []
        for role, paths in (
            (FileRole.MODEL, model.paths),
            (FileRole.PROJECTOR, model.projectors),
        ):
            entries += [(role, path, f"{folder}/{path.name}") for path in paths]
        if self.sources.get(entries[0][2]) == entries[0][1]:
            return  # the model was named twice
        newest = [self._add_record(path, name) for _, path, name in entries]
        self._add_licences(model, folder, max(newest))
        for role, path, name in entries:
            self._add_file(role, path, name)
        self.models.append(BundledModel(tuple(name for *_, name in entries)))

    def _add_record(self, path: Path, name: str) -> int:
        """Add the record of a file if there is one; return the file's time."""
        record = _read_sound_record(path)
        if record is None:
            return _mtime_s(_stat(path).st_mtime_ns)
        mtime_s = _mtime_s(record.mtime_ns)
        content = _read_small(record_path(path), MAX_RECORD_BYTES)
        self._add_content(FileRole.RECORD, name + RECORD_SUFFIX, content, mtime_s)
        return mtime_s

    def _add_licences(self, model: StoredModel, folder: str, mtime_s: int) -> None:
        """Add the terms that lie with a model or in the folder above its own."""
        sources = [model.paths[0].parent]
        if printable(sources[0].name) != model.repository:
            sources.append(sources[0].parent)
        for path in (path for source in sources for path in _list_licences(source)):
            content = _read_small(path, MAX_LICENCE_BYTES)
            name = f"{folder}/{path.name}"
            self._add_content(FileRole.LICENCE, name, content, mtime_s)

    def _add_content(
        self, role: FileRole, name: str, content: bytes, mtime_s: int
    ) -> None:
        if name in self.contents:
            return  # of a model that was added before
        self.contents[name] = content
        self.files.append(
            BundledFile(
                path=name,
                role=role,
                size_bytes=len(content),
                sha256=sha256(content).hexdigest(),
                mtime_s=mtime_s,
            )
        )

    def _add_file(self, role: FileRole, path: Path, name: str) -> None:
        if self.sources.get(name) == path:
            return  # a projector that several models share
        self.sources[name] = path
        record = _read_sound_record(path)
        if record is None:
            mtime_ns = _stat(path).st_mtime_ns
            digest = hash_file(path, self._progress)
            size_bytes, sha = digest.size_bytes, digest.sha256
        else:
            mtime_ns, size_bytes, sha = (
                record.mtime_ns,
                record.size_bytes,
                record.sha256,
            )
        self.files.append(
            BundledFile(
                path=name,
                role=role,
                size_bytes=size_bytes,
                sha256=sha,
                mtime_s=_mtime_s(mtime_ns),
            )
        )


def _name_folders(model: StoredModel) -> tuple[str, str]:
    """Name publisher and repository, made up where the model has none."""
    name = parse_file_name(model.paths[0].name)
    publisher = _ODD.sub("-", model.publisher).lstrip(".")[:_MAX_FOLDER] or "local"
    repository = _ODD.sub("-", model.repository or name.base_id).lstrip(".")[
        :_MAX_FOLDER
    ]
    return publisher, repository or "model"


def _read_sound_record(path: Path) -> Record | None:
    """Read a file's record; refuse a file that is not as recorded."""
    damage = read_damage(path)
    if damage is not None:
        raise Quarantined(path, damage.reason)
    record = read_record(path)
    size_bytes = _stat(path).st_size
    if record is not None and record.size_bytes != size_bytes:
        raise CannotBundle(
            path,
            f"it has {size_bytes} bytes, its record says {record.size_bytes}",
            "See 'cloister verify'.",
        )
    return record


def _list_licences(folder: Path) -> list[Path]:
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if is_licence_name(path.name) and path.is_file()
        )
    except OSError as error:
        raise UnreadableFile(folder, error.strerror or str(error)) from error


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise UnreadableFile(path, error.strerror or str(error)) from error


def _read_small(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise UnreadableFile(path, error.strerror or str(error)) from error
    if len(content) > limit:
        raise CannotBundle(
            path,
            f"it has more than {limit} bytes, too many for {quoted(path.name)}",
            "Make it shorter, or move it away.",
        )
    return content


def _mtime_s(mtime_ns: int) -> int:
    return max(0, min(mtime_ns // _NS, MAX_MTIME_S))

"""Takes the models of a bundle into the store, through admission.

In this order, a step only after the one before: structure and signature (by the
caller, see `bundle_reader`), room on the disk, conflicts with what the store
has, contents into staging areas, records, the structure of all models. Only then
the first model is admitted; so what makes a bundle unfit keeps all of it out.
Models that the store has already are compared but not written again.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from model_store.admission import Incoming, Target, admit
from model_store.bundle import (
    BadBundle,
    BundledFile,
    BundledModel,
    FileRole,
)
from model_store.bundle_reader import Bundle
from model_store.digest import CHUNK_BYTES, FileDigest, Progress, hash_stream
from model_store.errors import AlreadyTaken, DiskFull, StoreError, StoreUnwritable
from model_store.layout import Store
from model_store.names import printable, quoted
from model_store.publish import Standing, find_standing
from model_store.record import (
    MAX_TEXT,
    RECORD_SUFFIX,
    Record,
    Source,
    write_atomically,
)
from model_store.signature import Verdict
from model_store.structure import Part, examine
from model_store.target import locate, name_folder

_NS: Final = 10**9
_SPARE_BYTES: Final = 2**20


class PartlyImported(StoreError):
    """A model of a bundle was refused after others had been admitted."""

    code = "partly_imported"

    def __init__(self, error: StoreError, added: Sequence[str]) -> None:
        names = ", ".join(quoted(name) for name in added)
        super().__init__(
            f"{error.message} Before that {names} came into the store and stays there.",
            path=error.path,
            reason=error.reason,
        )


class ImportedModel(Struct, frozen=True):
    """A model of a bundle that is in the store now; `paths` as in the bundle."""

    name: str
    paths: tuple[Path, ...]
    was_there: bool


class Imported(Struct, frozen=True):
    """What an import did; `notes` are sentences for the user."""

    models: tuple[ImportedModel, ...]
    notes: tuple[str, ...]


class _Staged(Struct, frozen=True):
    """A file in a staging area."""

    path: Path
    digest: FileDigest


class _Incoming(Struct, frozen=True):
    """A model on its way in: the area is None where the store has all of it."""

    model: BundledModel
    target: Target
    standings: dict[str, Standing | None]
    area: Path | None


def import_bundle(
    store: Store, bundle: Bundle, verdict: Verdict, progress: Progress | None = None
) -> Imported:
    """Take all models of a bundle into the store.

    Args:
        store: Where to.
        bundle: Open, its structure checked.
        verdict: That of `bundle.judge`; the records name the signer.
        progress: Told of the bytes of files.

    Raises:
        BadBundle: A content is damaged or a record does not fit; nothing is
            in the store then.
        BadGguf: A file is no model; nothing is in the store then.
        AlreadyTaken: The store has another file of a name.
        PartlyImported: A model was refused after others had been admitted.
        StoreError: See `admission.admit`; nothing is in the store then.
    """
    with contextlib.ExitStack() as stack:
        return _Import(store, bundle, verdict, progress).run(stack)


class _Import:
    """One import; not to be used twice."""

    def __init__(
        self,
        store: Store,
        bundle: Bundle,
        verdict: Verdict,
        progress: Progress | None,
    ) -> None:
        self._store = store
        self._bundle = bundle
        self._verdict = verdict
        self._progress = progress
        self._digests = {file.path: file.sha256 for file in bundle.manifest.files}
        self._staged: dict[str, _Staged] = {}
        self._records: dict[str, Record] = {}
        self._licences: dict[str, bytes] = {}

    def run(self, stack: contextlib.ExitStack) -> Imported:
        incoming = [
            self._prepare(model, stack) for model in self._bundle.manifest.models
        ]
        self._check_room(incoming)
        owners = {
            path: each.area
            for each in reversed(incoming)
            for path in each.model.files
            if each.area is not None
        }
        for index, (file, read) in enumerate(self._bundle.files()):
            match file.role:
                case FileRole.MODEL | FileRole.PROJECTOR:
                    self._stage(index, file, read, owners.get(file.path))
                case FileRole.RECORD:
                    self._read_record(file, read(file.size_bytes))
                case FileRole.LICENCE:
                    self._licences[file.path] = self._check(file, read(file.size_bytes))
        for each in incoming:
            self._examine(each)
        models = self._admit_all(incoming)
        return Imported(models=models, notes=self._place_licences())

    def _prepare(self, model: BundledModel, stack: contextlib.ExitStack) -> _Incoming:
        """Find what the store has of a model; refuse what it has otherwise."""
        target = Target(publisher=model.publisher, repository=model.repository)
        repository = locate(self._store, target)
        names = [_name(path) for path in model.files]
        standings = {
            path: find_standing(repository, name_folder(names), _name(path))
            for path in model.files
        }
        for path, standing in standings.items():
            record = None if standing is None else standing.record
            if standing is None or not standing.is_sound or record is None:
                continue
            if record.sha256 != self._digests[path]:
                raise AlreadyTaken(
                    standing.path,
                    f"its SHA-256 is {record.sha256}, that of {quoted(path)} in the "
                    f"bundle is {self._digests[path]}",
                )
        is_there = all(
            each is not None and each.is_sound for each in standings.values()
        )
        area = None if is_there else stack.enter_context(self._store.staging())
        return _Incoming(model=model, target=target, standings=standings, area=area)

    def _check_room(self, incoming: list[_Incoming]) -> None:
        sizes = {file.path: file.size_bytes for file in self._bundle.manifest.files}
        fresh = {
            path
            for each in incoming
            if each.area is not None
            for path in each.model.files
        }
        needed = sum(sizes[path] for path in fresh) + _SPARE_BYTES
        self._store.create()
        free = shutil.disk_usage(self._store.models_dir).free
        if needed > free:
            raise DiskFull(self._bundle.path, needed_bytes=needed, free_bytes=free)

    def _stage(
        self,
        index: int,
        file: BundledFile,
        read: Callable[[int], bytes],
        area: Path | None,
    ) -> None:
        """Bring the content of a file into its area, or only compare it."""
        if area is None:
            digest = sha256()
            while block := read(CHUNK_BYTES):
                digest.update(block)
                self._tell(len(block))
            self._compare(file, digest.hexdigest())
            return
        path = area / f"{index}-{_name(file.path)}"
        staged = hash_stream(read, path, file.size_bytes, self._progress)
        self._compare(file, staged.sha256)
        try:
            os.utime(path, ns=(file.mtime_s * _NS, file.mtime_s * _NS))
        except OSError as error:
            raise StoreUnwritable(path, error.strerror or str(error)) from error
        self._staged[file.path] = _Staged(path=path, digest=staged)

    def _check(self, file: BundledFile, content: bytes) -> bytes:
        self._compare(file, sha256(content).hexdigest())
        self._tell(len(content))
        return content

    def _compare(self, file: BundledFile, actual: str) -> None:
        if actual != file.sha256:
            raise BadBundle(self._bundle.path, self._bundle.tell_damage(file, actual))

    def _read_record(self, file: BundledFile, content: bytes) -> None:
        path = file.path.removesuffix(RECORD_SUFFIX)
        try:
            record = msgspec.json.decode(self._check(file, content), type=Record)
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadBundle(
                self._bundle.path, f"its record {quoted(file.path)}: {error}"
            ) from error
        if record.sha256 != self._digests[path]:
            raise BadBundle(
                self._bundle.path,
                f"its record {quoted(file.path)} is of a file with the SHA-256 "
                f"{record.sha256}, {quoted(path)} has {self._digests[path]}",
            )
        self._records[path] = record

    def _examine(self, incoming: _Incoming) -> None:
        if incoming.area is None:
            return
        origin = self._bundle.path
        examine(
            [
                Part(
                    name=_name(path), path=self._staged[path].path, origin=origin / path
                )
                for path in incoming.model.files
            ]
        )

    def _admit_all(self, incoming: list[_Incoming]) -> tuple[ImportedModel, ...]:
        # Before the first is admitted, which takes its files away.
        files = [self._hand_over(each) for each in incoming]
        models: list[ImportedModel] = []
        for each, handed in zip(incoming, files, strict=True):
            try:
                models.append(self._admit(each, handed))
            except StoreError as error:
                added = [model.name for model in models if not model.was_there]
                if added:
                    raise PartlyImported(error, added) from error
                raise
        return tuple(models)

    def _admit(self, incoming: _Incoming, files: list[Incoming]) -> ImportedModel:
        model, area = incoming.model, incoming.area
        if area is None:
            paths = tuple(
                standing.path
                for standing in incoming.standings.values()
                if standing is not None
            )
            return ImportedModel(name=model.name, paths=paths, was_there=True)
        source = self._tell_source(model)
        admitted = admit(self._store, area, files, incoming.target, source)
        return ImportedModel(
            name=model.name, paths=admitted.paths, was_there=admitted.was_there
        )

    def _hand_over(self, incoming: _Incoming) -> list[Incoming]:
        """List the staged files of a model, all of them in its own area."""
        if incoming.area is None:
            return []
        files = []
        for path in incoming.model.files:
            staged = self._staged[path]
            own = incoming.area / staged.path.name
            if own != staged.path:  # a projector that several models share
                _duplicate(staged.path, own)
            files.append(
                Incoming(
                    path=own,
                    name=_name(path),
                    expected_sha256=self._digests[path],
                    expected_by="bundle",
                    how="staged",
                    digest=staged.digest,
                )
            )
        return files

    def _tell_source(self, model: BundledModel) -> Source:
        """Say where a model came from: the bundle, its signer, its own source."""
        text = printable(self._bundle.name)
        if self._verdict.trusted_as is not None and self._verdict.key is not None:
            text += f", signed by {self._verdict.key.fingerprint}"
        record = self._records.get(model.name)
        if record is None:
            return Source(kind="bundle", location=text[:MAX_TEXT])
        text += f", from {record.source.kind} {printable(record.source.location)}"
        return Source(
            kind="bundle",
            location=text[:MAX_TEXT],
            revision=record.source.revision,
            endpoint=record.source.endpoint,
        )

    def _place_licences(self) -> tuple[str, ...]:
        notes = []
        with self._store.exclusive():
            for path, content in self._licences.items():
                file = self._store.models_dir / path
                if not file.exists() and file.parent.is_dir():
                    write_atomically(file, content)
                elif file.is_file() and file.read_bytes() != content:
                    notes.append(
                        f"'{printable(str(file))}' stayed as it was; the bundle has "
                        "another one."
                    )
        return tuple(notes)

    def _tell(self, n_bytes: int) -> None:
        if self._progress is not None:
            self._progress(n_bytes)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _duplicate(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        try:
            shutil.copy2(source, target)
        except OSError as error:
            raise StoreUnwritable(target, error.strerror or str(error)) from error

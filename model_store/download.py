"""From a hub into the store: choose, fetch, compare, admit.

What was fetched is read back from the disk and compared with the SHA-256 that
the hub announced. Wrong bytes are thrown away and the file is fetched once
more from its beginning; wrong twice is an error with both digests. A finished
file stays among the partial ones until the model is in the store, so whatever
comes between, nothing is fetched twice.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from model_store.admission import Admitted, Incoming, admit, parse_target
from model_store.choice import Choice, Memory, choose
from model_store.digest import FileDigest, hash_file
from model_store.errors import BadGguf, BadRecord, DiskFull
from model_store.fetch import Hub
from model_store.hub_errors import BrokenUpstream, WrongBytes
from model_store.layout import Store
from model_store.names import is_gguf_name, printable, quoted
from model_store.partial import Progress, hold_partial, locate_partial, measure
from model_store.record import Record, Source, damage_path, read_record, write_record
from model_store.remote import RemoteFile, RemoteRepository, Wanted

ANNOUNCED_BY: Final = "hub"
_BLOCK_BYTES: Final = 2**20
_TRIES: Final = 2
_MAX_LICENCE_CHARS: Final = 200

Watch = Callable[[str, int], AbstractContextManager[Progress]]
"""Called with a task and its bytes; what is entered is told of their progress."""


class Plan(Struct, frozen=True):
    """What a download will do.

    `stored` are the files' places where the store has all of them already,
    otherwise empty. `partial_bytes` were fetched by earlier tries.
    """

    repository: RemoteRepository
    choice: Choice
    stored: tuple[Path, ...]
    partial_bytes: int

    @property
    def left_bytes(self) -> int:
        """How much is still to be fetched."""
        return 0 if self.stored else self.choice.size_bytes - self.partial_bytes


def plan_download(
    repository: RemoteRepository, store: Store, wanted: Wanted, memory: Memory
) -> Plan:
    """Choose the files and see what is there of them; nothing is written.

    Raises:
        NothingFits: No file can be chosen.
        BadTarget: The repository's name cannot be used in the store.
    """
    choice = choose(repository, wanted, memory)
    places = [locate_partial(store, repository, file) for file in choice.files]
    return Plan(
        repository=repository,
        choice=choice,
        stored=_find_stored(store, repository, choice),
        partial_bytes=sum(
            min(measure(place), file.size_bytes)
            for place, file in zip(places, choice.files, strict=True)
        ),
    )


def download(hub: Hub, store: Store, plan: Plan, watch: Watch) -> Admitted:
    """Fetch what a plan names and admit it.

    Raises:
        HubError: The hub does not give the files; `WrongBytes` if they are
            not those that it announced.
        DiskFull: They do not fit; known before the first byte.
        StoreError: As of `admit`.
    """
    store.create()
    repository = plan.repository
    with contextlib.ExitStack() as locks:
        places = []
        for file in plan.choice.files:
            place = locate_partial(store, repository, file)
            locks.enter_context(hold_partial(place, f"{repository.id}/{file.path}"))
            places.append(place)
        if plan.stored:
            return _recall(plan, places)
        _check_space(store, plan)
        incoming = [
            _complete(hub, repository, file, place, watch)
            for file, place in zip(plan.choice.files, places, strict=True)
        ]
        source = Source(
            kind="hub",
            location=repository.id,
            revision=repository.commit,
            endpoint=repository.endpoint,
        )
        target = parse_target(repository.id)
        try:
            with store.staging() as staging:
                admitted = admit(store, staging, incoming, target, source)
                return _add_licence(admitted, repository.licence, staging)
        except BadGguf as error:
            # It is so on the hub: what was fetched will never be of use.
            for place in places:
                place.unlink(missing_ok=True)
            raise BrokenUpstream(repository.id, error.reason) from error


def _recall(plan: Plan, places: list[Path]) -> Admitted:
    """Report what the store has; a kill may have left partial files of it."""
    for place in places:
        place.unlink(missing_ok=True)
    found = [(path, read_record(path)) for path in plan.stored]
    return Admitted(
        paths=tuple(path for path, _ in found),
        records=tuple(record for _, record in found if record is not None),
        was_there=True,
    )


def _complete(
    hub: Hub,
    repository: RemoteRepository,
    file: RemoteFile,
    partial: Path,
    watch: Watch,
) -> Incoming:
    """Fetch what is missing of a file, compare, and once more if it is wrong.

    Raises:
        WrongBytes: It is wrong even when fetched from the beginning.
    """
    expected = actual = ""
    for _ in range(_TRIES):
        if measure(partial) > file.size_bytes:
            partial.unlink()
        missing = file.size_bytes - measure(partial)
        if missing:
            with watch(f"Fetching {file.name}", missing) as progress:
                hub.fetch(repository, file, partial, progress)
        with watch(f"Checking {file.name}", file.size_bytes) as progress:
            digest = hash_file(partial, progress)
        expected, actual = _compare(file, partial, digest)
        if expected == actual:
            return Incoming(
                path=partial,
                name=file.name,
                expected_sha256=digest.sha256 if expected else None,
                expected_by=ANNOUNCED_BY,
                how="move",
                digest=digest,
                source_file=file.path,
            )
        partial.unlink()
    raise WrongBytes(
        f"{repository.id}/{file.path}",
        f"the bytes of {quoted(file.name)} are not those that the hub announced, "
        f"and were not when fetched once more: expected {expected}, got {actual}",
        "They were thrown away. Try again later, or another mirror by --endpoint; "
        "somebody between may be changing what passes.",
    )


def _compare(file: RemoteFile, path: Path, digest: FileDigest) -> tuple[str, str]:
    """Give the announced and the actual digest; both empty if none was."""
    if file.sha256 is not None:
        return f"SHA-256 {file.sha256}", f"SHA-256 {digest.sha256}"
    if file.git_blob is not None:
        return f"git blob {file.git_blob}", f"git blob {_hash_blob(path)}"
    return "", ""


def _hash_blob(path: Path) -> str:
    """Digest a file as git does.

    Source: Pro Git, "Git Objects": SHA-1 of "blob", the size, NUL, content.
    """
    head = f"blob {path.stat().st_size}\0".encode()
    digest = hashlib.sha1(head, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _check_space(store: Store, plan: Plan) -> None:
    free = shutil.disk_usage(store.models_dir).free
    if plan.left_bytes > free:
        raise DiskFull(store.models_dir, needed_bytes=plan.left_bytes, free_bytes=free)


def _find_stored(
    store: Store, repository: RemoteRepository, choice: Choice
) -> tuple[Path, ...]:
    """Find all files of a choice in the store; empty if one is missing."""
    folder = store.models_dir / repository.id
    known = [
        (path, record)
        for path in sorted(folder.rglob("*"))
        if is_gguf_name(path.name)
        if (record := _read_sound_record(path)) is not None
    ]
    found = []
    for file in choice.files:
        path = next(
            (path for path, record in known if _is_same(file, repository, record)),
            None,
        )
        if path is None:
            return ()
        found.append(path)
    return tuple(found)


def _read_sound_record(path: Path) -> Record | None:
    """Read a record whose file is there as it was recorded."""
    if damage_path(path).exists():
        return None
    try:
        record = read_record(path)
        facts = path.stat()
    except (BadRecord, OSError):
        return None
    if record is None:
        return None
    recorded = (record.size_bytes, record.mtime_ns)
    return record if recorded == (facts.st_size, facts.st_mtime_ns) else None


def _is_same(file: RemoteFile, repository: RemoteRepository, record: Record) -> bool:
    if file.name != record.file_name or file.size_bytes != record.size_bytes:
        return False
    if file.sha256 is not None:
        return record.sha256 == file.sha256
    source = record.source
    return (source.kind, source.location, source.revision, source.file) == (
        "hub",
        repository.id,
        repository.commit,
        file.path,
    )


def _add_licence(admitted: Admitted, licence: str | None, scratch: Path) -> Admitted:
    """Record the licence of the repository's card where the file names none."""
    text = printable(licence or "")[:_MAX_LICENCE_CHARS]
    if admitted.was_there or not text:
        return admitted
    records = tuple(
        msgspec.structs.replace(record, licence=record.licence or text)
        for record in admitted.records
    )
    for path, record in zip(admitted.paths, records, strict=True):
        write_record(path, record, scratch=scratch)
    return msgspec.structs.replace(admitted, records=records)

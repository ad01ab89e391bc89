"""Where the good bytes for a repair come from: a file, a folder, or a hub.

A copy is only a candidate. Every chunk that is read from it is held against
the recorded digest before it is used, so a copy of the right size that is
another file, or damaged itself, does no harm; of several in a folder the one
that has the chunk right is taken.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from model_store.chunks import ByteRange
from model_store.errors import StoreError, UnreadableFile
from model_store.names import printable, quoted
from model_store.record import Record, Source
from model_store.remote import (
    RemoteFile,
    RemoteRepository,
    parse_wanted,
    read_access,
)
from model_store.sizes import tell_bytes

if TYPE_CHECKING:
    from model_store.fetch import Hub

MAX_LOOKED_AT: Final = 100_000
"""Directory entries looked at in search of copies."""
MAX_COPIES: Final = 64
"""Files of the right size that are tried."""


class GoodCopyMissing(StoreError):
    """Nothing was found that could have the bytes."""

    code = "good_copy_missing"
    hint = "Name the file itself, a folder that holds it, or a repository of a hub."


class GoodCopyBad(StoreError):
    """The copy has other bytes than the record demands; `chunk` counts from 0."""

    code = "good_copy_bad"
    hint = "Repair from another copy; what was already mended stays mended."

    def __init__(
        self, copies: Sequence[str], *, file: Path, chunk: int, where: ByteRange
    ) -> None:
        named = " and ".join(quoted(name) for name in copies[:2])
        more = f" and {len(copies) - 2} more" if len(copies) > 2 else ""  # noqa: PLR2004 - as above
        reason = (
            f"chunk {chunk} (bytes {where.first}-{where.last}) of it does not have "
            "the recorded SHA-256"
        )
        super().__init__(
            f"The copy {named}{more} cannot mend '{printable(str(file))}': {reason}. "
            f"{self.hint}",
            path=file,
            reason=reason,
        )
        self.chunk = chunk


class GoodCopy(Protocol):
    """Something that may have the file's bytes."""

    @property
    def name(self) -> str:
        """What to call it in errors."""
        ...

    def read(self, first: int, n_bytes: int) -> bytes:
        """Read bytes from an offset; fewer where it ends.

        Raises:
            StoreError: They cannot be had.
        """
        ...


OpenCopies = Callable[[Path, Record], AbstractContextManager[Sequence[GoodCopy]]]
"""Finds what may have a stored file's bytes; raises `StoreError`."""


class FileCopy:
    """A file on this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """Its path."""
        return str(self._path)

    def read(self, first: int, n_bytes: int) -> bytes:
        """Read bytes; see `GoodCopy.read`."""
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(first)
                parts = []
                while n_bytes > 0 and (part := file.read(n_bytes)):
                    parts.append(part)
                    n_bytes -= len(part)
                return b"".join(parts)
        except OSError as error:
            raise UnreadableFile(self._path, error.strerror or str(error)) from error


class HubCopy:
    """A file of a repository on a hub, read range by range."""

    def __init__(
        self, hub: "Hub", repository: RemoteRepository, file: RemoteFile
    ) -> None:
        self._hub = hub
        self._repository = repository
        self._file = file

    @property
    def name(self) -> str:
        """Repository and path."""
        return f"{self._repository.id}/{self._file.path}"

    def read(self, first: int, n_bytes: int) -> bytes:
        """Read bytes; see `GoodCopy.read`."""
        return self._hub.read_range(
            self._repository, self._file, first, first + n_bytes
        )


def read_good_chunk(
    copies: Sequence[GoodCopy], *, file: Path, record: Record, chunk: int
) -> bytes:
    """Read one chunk from the first copy that has it right.

    Args:
        copies: At least one.
        file: The file to mend, for errors.
        record: Its record.
        chunk: Index from 0.

    Raises:
        GoodCopyBad: No copy has it right.
        StoreError: None of the copies can be read.
    """
    first = chunk * record.chunk_bytes
    n_bytes = min(record.chunk_bytes, record.size_bytes - first)
    failures: list[StoreError] = []
    for copy in copies:
        try:
            data = copy.read(first, n_bytes)
        except StoreError as error:
            failures.append(error)
            continue
        if hashlib.sha256(data).hexdigest() == record.chunks[chunk]:
            return data
    if len(failures) == len(copies):
        raise failures[0]
    raise GoodCopyBad(
        [copy.name for copy in copies],
        file=file,
        chunk=chunk,
        where=ByteRange(first, first + n_bytes - 1),
    )


def find_copies(place: Path, file: Path, record: Record) -> tuple[FileCopy, ...]:
    """Find files that may be good copies, those of the same name first.

    Args:
        place: A file, or a folder that is searched to its depths.
        file: The file to mend; never its own copy.
        record: Its record.

    Raises:
        GoodCopyMissing: There is none of the recorded size.
        UnreadableFile: `place` cannot be looked at.
    """
    try:
        own = _inode(file)
        if not place.is_dir():
            if place.stat().st_size != record.size_bytes:
                raise _missing(place, _tell_wrong_size(place, record))
            if _inode(place) == own:
                raise _missing(place, "it is the damaged file itself")
            return (FileCopy(place),)
    except OSError as error:
        raise UnreadableFile(place, error.strerror or str(error)) from error
    found = [
        path
        for path in _walk(place)
        if _has_size(path, record.size_bytes) and _inode(path) != own
    ]
    if not found:
        raise _missing(place, f"it holds no file of {tell_bytes(record.size_bytes)}")
    found.sort(key=lambda path: (path.name != file.name, str(path)))
    return tuple(FileCopy(path) for path in found[:MAX_COPIES])


def copies_in(place: Path) -> OpenCopies:
    """Take the bytes from a file or from files in a folder."""

    @contextmanager
    def open_copies(file: Path, record: Record) -> Iterator[Sequence[GoodCopy]]:
        yield find_copies(place, file, record)

    return open_copies


def copies_on_hub(wanted: str, environ: Mapping[str, str]) -> OpenCopies:
    """Take the bytes from a repository of a hub, range by range.

    The file that the record names is asked for at the commit that it names,
    if it came from this repository; otherwise the one of the same digest or,
    failing that, of the same name.

    Args:
        wanted: `publisher/name` or `publisher/name/file.gguf`.
        environ: See `model_store.remote.read_access`.
    """

    @contextmanager
    def open_copies(file: Path, record: Record) -> Iterator[Sequence[GoodCopy]]:
        # Only who asks for a hub loads what can reach one.
        from model_store.fetch import Hub  # noqa: PLC0415 - see above

        words = parse_wanted(wanted)
        source = record.source
        is_origin = source.kind == "hub" and source.location == words.repository
        endpoint = environ.get("HF_ENDPOINT") or (
            source.endpoint if is_origin else None
        )
        with Hub(read_access(environ, endpoint)) as hub:
            revision = source.revision if is_origin else words.revision
            repository = hub.look_up(words.repository, revision)
            names = {words.file or (source.file if is_origin else None), file.name}
            remote = _choose_remote(repository, record, names)
            yield (HubCopy(hub, repository, remote),)

    return open_copies


def _choose_remote(
    repository: RemoteRepository, record: Record, names: Collection[str | None]
) -> RemoteFile:
    """Choose the file of a repository that should have the recorded bytes.

    Raises:
        GoodCopyMissing: None has the size, and the digest or the name.
    """
    of_size = [f for f in repository.files if f.size_bytes == record.size_bytes]
    for file in of_size:
        if file.sha256 == record.sha256:
            return file
    for file in of_size:
        if file.path in names or file.name in names:
            return file
    size = tell_bytes(record.size_bytes)
    raise _missing(Path(repository.id), f"the repository has no such file of {size}")


def tell_source(source: Source) -> str:
    """Write where a file came from in one line."""
    place = printable(source.location)
    if source.file and source.file not in place:
        place = f"{place}/{printable(source.file)}"
    if source.revision:
        place = f"{place} at {printable(source.revision)}"
    if source.endpoint:
        place = f"{place} from {printable(source.endpoint)}"
    return f"{source.kind}: {place}"


def _missing(place: Path, reason: str) -> GoodCopyMissing:
    return GoodCopyMissing(
        f"No good copy at '{printable(str(place))}': {reason}. {GoodCopyMissing.hint}",
        path=place,
        reason=reason,
    )


def _tell_wrong_size(place: Path, record: Record) -> str:
    return (
        f"it has {tell_bytes(place.stat().st_size)}, the record demands "
        f"{tell_bytes(record.size_bytes)}"
    )


def _walk(folder: Path) -> Iterator[Path]:
    n_entries = 0
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            n_entries += 1
            if n_entries > MAX_LOOKED_AT:
                return
            yield Path(root, name)


def _has_size(path: Path, size_bytes: int) -> bool:
    try:
        return path.is_file() and path.stat().st_size == size_bytes
    except OSError:
        return False


def _inode(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_dev, facts.st_ino

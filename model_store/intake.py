"""Brings one file into a staging area and computes its digest.

By a copy, or by a link where the bytes need not move. A move links first: the
file is removed where it came from only after it is in the store, so at every
instant at least one of the two places has it.
"""

import errno
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from model_store.digest import (
    FileDigest,
    Progress,
    copy_and_hash,
    hash_file,
    parse_sha256,
)
from model_store.errors import (
    CannotLink,
    DigestMismatch,
    FileChanged,
    StoreUnwritable,
    UnreadableFile,
)
from model_store.names import printable
from model_store.publish import Arrival, Standing
from model_store.record import Record, Source

_NO_LINKS: Final = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EMLINK}
)

How = Literal["copy", "move", "hardlink", "symlink", "staged"]


class Incoming(Struct, frozen=True):
    """A file that wants in.

    `path` is where the bytes are, `name` what the file is to be called.
    `expected_by` says in the user's words who announced `expected_sha256`,
    e.g. "--sha256". With `how` "staged" the file lies in the staging area
    already and `digest`, if given, was computed while it was written there.
    `source_file` is its name or path at the source, None that of `path`.
    """

    path: Path
    name: str
    expected_sha256: str | None = None
    expected_by: str | None = None
    how: How = "copy"
    digest: FileDigest | None = None
    source_file: str | None = None


def stat_incoming(file: Incoming) -> os.stat_result:
    """Look at a file, links followed.

    Raises:
        UnreadableFile: It is not there or may not be looked at.
    """
    try:
        return file.path.stat()
    except OSError as error:
        raise UnreadableFile(file.path, error.strerror or str(error)) from error
    except ValueError as error:  # a path with a NUL in it
        raise UnreadableFile(file.path, str(error)) from error


def make_content(staging: Path) -> Path:
    """Make the folder in which one model's files are staged."""
    content = staging / "content"
    try:
        content.mkdir()
    except OSError as error:
        raise StoreUnwritable(content, error.strerror or str(error)) from error
    return content


def receive(
    file: Incoming,
    standing: Standing | None,
    content: Path,
    source: Source,
    progress: Progress | None,
) -> Arrival:
    """Bring one file into the staging area, digest it, compare.

    Args:
        file: What to bring.
        standing: What has its name in the store.
        content: Folder of the staging area.
        source: What the record says.
        progress: Told of bytes read.

    Returns:
        The file with a record that lacks what its content says.

    Raises:
        DigestMismatch: The bytes are not those announced.
        CannotLink: The file system refuses the link that was asked for.
        DiskFull: There is no room for the copy.
        FileChanged: The file was written meanwhile.
        UnreadableFile: It, or what stands there, cannot be read.
        StoreUnwritable: The staging area cannot be written.
    """
    staged = content / file.name
    digest, facts = _bring(file, staged, progress)
    expected = file.expected_sha256
    if expected is not None and parse_sha256(expected) != digest.sha256:
        raise DigestMismatch(
            file.path,
            expected=parse_sha256(expected),
            actual=digest.sha256,
            expected_by=file.expected_by or "the source",
        )
    return Arrival(
        name=file.name,
        origin=file.path,
        staged=staged,
        record=_record(file, digest, facts.st_mtime_ns, source),
        standing=standing,
        standing_digest=_digest_standing(standing, facts, digest),
    )


def _digest_standing(
    standing: Standing | None, facts: os.stat_result, digest: FileDigest
) -> FileDigest | None:
    """Digest a stored file that has no record, to compare with it."""
    if standing is None or standing.is_sound or standing.is_damaged:
        return None
    stored = standing.path.stat()
    if (stored.st_dev, stored.st_ino) == (facts.st_dev, facts.st_ino):
        return digest
    return hash_file(standing.path)


def _bring(
    file: Incoming, staged: Path, progress: Progress | None
) -> tuple[FileDigest, os.stat_result]:
    """Stage a file; return its digest and what it was like before hashing."""
    if file.how == "copy" or not _try_rename_or_link(file, staged):
        return copy_and_hash(file.path, staged, progress), staged.stat()
    try:
        facts = staged.stat()
        if file.digest is not None and file.digest.size_bytes == facts.st_size:
            return file.digest, facts
        return hash_file(staged, progress), facts
    except OSError as error:
        raise UnreadableFile(file.path, error.strerror or str(error)) from error
    except UnreadableFile as error:
        raise UnreadableFile(file.path, error.reason) from error
    except FileChanged as error:
        raise FileChanged(file.path, error.reason) from error


def _try_rename_or_link(file: Incoming, staged: Path) -> bool:
    """Stage a file without copying; false where a move has to copy."""
    try:
        if file.how == "staged":
            file.path.replace(staged)
        elif file.how == "symlink":
            staged.symlink_to(os.path.realpath(file.path))
        else:
            os.link(os.path.realpath(file.path), staged)
            _sync_file(staged)
    except OSError as error:
        reason = error.strerror or str(error)
        if file.how == "move" and error.errno in _NO_LINKS:
            return False
        if file.how in {"hardlink", "symlink"}:
            if error.errno == errno.EXDEV:
                reason = "it lies on another file system"
            raise CannotLink(file.path, reason) from error
        raise StoreUnwritable(staged, reason) from error
    return True


def _sync_file(path: Path) -> None:
    """Bring a file on the disk that somebody else has written."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def source_of(file: Incoming, source: Source) -> Source:
    """Say where this one file came from."""
    name = file.source_file or (
        file.name if file.how == "staged" else printable(file.path.name)
    )
    return msgspec.structs.replace(source, file=name)


def _record(
    file: Incoming, digest: FileDigest, mtime_ns: int, source: Source
) -> Record:
    return Record(
        file_name=file.name,
        size_bytes=digest.size_bytes,
        mtime_ns=mtime_ns,
        sha256=digest.sha256,
        chunks=digest.chunks,
        admitted_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        verified_against=(
            None if file.expected_sha256 is None else file.expected_by or "the source"
        ),
        source=source_of(file, source),
        licence=None,
        architecture=None,
        quantization=None,
        n_params=None,
        template_sha256=None,
        linked="copy" if file.how == "staged" else file.how,
    )

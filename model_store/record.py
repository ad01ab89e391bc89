"""What the store keeps about a file, in plain files beside it.

    model.gguf.record.json   who it is and where it came from (`Record`)
    model.gguf.damaged.json  it is damaged and not served (`Damage`)
    SHA256SUMS               for `sha256sum -c`, derived from the records

All are written under another name and renamed, so a reader sees the old or
the new one. They are read with a limit, because a folder may come from
anywhere.
"""

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from model_store.digest import CHUNK_BYTES
from model_store.errors import BadRecord, BadSums, StoreUnwritable
from model_store.layout import sync_folder
from model_store.names import is_gguf_name, quoted

SUMS_NAME: Final = "SHA256SUMS"
MAX_RECORD_BYTES: Final = 64 * 2**20
"""A file of 1 TiB has chunk digests of 17 MiB."""
MAX_SUMS_BYTES: Final = 8 * 2**20
MAX_TEXT: Final = 4096

RECORD_SUFFIX: Final = ".record.json"
DAMAGE_SUFFIX: Final = ".damaged.json"

_VERSION: Final = 1
_GNU_LINE: Final = re.compile(r"(\\?)([0-9A-Fa-f]{64})(?: [ *]?(.+))?")
_BSD_LINE: Final = re.compile(r"(\\?)SHA256 \((.+)\) ?= ?([0-9A-Fa-f]{64})")
_ESCAPES: Final = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}

Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Count = Annotated[int, Meta(ge=0, le=2**62)]


class Source(Struct, frozen=True, omit_defaults=True):
    """Where a file came from.

    `location` is a folder, a repository or a bundle as it was given, `file`
    the file's name or path in it, `endpoint` the hub's address.
    """

    kind: Literal["sideload", "hub", "bundle", "ollama"]
    location: Text
    revision: Text | None = None
    file: Text | None = None
    endpoint: Text | None = None


class Record(Struct, frozen=True, kw_only=True):
    """One file of the store, as it was admitted.

    `mtime_ns` is the stored file's. `verified_against` says whose digest was
    compared with: "--sha256", "hub", "bundle", "ollama" or a file's name such
    as "SHA256SUMS"; None where there was none. `chunks` are the SHA-256 of
    each `chunk_bytes`. `n_params` counts the whole model, of a projector its
    own. `admitted_at` is UTC, ISO 8601 with seconds.
    """

    version: int = _VERSION
    file_name: Text
    size_bytes: Count
    mtime_ns: int
    sha256: Sha256
    chunk_bytes: Annotated[int, Meta(ge=1)] = CHUNK_BYTES
    chunks: tuple[Sha256, ...]
    admitted_at: Text
    verified_against: Text | None
    source: Source
    licence: Text | None
    architecture: Text | None
    quantization: Text | None
    n_params: Count | None
    template_sha256: Sha256 | None
    linked: Literal["copy", "move", "hardlink", "symlink"]


class Damage(Struct, frozen=True):
    """Why a file is not served.

    `bad_chunks` are indices from 0; empty means that the size is wrong or the
    file cannot be read.
    """

    found_at: Text
    reason: Text
    bad_chunks: tuple[Count, ...]


def record_path(file: Path) -> Path:
    """Name the record of a file."""
    return file.with_name(file.name + RECORD_SUFFIX)


def damage_path(file: Path) -> Path:
    """Name the mark that puts a file into quarantine."""
    return file.with_name(file.name + DAMAGE_SUFFIX)


def read_record(file: Path) -> Record | None:
    """Read the record of a stored file; None where it has none.

    Raises:
        BadRecord: It cannot be read or understood.
    """
    path = record_path(file)
    raw = _read_mark(path)
    if raw is None:
        return None
    try:
        record = msgspec.json.decode(raw, type=Record)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRecord(path, str(error)) from error
    if record.version != _VERSION:
        raise BadRecord(path, f"its version is {record.version}; known is {_VERSION}")
    n_chunks = -(-record.size_bytes // record.chunk_bytes)
    if len(record.chunks) != n_chunks:
        raise BadRecord(
            path,
            f"it has {len(record.chunks)} chunk digests for {record.size_bytes} "
            f"bytes; there must be {n_chunks}",
        )
    return record


def write_record(file: Path, record: Record, *, scratch: Path | None = None) -> None:
    """Write the record of a stored file.

    Args:
        file: Need not exist.
        record: What to write.
        scratch: See `write_atomically`.

    Raises:
        StoreUnwritable: The system refused.
    """
    _write_json(record_path(file), record, scratch)


def read_damage(file: Path) -> Damage | None:
    """Tell why a file is in quarantine; None where it is not.

    A mark that cannot be read or understood is a quarantine all the same.
    """
    path = damage_path(file)
    try:
        raw = _read_mark(path)
        return None if raw is None else msgspec.json.decode(raw, type=Damage)
    except (msgspec.DecodeError, RecursionError) as error:
        reason = str(error)
    except BadRecord as error:
        reason = error.reason
    return Damage(
        found_at="",
        reason=f"the mark {quoted(path.name)} cannot be understood: {reason}",
        bad_chunks=(),
    )


def write_damage(file: Path, damage: Damage, *, scratch: Path | None = None) -> None:
    """Put a file into quarantine.

    Raises:
        StoreUnwritable: The system refused.
    """
    _write_json(damage_path(file), damage, scratch)


def clear_damage(file: Path) -> None:
    """Take a file out of quarantine; nothing happens where it is not.

    Raises:
        StoreUnwritable: The system refused.
    """
    path = damage_path(file)
    try:
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreUnwritable(path, error.strerror or str(error)) from error
    sync_folder(path.parent)


def write_atomically(path: Path, data: bytes, *, scratch: Path | None = None) -> None:
    """Write a small file so that it is seen whole or not at all.

    Args:
        path: Replaced if it exists.
        data: The whole content.
        scratch: Folder of the same file system for the unfinished file, which
            a killed process leaves behind; None means the folder of `path`.

    Raises:
        StoreUnwritable: The system refused.
    """
    folder = path.parent if scratch is None else scratch
    unfinished = folder / f".unfinished-{os.getpid()}-{secrets.token_hex(8)}"
    try:
        with unfinished.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise StoreUnwritable(path, error.strerror or str(error)) from error
    sync_folder(path.parent)


def read_sums(path: Path) -> dict[str, str]:
    """Read a list of checksums: name → digest in lower case.

    Lines as `sha256sum` writes them, with or without `--tag`, escaped names,
    blank lines and comments (#). Names are relative to the list, without
    "./". A line that is a digest alone has the name "".

    Raises:
        BadSums: It cannot be read, is too long, or a line is none of these.
    """
    try:
        raw = _read_bounded(path, MAX_SUMS_BYTES)
        text = raw.decode("utf-8-sig", "surrogateescape")
    except (OSError, ValueError) as error:
        raise BadSums(path, getattr(error, "strerror", None) or str(error)) from error
    sums: dict[str, str] = {}
    # Not splitlines: names may hold what Unicode calls a line's end.
    for number, row in enumerate(text.split("\n"), 1):
        line = row.rstrip("\r").strip(" \t")
        if not line or line.startswith("#"):
            continue
        parsed = _parse_line(line)
        if parsed is None:
            raise BadSums(
                path, f"line {number} is {quoted(line)}, which is no checksum"
            )
        name, digest = parsed
        if sums.setdefault(name, digest) != digest:
            raise BadSums(path, f"line {number} gives {quoted(name)} a second digest")
    return sums


def write_sums(folder: Path, *, scratch: Path | None = None) -> None:
    """Bring a folder's SHA256SUMS in line with the records in it.

    Lines of files that are there and have no record are kept; a list that
    cannot be understood is put aside as SHA256SUMS.unreadable. Without any
    line there is no list.

    Raises:
        StoreUnwritable: The system refused.
    """
    path = folder / SUMS_NAME
    try:
        before = path.read_bytes() if path.is_file() else b""
        lines = _keep_foreign(path) | _collect_digests(folder)
        data = "".join(
            _format_line(name, digest) for name, digest in sorted(lines.items())
        ).encode("utf-8", "surrogateescape")
        if data and data != before:
            write_atomically(path, data, scratch=scratch)
        elif not data:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreUnwritable(path, error.strerror or str(error)) from error


def _keep_foreign(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        sums = read_sums(path)
    except BadSums:
        path.replace(path.with_name(SUMS_NAME + ".unreadable"))
        return {}
    return {
        name: digest
        for name, digest in sums.items()
        if name
        and (path.parent / name).is_file()
        and not record_path(path.parent / name).exists()
    }


def _collect_digests(folder: Path) -> dict[str, str]:
    digests = {}
    for file in folder.iterdir():
        if is_gguf_name(file.name) and file.is_file():
            with contextlib.suppress(BadRecord):
                record = read_record(file)
                if record is not None:
                    digests[file.name] = record.sha256
    return digests


def _parse_line(line: str) -> tuple[str, str] | None:
    match = _GNU_LINE.fullmatch(line)
    if match is not None:
        escaped, digest, name = match.groups()
    else:
        match = _BSD_LINE.fullmatch(line)
        if match is None:
            return None
        escaped, name, digest = match.groups()
    name = name or ""
    if escaped:
        name = re.sub(r"\\[\\nr]", lambda found: _ESCAPES[found[0]], name)
    return (str(PurePosixPath(name)) if name else ""), digest.lower()


def _format_line(name: str, digest: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n"


def _write_json(path: Path, value: Struct, scratch: Path | None) -> None:
    data = msgspec.json.format(msgspec.json.encode(value), indent=1)
    write_atomically(path, data + b"\n", scratch=scratch)


def _read_mark(path: Path) -> bytes | None:
    """Read a record or mark; None where there is none."""
    try:
        return _read_bounded(path, MAX_RECORD_BYTES)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadRecord(path, reason) from error


def _read_bounded(path: Path, limit: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("it is not a regular file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it has more than {limit} bytes")
    return data

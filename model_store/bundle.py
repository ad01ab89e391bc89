"""The format of bundles: models in a plain tar that proves what it is.

    SHA256SUMS             digests of all that follows but the signature
    SHA256SUMS.sig         if signed: an OpenSSH signature of SHA256SUMS
    cloister-bundle.json   the list: files with sizes, digests and times; models
    publisher/repository/… files in the order of the list

`tar xf` and `sha256sum -c SHA256SUMS` read it without us, and so does
`cat NAME.001 NAME.002 … | tar x` where it is split.

Rules
* The list is bound to SHA256SUMS both ways: the digest of the list is its first
  line, and the other lines must be what the list says, in its order. So a
  signature of SHA256SUMS covers names, sizes, times and contents.
* Nothing in a bundle is free. From the list follow the place and bytes of every
  header, the zeros between members and the length of the whole; a bundle that
  differs in one bit from what `bundle_writer` makes of its list is refused.
* So its structure is checked by jumps from header to header before any content
  is read, and contents are read once.
* Names are the store's: publisher/repository/file, without tricks, and no two
  that a file system without case would take for one.
* The same models give the same bytes: no user, no date of making, a fixed order.

Conflicts: the list wins over the tar's headers (which must repeat it), SHA256SUMS
over the list, the signature over all.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from model_store.errors import StoreError
from model_store.names import fold, is_gguf_name, printable, quoted
from model_store.record import MAX_RECORD_BYTES, RECORD_SUFFIX, SUMS_NAME
from model_store.tar_header import (
    BLOCK_BYTES,
    MAX_MTIME_S,
    RECORD_BYTES,
    Member,
    pack_header,
    pad_to,
)

SIGNATURE_NAME: Final = "SHA256SUMS.sig"
MANIFEST_NAME: Final = "cloister-bundle.json"

FORMAT: Final = "cloister-bundle"
VERSION: Final = 1
MAX_FILES: Final = 10_000
MAX_MODELS: Final = 1_000
MAX_SUMS_BYTES: Final = 8 * 2**20
MAX_MANIFEST_BYTES: Final = 16 * 2**20
MAX_LICENCE_BYTES: Final = 2**20
MAX_FILE_BYTES: Final = 2**50
MAX_FILE_NAME_BYTES: Final = 200

_FOLDER: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,95}", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LICENCE: Final = re.compile(
    r"(?:licen[cs]e|copying|notice|(?:acceptable[_-])?use[_-]policy)"
    r"(?:[_-][a-z0-9_-]{1,40})?(?:\.(?:txt|md|pdf))?",
    re.ASCII | re.IGNORECASE,
)
_FORBIDDEN: Final = frozenset('\\:*?"<>|')
_N_PARTS: Final = 3
_END_BYTES: Final = 2 * BLOCK_BYTES


class BadBundle(StoreError):
    """The bundle breaks a rule of the format or is damaged."""

    code = "bad_bundle"
    hint = "Copy it again, or have it made again."

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The bundle '{printable(str(path))}' was refused: {reason}. {self.hint}",
            path=path,
            reason=reason,
        )


class FileRole(StrEnum):
    """What a file in a bundle is for."""

    MODEL = "model"
    PROJECTOR = "projector"
    RECORD = "record"
    LICENCE = "licence"


MAX_BYTES: Final = {
    FileRole.MODEL: MAX_FILE_BYTES,
    FileRole.PROJECTOR: MAX_FILE_BYTES,
    FileRole.RECORD: MAX_RECORD_BYTES,
    FileRole.LICENCE: MAX_LICENCE_BYTES,
}
"""Most bytes of one file."""


class BundledFile(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a bundle.

    `path` is publisher/repository/file, `mtime_s` in Unix seconds.
    """

    path: str
    role: FileRole
    size_bytes: int
    sha256: str
    mtime_s: int


class BundledModel(Struct, frozen=True, forbid_unknown_fields=True):
    """One model: the paths of its shards in order, then of its projectors."""

    files: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the model is called in texts: the path of its first file."""
        return self.files[0]

    @property
    def publisher(self) -> str:
        """The first folder of all its files."""
        return self.name.split("/")[0]

    @property
    def repository(self) -> str:
        """The second folder of all its files."""
        return self.name.split("/")[1]


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The list of a bundle, in the order of the tar."""

    format: Literal["cloister-bundle"] = FORMAT
    version: Literal[1] = VERSION
    models: tuple[BundledModel, ...]
    files: tuple[BundledFile, ...]

    @property
    def mtime_s(self) -> int:
        """The newest time of a file; the bundle's own members have it too."""
        return max((file.mtime_s for file in self.files), default=0)


class _Preamble(Struct, frozen=True):
    """What every version of the list begins with."""

    format: str
    version: int


class Place(Struct, frozen=True):
    """Where a member lies: `header` is at `offset`, its content behind it."""

    member: Member
    offset: int
    header: bytes

    @property
    def content(self) -> int:
        """Offset of the content."""
        return self.offset + len(self.header)

    @property
    def end(self) -> int:
        """Offset behind the content, before the zeros that fill its block."""
        return self.content + self.member.size_bytes


def encode_manifest(manifest: Manifest) -> bytes:
    """Write the list; the same list gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode_manifest(raw: bytes) -> Manifest:
    """Read and check the list.

    Raises:
        ValueError: It breaks a rule; the text says which, as "it …".
    """
    try:
        preamble = msgspec.json.decode(raw, type=_Preamble)
        if preamble.format != FORMAT or preamble.version != VERSION:
            raise ValueError(
                f"it is of the format {quoted(preamble.format)} version "
                f"{preamble.version}; this program reads '{FORMAT}' version {VERSION}"
            )
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"it cannot be read: {error}") from error
    if encode_manifest(manifest) != raw:
        raise ValueError("it is not in the form in which bundles are written")
    check_manifest(manifest)
    return manifest


def check_manifest(manifest: Manifest) -> None:
    """Check what types cannot say.

    Raises:
        ValueError: It breaks a rule; the text says which, as "it …".
    """
    n_files, n_models = len(manifest.files), len(manifest.models)
    if not 0 < n_models <= MAX_MODELS or n_files > MAX_FILES:
        raise ValueError(
            f"it has {n_models} models and {n_files} files; 1 to {MAX_MODELS} and at "
            f"most {MAX_FILES} are accepted"
        )
    for file in manifest.files:
        _check_file(file)
    check_collisions([file.path for file in manifest.files])
    roles = {file.path: file.role for file in manifest.files}
    for model in manifest.models:
        _check_model(model, roles)
    _check_uses(manifest, roles)


def _check_uses(manifest: Manifest, roles: dict[str, FileRole]) -> None:
    uses = Counter(path for model in manifest.models for path in model.files)
    for path, role in roles.items():
        if role is FileRole.RECORD and path.removesuffix(RECORD_SUFFIX) not in uses:
            raise ValueError(f"it has the record {quoted(path)} without its file")
        is_model = role in {FileRole.MODEL, FileRole.PROJECTOR}
        if is_model and path not in uses:
            raise ValueError(f"it has the file {quoted(path)}, which no model uses")
        if role is FileRole.MODEL and uses[path] > 1:
            raise ValueError(f"it has the file {quoted(path)} in {uses[path]} models")


def _check_model(model: BundledModel, roles: dict[str, FileRole]) -> None:
    if not model.files or roles.get(model.name) is not FileRole.MODEL:
        raise ValueError("it has a model without a file")
    folder = f"{model.publisher}/{model.repository}"
    is_projector = False
    for path in model.files:
        role = roles.get(path)
        is_projector = is_projector or role is FileRole.PROJECTOR
        wanted = FileRole.PROJECTOR if is_projector else FileRole.MODEL
        if role is not wanted or path.rpartition("/")[0] != folder:
            raise ValueError(
                f"it has the model {quoted(model.name)} with {quoted(path)}, which is "
                f"no such file of {quoted(folder)}"
            )
    if len(model.files) != len({*model.files}):
        raise ValueError(f"it has the model {quoted(model.name)} with a file twice")


def _check_file(file: BundledFile) -> None:
    check_path(file.path)
    most = MAX_BYTES[file.role]
    if not 0 <= file.size_bytes <= most:
        raise ValueError(
            f"it gives {quoted(file.path)} {file.size_bytes} bytes; 0 to {most} are "
            "accepted"
        )
    if not 0 <= file.mtime_s <= MAX_MTIME_S or not _DIGEST.fullmatch(file.sha256):
        raise ValueError(f"it gives {quoted(file.path)} a wrong time or digest")
    if not _fits(file.role, file.path.rpartition("/")[2]):
        raise ValueError(f"it has {quoted(file.path)} as {file.role.value}")


def _fits(role: FileRole, name: str) -> bool:
    """Tell whether a file of this name may have the role.

    Names decide what the store does with a file, so none may come in by a
    role that is not looked at.
    """
    match role:
        case FileRole.MODEL | FileRole.PROJECTOR:
            return is_gguf_name(name)
        case FileRole.RECORD:
            return is_gguf_name(name.removesuffix(RECORD_SUFFIX)) and name.endswith(
                RECORD_SUFFIX
            )
        case FileRole.LICENCE:
            return is_licence_name(name)


def is_licence_name(name: str) -> bool:
    """Tell whether a file beside a model holds terms of use."""
    return _LICENCE.fullmatch(name) is not None


def check_path(path: str) -> None:
    """Check the name of a file of a model.

    Raises:
        ValueError: It is not publisher/repository/file, or a part of it would
            not mean the same everywhere; the text says which, as "it …".
    """
    parts = path.split("/")
    if len(parts) != _N_PARTS:
        raise ValueError(
            f"it has the name {quoted(path)}, which is not publisher/repository/file"
        )
    *folders, name = parts
    for folder in folders:
        if not _FOLDER.fullmatch(folder):
            raise ValueError(
                f"it has the folder {quoted(folder)}; 1 to 96 of the characters "
                "A-Z a-z 0-9 . _ - are accepted, the first one not a dot"
            )
    is_plain = (
        name.isprintable()
        and not _FORBIDDEN & {*name}
        and name == unicodedata.normalize("NFC", name)
        and name == name.strip(" ")
        and not name.startswith((".", "-"))
        and not name.endswith(".")
    )
    if not is_plain or not 0 < len(name.encode()) <= MAX_FILE_NAME_BYTES:
        raise ValueError(
            f"it has the file name {quoted(name)}, which is not carried: names have 1 "
            f"to {MAX_FILE_NAME_BYTES} bytes of printable characters without "
            f"{''.join(sorted(_FORBIDDEN))}, no dot or '-' before, no dot behind"
        )


def check_collisions(paths: Sequence[str]) -> None:
    """Check that no two names are one where case does not count.

    Raises:
        ValueError: Two are; the text names them, as "it …".
    """
    seen: dict[str, str] = {}
    for path in paths:
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            start = "/".join(parts[:end])
            first = seen.setdefault(fold(start), start)
            if first != start:
                raise ValueError(
                    f"it has {quoted(first)} and {quoted(start)}, which differ only "
                    "in case"
                )
    for path, count in Counter(paths).items():
        if count > 1:
            raise ValueError(f"it has {quoted(path)} {count} times")


def render_sums(manifest: Manifest, manifest_raw: bytes) -> bytes:
    """Write SHA256SUMS, as `sha256sum` reads it."""
    digests = [(MANIFEST_NAME, sha256(manifest_raw).hexdigest())]
    digests += [(file.path, file.sha256) for file in manifest.files]
    return "".join(f"{digest}  {name}\n" for name, digest in digests).encode()


def lay_out(members: Sequence[Member]) -> Iterator[Place]:
    """Place members one behind the other, in the order of the tar."""
    offset = 0
    for member in members:
        place = Place(member=member, offset=offset, header=pack_header(member))
        yield place
        offset = place.end + pad_to(place.end, BLOCK_BYTES)


def total_bytes(last: Place) -> int:
    """Count the bytes of a bundle from its last member."""
    end = last.end + pad_to(last.end, BLOCK_BYTES) + _END_BYTES
    return end + pad_to(end, RECORD_BYTES)


def list_members(
    manifest: Manifest, manifest_raw: bytes, sums: bytes, signature: bytes | None
) -> tuple[Member, ...]:
    """Tell the members of a bundle in order; see the head of this file."""
    mtime_s = manifest.mtime_s
    own = [(SUMS_NAME, sums)]
    if signature is not None:
        own.append((SIGNATURE_NAME, signature))
    own.append((MANIFEST_NAME, manifest_raw))
    return (
        *(Member(name, len(content), mtime_s) for name, content in own),
        *(Member(each.path, each.size_bytes, each.mtime_s) for each in manifest.files),
    )

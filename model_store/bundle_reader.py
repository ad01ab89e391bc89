"""Reads bundles: structure first, then the signature, then contents once.

`open_bundle` checks all that can be known without reading contents: the list,
SHA256SUMS, every header, every zero between members, the length. What it opened
can only still be wrong in contents and in who signed it.
"""

import contextlib
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

from model_store.bundle import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    MAX_SUMS_BYTES,
    SIGNATURE_NAME,
    BadBundle,
    BundledFile,
    Manifest,
    Place,
    decode_manifest,
    lay_out,
    list_members,
    render_sums,
    total_bytes,
)
from model_store.digest import CHUNK_BYTES, Progress
from model_store.names import quoted
from model_store.parts import BadParts, Parts, bundle_name, find_parts
from model_store.record import SUMS_NAME
from model_store.signature import (
    MAX_SIGNATURE_BYTES,
    Policy,
    Verdict,
    judge,
)
from model_store.ssh_keys import TrustedKey
from model_store.tar_header import (
    BLOCK_BYTES,
    BadHeaderError,
    Member,
    pad_to,
    read_member,
)

_MAX_NAMED: Final = 8


class Bundle:
    """An open bundle whose structure was checked; see `open_bundle`.

    `path` is as it was given, `paths` are its files in order, `name` is the file
    name without the number of a part. Not thread-safe.
    """

    def __init__(self, path: Path, parts: Parts) -> None:
        self.path = path
        self.name = bundle_name(parts.paths[0])
        self.paths = parts.paths
        self.size_bytes = parts.size_bytes
        self._parts = parts
        self._sums, self._signature, raw = self._read_own()
        self.manifest = self._decode(raw)
        members = list_members(self.manifest, raw, self._sums, self._signature)
        self._places = list(lay_out(members))
        self._check_length()
        for place in self._places:
            self._check_place(place)
        self._check_end()

    @property
    def content_bytes(self) -> int:
        """Bytes of all files of the list together."""
        return sum(file.size_bytes for file in self.manifest.files)

    def judge(self, policy: Policy, trusted: tuple[TrustedKey, ...]) -> Verdict:
        """Check the signature.

        Raises:
            BadSignature: It is malformed, for another purpose, or does not fit.
            UntrustedBundle: `policy` requires more than there is.
        """
        return judge(
            self.path, self._sums, self._signature, policy=policy, trusted=trusted
        )

    def files(self) -> Iterator[tuple[BundledFile, Callable[[int], bytes]]]:
        """Give each file of the list with a function that reads its content.

        The function gives up to so many bytes and none at the content's end;
        it can be used until the next file is asked for.
        """
        n_own = len(self._places) - len(self.manifest.files)
        for file, place in zip(self.manifest.files, self._places[n_own:], strict=True):
            self._parts.seek(place.content)

            def read(n_bytes: int, place: Place = place) -> bytes:
                left = place.end - self._parts.position
                return self._parts.read(max(0, min(n_bytes, left)))

            yield file, read

    def check_contents(self, progress: Progress | None = None) -> None:
        """Digest all files, to the end even where some are damaged.

        Args:
            progress: Told of the bytes of files.

        Raises:
            BadBundle: Some are not as listed; the text names them.
            BadParts: A file of the bundle changed meanwhile.
            UnreadableFile: The system refused.
        """
        damaged = []
        for file, read in self.files():
            digest = sha256()
            while block := read(CHUNK_BYTES):
                digest.update(block)
                if progress is not None:
                    progress(len(block))
            if digest.hexdigest() != file.sha256:
                damaged.append(self.tell_damage(file, digest.hexdigest()))
        if damaged:
            raise BadBundle(self.path, "; ".join(damaged))

    def tell_damage(self, file: BundledFile, actual: str) -> str:
        """Say that the content of a file is not as listed, and where it lies."""
        n_own = len(self._places) - len(self.manifest.files)
        place = self._places[n_own + self.manifest.files.index(file)]
        first = self._parts.name_at(place.content)
        last = self._parts.name_at(max(place.content, place.end - 1))
        return (
            f"the content of {quoted(file.path)} is damaged: its SHA-256 is {actual}, "
            f"{SUMS_NAME} says {file.sha256} (it lies from {first} to {last})"
        )

    def _bad(self, reason: str) -> BadBundle:
        return BadBundle(self.path, reason)

    def _read_own(self) -> tuple[bytes, bytes | None, bytes]:
        """Read SHA256SUMS, its signature if any, and the list."""
        sums = self._read_first({SUMS_NAME: MAX_SUMS_BYTES})[1]
        name, content = self._read_first(
            {SIGNATURE_NAME: MAX_SIGNATURE_BYTES, MANIFEST_NAME: MAX_MANIFEST_BYTES}
        )
        if name == MANIFEST_NAME:
            return sums, None, content
        return sums, content, self._read_first({MANIFEST_NAME: MAX_MANIFEST_BYTES})[1]

    def _read_first(self, limits: dict[str, int]) -> tuple[str, bytes]:
        """Read the next member, which must be one of these."""
        start = self._parts.position
        where = self._parts.name_at(start)
        try:
            member = read_member(self._parts.read)
        except BadHeaderError as error:
            raise self._bad(f"at {where}, {error}") from error
        wanted = " or ".join(quoted(name) for name in limits)
        if member is None or member.path not in limits:
            found = "its end" if member is None else quoted(member.path)
            raise self._bad(f"at {where} is {found} and not {wanted}")
        limit = limits[member.path]
        if member.size_bytes > limit:
            raise self._bad(
                f"{quoted(member.path)} has {member.size_bytes} bytes; at most {limit} "
                "are accepted"
            )
        content = self._parts.read(member.size_bytes)
        padding = pad_to(member.size_bytes, BLOCK_BYTES)
        self._parts.read(padding)
        if len(content) < member.size_bytes:
            raise BadParts(self.path, f"it ends within {quoted(member.path)}")
        return member.path, content

    def _decode(self, raw: bytes) -> Manifest:
        digest = sha256(raw).hexdigest()
        if not self._sums.startswith(f"{digest}  {MANIFEST_NAME}\n".encode()):
            raise self._bad(
                f"its list '{MANIFEST_NAME}' has the SHA-256 {digest}, which is not in "
                f"the first line of {SUMS_NAME}"
            )
        try:
            manifest = decode_manifest(raw)
        except ValueError as error:
            raise self._bad(
                f"its list '{MANIFEST_NAME}' is not accepted: {error}"
            ) from error
        expected = render_sums(manifest, raw)
        if self._sums != expected:
            pairs = zip(
                expected.split(b"\n"), [*self._sums.split(b"\n"), b""], strict=False
            )
            number = next((n for n, (a, b) in enumerate(pairs, 1) if a != b), 1)
            raise self._bad(
                f"its {SUMS_NAME} differs from its list '{MANIFEST_NAME}' from line "
                f"{number} on"
            )
        return manifest

    def _check_length(self) -> None:
        needed = total_bytes(self._places[-1])
        if self.size_bytes < needed:
            last = self.paths[-1].name
            raise BadParts(
                self.path,
                f"it has {self.size_bytes} bytes and must have {needed}; "
                f"{needed - self.size_bytes} are missing behind the end of "
                f"{quoted(last)}",
            )

    def _check_place(self, place: Place) -> None:
        """Check a header against the one that follows from the list."""
        self._parts.seek(place.offset)
        header = self._parts.read(len(place.header))
        where = self._parts.name_at(place.offset)
        if header != place.header:
            wanted = quoted(place.member.path)
            raise self._bad(
                f"at {where}, where {wanted} should begin, {self._explain(place)}"
            )
        self._parts.seek(place.end)
        if any(self._parts.read(pad_to(place.end, BLOCK_BYTES))):
            where = self._parts.name_at(place.end)
            raise self._bad(f"at {where} is something that is not listed")

    def _explain(self, place: Place) -> str:
        """Say what lies where another header was expected."""
        self._parts.seek(place.offset)
        try:
            found = read_member(self._parts.read)
        except BadHeaderError as error:
            return str(error)
        if found is None:
            return "is nothing"
        return f"is {_describe(found)}; listed is {_describe(place.member)}"

    def _check_end(self) -> None:
        position = self._places[-1].end
        position += pad_to(position, BLOCK_BYTES)
        self._parts.seek(position)
        total = total_bytes(self._places[-1])
        if any(self._parts.read(total - position)):
            self._parts.seek(position)
            found = "something"
            with contextlib.suppress(BadHeaderError):
                member = read_member(self._parts.read)
                found = "something" if member is None else quoted(member.path)
            where = self._parts.name_at(position)
            raise self._bad(f"behind its last file, at {where}, is {found} unlisted")
        if self.size_bytes > total:
            raise self._bad(
                f"{self.size_bytes - total} bytes follow its end at "
                f"{self._parts.name_at(total)}"
            )


@contextlib.contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """Open a bundle and check its structure.

    Args:
        path: Its file, one of its parts, or the name the parts have in common.

    Raises:
        BadBundle: It breaks a rule of the format.
        BadParts: Parts are missing, cut, or do not fit together.
        UnreadableFile: A file is missing or cannot be read.
    """
    with Parts(find_parts(path)) as parts:
        yield Bundle(path, parts)


def _describe(member: Member) -> str:
    return f"{quoted(member.path)} of {member.size_bytes} bytes"

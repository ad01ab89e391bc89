"""Ed25519 keys in the files of OpenSSH, and the folder of those that are trusted.

Keys come from `ssh-keygen -t ed25519`, with or without a passphrase. Other kinds
are refused: one kind leaves nothing to negotiate.

Source: PROTOCOL.key of OpenSSH, RFC 8709 (keys), RFC 4251 (strings).
"""

import base64
import binascii
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from model_store.errors import StoreError
from model_store.names import printable

KEY_TYPE: Final = b"ssh-ed25519"
MAX_KEY_BYTES: Final = 64 * 2**10
MAX_TRUSTED_FILES: Final = 1_024

_KEY_BYTES: Final = 32
_MAX_COMMENT: Final = 80


class BadKey(StoreError):
    """A key file cannot be used."""

    code = "bad_key"
    hint = "Make a key with 'ssh-keygen -t ed25519' or 'cloister bundle key create'."

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The key '{printable(str(path))}' cannot be used: {reason}. {self.hint}",
            path=path,
            reason=reason,
        )


class PublicKey(Struct, frozen=True):
    """An Ed25519 key of 32 bytes; `comment` is printable, perhaps empty."""

    raw: bytes
    comment: str = ""

    @property
    def blob(self) -> bytes:
        """The key as it is inside signatures and key files."""
        return pack(KEY_TYPE) + pack(self.raw)

    @property
    def fingerprint(self) -> str:
        """The name by which `ssh-keygen -l` shows the key."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest())
        return f"SHA256:{digest.decode().rstrip('=')}"

    @property
    def line(self) -> str:
        """The line of a `.pub` file."""
        text = f"{KEY_TYPE.decode()} {base64.b64encode(self.blob).decode()}"
        return f"{text} {self.comment}".rstrip()


class TrustedKey(Struct, frozen=True):
    """A key of the trust folder and the file that it is from."""

    key: PublicKey
    path: Path


def load_private_key(
    path: Path, ask_passphrase: Callable[[], str]
) -> Ed25519PrivateKey:
    """Read a private key in OpenSSH's format.

    Args:
        path: The file without `.pub`.
        ask_passphrase: Called only where the key is protected by one.

    Raises:
        BadKey: No Ed25519 private key, or the passphrase is wrong.
    """
    content = _read_key_file(path)
    try:
        private = _open_private(content, None)
    except TypeError:  # how the library says that a passphrase is needed
        try:
            private = _open_private(content, ask_passphrase().encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise BadKey(path, "the passphrase is wrong") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadKey(path, "it is no private key in OpenSSH's format") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise BadKey(path, "it is no Ed25519 key; no other kind is accepted")
    return private


def make_private_key(passphrase: str | None) -> tuple[bytes, Ed25519PrivateKey]:
    """Make a new key.

    Args:
        passphrase: Protects the file; None or empty leaves it unprotected.

    Returns:
        The content of the private key's file, and the key.
    """
    private = Ed25519PrivateKey.generate()
    protection: serialization.KeySerializationEncryption
    protection = serialization.NoEncryption()
    if passphrase:
        protection = serialization.BestAvailableEncryption(passphrase.encode())
    content = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        protection,
    )
    return content, private


def read_public_key(path: Path) -> PublicKey:
    """Read the key of a `.pub` file.

    Raises:
        BadKey: The file cannot be read or its only line is no Ed25519 key.
    """
    text = _read_key_file(path)
    fields = text.split(maxsplit=2)
    if text.startswith(b"-----BEGIN"):
        raise BadKey(path, "it is a private key; the public one is in the .pub file")
    kind, encoded, comment = (*fields, b"", b"", b"")[:3]
    if kind != KEY_TYPE:
        raise BadKey(path, "it is no public Ed25519 key (ssh-ed25519 AAAA…)")
    try:
        blob = base64.b64decode(encoded, validate=True)
        key = parse_public_key(BlobReader(blob))
    except (binascii.Error, ValueError) as error:
        raise BadKey(path, f"it is damaged: {error}") from error
    if len(text.strip().splitlines()) > 1:
        raise BadKey(path, "it has several lines; one key a file is accepted")
    shown = printable(comment.decode("utf-8", "replace"))
    return PublicKey(key.raw, shown[:_MAX_COMMENT].strip())


def load_trusted(folder: Path) -> tuple[TrustedKey, ...]:
    """Read the keys of a trust folder, ordered by file name.

    Only files called `*.pub` count; a folder that does not exist is empty.

    Raises:
        BadKey: One of the files is no usable key, or there are too many:
            a key that is left out in silence would be looked for in vain.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".pub")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise BadKey(folder, error.strerror or str(error)) from error
    if len(paths) > MAX_TRUSTED_FILES:
        raise BadKey(
            folder, f"it has {len(paths)} keys; at most {MAX_TRUSTED_FILES} are read"
        )
    return tuple(TrustedKey(key=read_public_key(path), path=path) for path in paths)


def _open_private(content: bytes, passphrase: bytes | None) -> object:
    return serialization.load_ssh_private_key(content, passphrase)


def _read_key_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_KEY_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadKey(path, reason) from error
    if len(content) > MAX_KEY_BYTES:
        raise BadKey(path, f"it has more than {MAX_KEY_BYTES} bytes")
    return content


def pack(content: bytes) -> bytes:
    """Write a string as RFC 4251 does: its length, then its bytes."""
    return struct.pack(">I", len(content)) + content


class BlobReader:
    """Takes strings from a blob; `ValueError` where it ends early."""

    def __init__(self, blob: bytes) -> None:
        self._blob = blob

    def take(self, n_bytes: int) -> bytes:
        """Take so many bytes."""
        piece, self._blob = self._blob[:n_bytes], self._blob[n_bytes:]
        if len(piece) < n_bytes:
            raise ValueError("it ends early")
        return piece

    def string(self) -> bytes:
        """Take a string with its length before it."""
        return self.take(int.from_bytes(self.take(4), "big"))

    def end(self) -> None:
        """See that nothing is left."""
        if self._blob:
            raise ValueError(f"{len(self._blob)} bytes follow its end")


def parse_public_key(reader: BlobReader) -> PublicKey:
    """Read a key as it is inside signatures and key files.

    Raises:
        ValueError: It is no Ed25519 key, or damaged.
    """
    kind = reader.string()
    if kind != KEY_TYPE:
        raise ValueError(f"the key is of the type {kind[:40]!r} and not {KEY_TYPE!r}")
    raw = reader.string()
    reader.end()
    if len(raw) != _KEY_BYTES:
        raise ValueError(f"the key has {len(raw)} bytes and not {_KEY_BYTES}")
    return PublicKey(raw)

"""Signatures of bundles: Ed25519 keys and signatures as OpenSSH writes them.

What is signed is the text of SHA256SUMS, in the format SSHSIG:

    "SSHSIG", version 1, public key, namespace, reserved, hash name, signature

The signature covers namespace, hash name and the hash of the text, so that a
signature made for another purpose does not pass for one of a bundle. Keys come
from `ssh-keygen -t ed25519` and signatures can be made and checked by
`ssh-keygen -Y` alone; neither needs a network, a clock or an authority.

Who is trusted is a folder of public keys. `Policy` says what that means:
off     signatures are not looked at
warn    a bundle without a trusted signature is taken, with a warning
require it is refused
A signature that does not fit the text is refused under both of the last two:
whoever made it, the bundle is not what was signed.

Source: PROTOCOL.sshsig of OpenSSH, RFC 8709 (keys), RFC 4251 (strings).
"""

import base64
import hashlib
import struct
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from msgspec import Struct

from model_store.errors import StoreError
from model_store.names import printable
from model_store.ssh_keys import (
    KEY_TYPE,
    BlobReader,
    PublicKey,
    TrustedKey,
    load_private_key,
    make_private_key,
    pack,
    parse_public_key,
)

NAMESPACE: Final = "cloister-bundle"
MAX_SIGNATURE_BYTES: Final = 8 * 2**10
_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_SIGNATURE_BYTES: Final = 64
_HASHES: Final = (b"sha512", b"sha256")
_BEGIN: Final = b"-----BEGIN SSH SIGNATURE-----"
_END: Final = b"-----END SSH SIGNATURE-----"
_LINE_CHARS: Final = 70


class Policy(StrEnum):
    """What is asked of a bundle's signature; see the head of this file."""

    OFF = "off"
    WARN = "warn"
    REQUIRE = "require"


class BadSignature(StoreError):
    """The signature is broken or does not fit what it came with."""

    code = "bad_signature"
    hint = "Do not use the bundle; get it again from whoever signed it."

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The bundle '{printable(str(path))}' is not what was signed: "
            f"{reason}. {self.hint}",
            path=path,
            reason=reason,
        )


class UntrustedBundle(StoreError):
    """The bundle is not signed by a key that is trusted here."""

    code = "untrusted_bundle"
    hint = (
        "If the bundle is from somebody you trust, add their public key with "
        "'cloister bundle key trust FILE.pub', or use --policy warn."
    )

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The bundle '{printable(str(path))}' was refused: {reason}. {self.hint}",
            path=path,
            reason=reason,
        )


class Verdict(Struct, frozen=True):
    """What is known of a bundle's signature.

    `key` is None where there is none or it was not looked at. `trusted_as` is
    the file name in the trust folder. `warning` is a sentence for the user.
    """

    policy: Policy
    key: PublicKey | None = None
    trusted_as: str | None = None
    warning: str | None = None


class Signer:
    """Holds a private key.

    Args:
        private: The key; see `load_signer` and `create_key`.
    """

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        raw = private.public_key().public_bytes_raw()
        self.key = PublicKey(raw)

    def sign(self, text: bytes) -> bytes:
        """Make the signature file of a text."""
        name = _HASHES[0]
        signature = self._private.sign(_signed_part(name, text))
        blob = (
            _MAGIC
            + struct.pack(">I", _VERSION)
            + pack(self.key.blob)
            + pack(NAMESPACE.encode())
            + pack(b"")
            + pack(name)
            + pack(pack(KEY_TYPE) + pack(signature))
        )
        encoded = base64.b64encode(blob)
        lines = [
            encoded[start : start + _LINE_CHARS]
            for start in range(0, len(encoded), _LINE_CHARS)
        ]
        return b"\n".join((_BEGIN, *lines, _END, b""))


def load_signer(path: Path, ask_passphrase: Callable[[], str]) -> Signer:
    """Read a private key; see `ssh_keys.load_private_key`.

    Raises:
        BadKey: No Ed25519 private key, or the passphrase is wrong.
    """
    return Signer(load_private_key(path, ask_passphrase))


def create_key(passphrase: str | None) -> tuple[bytes, Signer]:
    """Make a new key; return the content of its file, and the key.

    Args:
        passphrase: Protects the file; None or empty leaves it unprotected.
    """
    content, private = make_private_key(passphrase)
    return content, Signer(private)


def default_policy(trusted: tuple[TrustedKey, ...]) -> Policy:
    """Choose the policy where nobody did.

    Who has put a key into the trust folder wants signatures checked; without
    any key no signature could pass.
    """
    return Policy.REQUIRE if trusted else Policy.WARN


def judge(
    path: Path,
    text: bytes,
    signature: bytes | None,
    *,
    policy: Policy,
    trusted: tuple[TrustedKey, ...],
) -> Verdict:
    """Check the signature of a bundle.

    Args:
        path: The bundle, named in errors.
        text: What was signed.
        signature: The signature file; None where there is none.
        policy: What is asked of it.
        trusted: Keys that may have made it.

    Raises:
        BadSignature: It is malformed, for another purpose, or does not fit.
        UntrustedBundle: `policy` requires more than there is.
    """
    if policy is Policy.OFF:
        return Verdict(policy)
    if signature is None:
        return _doubt(path, policy, None, "it is not signed")
    key = verify(path, text, signature)
    for each in trusted:
        if each.key.raw == key.raw:
            found = PublicKey(key.raw, each.key.comment)
            return Verdict(policy, key=found, trusted_as=each.path.name)
    known = (
        ", ".join(f"{each.path.name} {each.key.fingerprint}" for each in trusted[:8])
        or "none"
    )
    return _doubt(
        path,
        policy,
        key,
        f"its signature is by the key {key.fingerprint}, which is not trusted here "
        f"(trusted: {printable(known)})",
    )


def verify(path: Path, text: bytes, signature: bytes) -> PublicKey:
    """Check that a signature file fits a text; trust is another question.

    Returns:
        The key that made it.

    Raises:
        BadSignature: It is malformed, for another purpose, or does not fit.
    """
    try:
        key, name, raw = _parse(signature)
    except ValueError as error:
        raise BadSignature(path, f"its signature is unusable: {error}") from error
    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(
            raw, _signed_part(name, text)
        )
    except (InvalidSignature, ValueError) as error:
        raise BadSignature(
            path,
            f"its SHA256SUMS does not fit the signature by the key {key.fingerprint}",
        ) from error
    return key


def _doubt(path: Path, policy: Policy, key: PublicKey | None, reason: str) -> Verdict:
    if policy is Policy.REQUIRE:
        raise UntrustedBundle(path, reason)
    return Verdict(
        policy,
        key=key,
        warning=f"'{printable(path.name)}' is taken though {reason}.",
    )


def _signed_part(hash_name: bytes, text: bytes) -> bytes:
    digest = hashlib.new(hash_name.decode(), text).digest()
    return (
        _MAGIC + pack(NAMESPACE.encode()) + pack(b"") + pack(hash_name) + pack(digest)
    )


def _parse(armored: bytes) -> tuple[PublicKey, bytes, bytes]:
    """Take a signature file apart: key, name of the hash, raw signature."""
    lines = armored.split(b"\n")
    # One spelling only: nothing before, between or behind the lines.
    if len(lines) < 4 or (lines[0], *lines[-2:]) != (_BEGIN, _END, b""):  # noqa: PLR2004 - frame and content
        raise ValueError("it is not in OpenSSH's format")
    encoded = b"".join(lines[1:-2])
    blob = base64.b64decode(encoded, validate=True)
    if base64.b64encode(blob) != encoded:
        raise ValueError("it is not in OpenSSH's format")
    reader = BlobReader(blob)
    if reader.take(len(_MAGIC)) != _MAGIC:
        raise ValueError("it is not in OpenSSH's format")
    version = int.from_bytes(reader.take(4), "big")
    if version != _VERSION:
        raise ValueError(f"it is of version {version}; {_VERSION} is known")
    key = parse_public_key(BlobReader(reader.string()))
    namespace = reader.string()
    if namespace != NAMESPACE.encode():
        raise ValueError(
            f"it was made for {namespace[:40]!r} and not for {NAMESPACE.encode()!r}"
        )
    if reader.string():
        raise ValueError("it has a reserved part, which is not known")
    name = reader.string()
    if name not in _HASHES:
        raise ValueError(f"its hash {name[:40]!r} is not known")
    inner = BlobReader(reader.string())
    reader.end()
    kind, raw = inner.string(), inner.string()
    inner.end()
    if kind != KEY_TYPE or len(raw) != _SIGNATURE_BYTES:
        raise ValueError(f"it has {len(raw)} bytes of the type {kind[:40]!r}")
    return key, name, raw

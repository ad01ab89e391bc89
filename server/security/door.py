"""Whom the server lets in, put together from the settings before it serves.

What would leave the server open by mistake stops the start.
"""

import logging
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from server.listening import StartError, address_of
from server.security.access import Access
from server.security.errors import TokensUnreadable
from server.security.hosts import is_loopback, make_hosts
from server.security.limits import Limits
from server.security.middleware import Guard
from server.security.origins import ANY_ORIGIN, make_origins
from server.security.tokens import STATE_NAME, TokenReader
from server.setting_kinds import Secret
from server.settings import Settings

_MAX_KEY_FILE_BYTES = 4096
_SHORT_KEY_CHARS = 16
_OTHERS = 0o077

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Door:
    """Where clients come in, and who may.

    `tls` is None for plain HTTP.
    """

    listener: socket.socket
    tls: ssl.SSLContext | None
    guard: Guard


def make_door(settings: Settings, listener: socket.socket) -> Door:
    """Read certificates, keys and tokens for a bound socket.

    Raises:
        StartError: See `load_tls` and `make_guard`.
    """
    return Door(listener, load_tls(settings), make_guard(settings, listener))


def load_tls(settings: Settings) -> ssl.SSLContext | None:
    """Read certificate and key.

    Returns:
        None if the server speaks plain HTTP.

    Raises:
        StartError: One of the two is missing or they cannot be used.
    """
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        given, other = ("--tls-cert", "--tls-key")[:: 1 if key is None else -1]
        raise StartError(f"{given} needs {other} as well: give both or neither.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An answer at once instead of a question for the key's passphrase.
        context.load_cert_chain(cert, key, password=lambda: b"")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise StartError(
            f"the certificate {cert} with the key {key} cannot be used: "
            f"{error.strerror if isinstance(error, OSError) else error}. Both must be "
            "PEM files that belong together, the key without a passphrase."
        ) from error
    return context


def make_guard(settings: Settings, listener: socket.socket) -> Guard:
    """Put together what the settings and the token file say.

    Raises:
        StartError: They contradict each other, cannot be read, or would open
            the server to a network without a token.
    """
    access = _make_access(settings)
    try:
        hosts = make_hosts(address_of(listener), settings.allowed_hosts)
    except ValueError as error:
        raise StartError(
            f"--allowed-hosts {error} is no host name. Give names or addresses "
            "without a port, such as server.example.org."
        ) from error
    try:
        origins = make_origins(settings.cors)
    except ValueError as error:
        raise StartError(
            f"--cors {error} is no origin. Give it as browsers do, such as "
            "https://example.org or http://localhost:3000, or * for all pages."
        ) from error
    _check_exposure(listener, access)
    if ANY_ORIGIN in origins.allowed and not access.asks():
        _log.warning(
            "--cors * without a token: every web page that a browser on this machine "
            "shows can use this server."
        )
    limits = Limits(
        max_concurrent_requests=settings.max_concurrent_requests,
        max_connections=settings.max_connections,
        max_json_depth=settings.max_json_depth,
        header_timeout_s=settings.header_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        write_timeout_s=settings.write_timeout_s,
    )
    return Guard(hosts, origins, access, limits)


def describe_access(access: Access) -> str:
    """Tell people who is let in."""
    if access.is_off:
        return "Access: nobody is asked for a token (--insecure-no-auth)"
    if access.asks():
        return "Access: every request needs a token"
    return "Access: open to every program that can reach it; see cloister token"


def _make_access(settings: Settings) -> Access:
    key = settings.api_key
    if settings.api_key_file is not None:
        if key is not None:
            raise StartError("give either --api-key or --api-key-file, not both.")
        key = _read_key(settings.api_key_file)
    if settings.insecure_no_auth and key is not None:
        raise StartError(
            "--insecure-no-auth would let everybody in who does not have the key. "
            "Leave out one of the two."
        )
    if key is not None and len(key) < _SHORT_KEY_CHARS:
        _log.warning(
            "the API key has only %d characters and may be guessed: "
            "`cloister token create` makes better ones",
            len(key),
        )
    tokens = TokenReader(settings.home / STATE_NAME)
    access = Access(key, tokens, is_off=settings.insecure_no_auth)
    try:
        access.has_token()
    except TokensUnreadable as error:
        raise StartError(f"{error.__cause__} Repair or remove the file.") from error
    return access


def _read_key(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_MAX_KEY_FILE_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise StartError(
            f"the key file {path} cannot be read: {error.strerror}. "
            "Check --api-key-file."
        ) from error
    if mode & _OTHERS:
        _log.warning(
            "other users may read the key file %s: chmod 600 keeps them out", path
        )
    try:
        return Secret().parse(text, path.parent)
    except ValueError:
        raise StartError(
            f"the key file {path} must hold one line with the key: {Secret.expected}."
        ) from None


def _check_exposure(listener: socket.socket, access: Access) -> None:
    address = address_of(listener)
    if address is None or is_loopback(address):
        return
    if access.is_off:
        _log.warning(
            "everybody who can reach %s may use this server: no token is asked for",
            address,
        )
    elif not access.has_token():
        raise StartError(
            f"listening on {address} would let the whole network in without a token. "
            "Make one by `cloister token create NAME`, or give --api-key-file FILE, or "
            "open the server to everybody by --insecure-no-auth."
        )

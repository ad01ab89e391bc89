"""Who asks: from the credentials of a request to a caller, or a refusal.

The server is open to everybody who can reach it only as long as nobody asked for
tokens: no key was given and no token was ever made. It judges anew with every
request, so that a token works, and stops working, at once.
"""

import hmac
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from server.security.errors import PermissionMissing, TokensUnreadable, Unauthorized
from server.security.permissions import MEANINGS, Permission
from server.security.tokens import (
    TokenError,
    TokenReader,
    TokenRecord,
    digest_of,
    token_id_of,
)

MAX_CREDENTIAL_BYTES = 1024

_NO_DIGEST = bytes(32)
_HOW = (
    "Send it as 'Authorization: Bearer TOKEN' or 'x-api-key: TOKEN'. "
    "`cloister token create NAME` makes one."
)

_log = logging.getLogger(__name__)

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request.

    `id` tells callers apart: what is kept for one must not be shown to another.
    """

    id: str
    name: str
    permissions: frozenset[Permission]

    def require(self, permission: Permission) -> None:
        """Check that this caller may do something.

        Raises:
            PermissionMissing: Not so.
        """
        if not {permission, Permission.ADMIN} & self.permissions:
            raise PermissionMissing(
                f"This needs a token with the permission '{permission}' "
                f"({MEANINGS[permission]}); yours has: "
                f"{', '.join(sorted(self.permissions))}."
            )


ANYBODY = Caller("anybody", "anybody", frozenset(Permission))
KEY_HOLDER = Caller("key", "the fixed key", frozenset(Permission))


@dataclass(frozen=True, slots=True)
class Access:
    """Decides who is let in.

    Args:
        key: A fixed key that may do everything; None if there is none.
        tokens: The tokens that were made; None if there can be none.
        is_off: Whether nobody is asked for anything, whatever else is set.
        clock: The time as Unix time in s.
    """

    key: str | None = field(default=None, repr=False)
    tokens: TokenReader | None = None
    is_off: bool = False
    clock: Callable[[], float] = time.time

    def identify(self, headers: Headers) -> Caller:
        """Find out who sent a request.

        Raises:
            Unauthorized: A token is needed and none that is valid was sent.
            TokensUnreadable: The tokens cannot be read.
        """
        if self.is_off:
            return ANYBODY
        records = self._records()
        if self.key is None and not records:
            return ANYBODY
        given = list(_credentials(headers))
        if not given:
            raise Unauthorized(f"An API token is required. {_HOW}")
        for credential in given:
            caller = self._recognise(credential, records)
            if caller is not None:
                return caller
        raise Unauthorized(f"The API token is not valid. {_HOW}")

    def asks(self) -> bool:
        """Tell whether requests need a token now.

        Raises:
            TokensUnreadable: The tokens cannot be read.
        """
        return not self.is_off and (self.key is not None or bool(self._records()))

    def has_token(self) -> bool:
        """Tell whether some token or key would be let in now.

        Raises:
            TokensUnreadable: The tokens cannot be read.
        """
        now_s = self.clock()
        return self.key is not None or any(
            record.state(now_s) == "active" for record in self._records().values()
        )

    def _records(self) -> dict[str, TokenRecord]:
        if self.tokens is None:
            return {}
        try:
            return self.tokens.records()
        except TokenError as error:
            _log.error("%s Nobody is let in.", error)
            raise TokensUnreadable(
                "The server cannot read its API tokens, so nobody is let in. Its log "
                "has the cause."
            ) from error

    def _recognise(
        self, credential: bytes, records: dict[str, TokenRecord]
    ) -> Caller | None:
        digest = digest_of(credential)
        record = records.get(token_id_of(credential) or "")
        # Both comparisons are always made, and over digests: their time tells
        # neither which one failed nor how much was right.
        key_digest = _NO_DIGEST if self.key is None else digest_of(self.key.encode())
        is_key = hmac.compare_digest(digest, key_digest)
        is_token = hmac.compare_digest(digest, record.digest if record else _NO_DIGEST)
        if is_key:
            return KEY_HOLDER
        if is_token and record and record.state(self.clock()) == "active":
            return Caller(record.id, record.name, frozenset(record.permissions))
        return None


def _credentials(headers: Headers) -> Iterable[bytes]:
    """List what may be tokens; one that is too long is passed over."""
    for name, value in headers:
        if len(value) > MAX_CREDENTIAL_BYTES:
            continue
        if name == b"x-api-key" and value.strip():
            yield value.strip()
        elif name == b"authorization":
            scheme, _, token = value.strip().partition(b" ")
            if scheme.lower() == b"bearer" and token.strip():
                yield token.strip()

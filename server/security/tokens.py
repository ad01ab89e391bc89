"""API tokens: their form, and the file that remembers them.

    sk-lm-AbCd1234:Zz9… (20 letters and digits)
          └ id ──┘ └ secret

The form is LM Studio's, whose clients check it. The id is shown in lists; of the
whole token only the SHA-256 is kept: 119 random bits need no slow hash, and
whoever reads the file cannot make the token from it. A token that is revoked or
has expired stays in the table, so that a server that asked for tokens never
becomes open because the last one ended.

Source for the form: the regular expression in LM Studio's SDKs,
`^sk-lm-([A-Za-z0-9]{8}):([A-Za-z0-9]{20})$`.
"""

import hashlib
import os
import re
import secrets
import sqlite3
import string
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec import Struct

from server.security.permissions import Permission

STATE_NAME = "state.db"
MAX_NAME_CHARS = 64
BUSY_S = 5.0

_ALPHABET = string.ascii_letters + string.digits
_ID_CHARS = 8
_SECRET_CHARS = 20
_TOKEN = re.compile(rb"sk-lm-([A-Za-z0-9]{8}):[A-Za-z0-9]{20}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]*", re.ASCII)
_PRIVATE_MODE = 0o600
_PRIVATE_FOLDER_MODE = 0o700
_OTHERS = 0o077

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    digest BLOB NOT NULL,
    permissions TEXT NOT NULL,
    created_s INTEGER NOT NULL,
    expires_s INTEGER,
    revoked_s INTEGER
)
"""
_SELECT = (
    "SELECT id, name, digest, permissions, created_s, expires_s, revoked_s "
    "FROM tokens ORDER BY created_s, rowid"
)


class TokenError(Exception):
    """A token cannot be made, found or revoked; the text says why."""


class TokenRecord(Struct, frozen=True):
    """What is known of a token. Times are Unix times in s; None = never."""

    id: str
    name: str
    digest: bytes
    permissions: tuple[Permission, ...]
    created_s: int
    expires_s: int | None = None
    revoked_s: int | None = None

    def state(self, now_s: float) -> str:
        """Tell `active`, `expired` or `revoked`."""
        if self.revoked_s is not None:
            return "revoked"
        if self.expires_s is not None and now_s >= self.expires_s:
            return "expired"
        return "active"


class TokenStore:
    """The tokens in `state.db`. Every call opens and closes the file.

    Args:
        path: The file; it is made by the first `create`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(
        self,
        name: str,
        permissions: Collection[Permission],
        *,
        expires_s: int | None = None,
    ) -> tuple[str, TokenRecord]:
        """Make a token.

        Args:
            name: For people; no active token may have it already.
            permissions: At least one.
            expires_s: When it ends, as Unix time in s; None = never.

        Returns:
            The token itself, which nothing can show again, and its record.

        Raises:
            TokenError: The name is taken or impossible, or the file cannot be
                written.
        """
        if len(name) > MAX_NAME_CHARS or not _NAME.fullmatch(name):
            raise TokenError(
                f"'{name[:MAX_NAME_CHARS]}' cannot be a token's name. Use 1 to "
                f"{MAX_NAME_CHARS} letters, digits, blanks and any of ._@- "
                "that begin with a letter or digit."
            )
        now_s = int(time.time())
        token_id = _random(_ID_CHARS)
        token = f"sk-lm-{token_id}:{_random(_SECRET_CHARS)}"
        record = TokenRecord(
            token_id, name, digest_of(token.encode()), _order(permissions), now_s,
            expires_s,
        )  # fmt: skip
        with self._connect(writable=True) as connection:
            for other in _read(connection):
                if other.name == name and other.state(now_s) == "active":
                    raise TokenError(
                        f"There is an active token named '{name}' already. Choose "
                        f"another name or end it by `cloister token revoke {other.id}`."
                    )
            connection.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, NULL)",
                (
                    record.id,
                    record.name,
                    record.digest,
                    " ".join(record.permissions),
                    record.created_s,
                    record.expires_s,
                ),
            )
        return token, record

    def records(self) -> tuple[TokenRecord, ...]:
        """List every token there ever was, oldest first.

        Raises:
            TokenError: The file cannot be read.
        """
        if not self._path.exists():
            return ()
        with self._connect(writable=False) as connection:
            return _read(connection)

    def revoke(self, wanted: str) -> TokenRecord:
        """End a token at once.

        Args:
            wanted: Its id, or the name of an active one.

        Returns:
            Its record as it is now.

        Raises:
            TokenError: There is no such token that still works.
        """
        now_s = int(time.time())
        live = [record for record in self.records() if record.state(now_s) == "active"]
        found = next((r for r in live if wanted in (r.id, r.name)), None)
        if found is None:
            raise TokenError(
                f"No active token has the id or name '{wanted}'. "
                "List all by `cloister token list`."
            )
        with self._connect(writable=True) as connection:
            connection.execute(
                "UPDATE tokens SET revoked_s = ? WHERE id = ?", (now_s, found.id)
            )
            return next(r for r in _read(connection) if r.id == found.id)

    @contextmanager
    def _connect(self, *, writable: bool) -> Iterator[sqlite3.Connection]:
        try:
            with closing(open_state(self._path)) as connection:
                if writable:
                    connection.execute("BEGIN IMMEDIATE")
                connection.execute(_SCHEMA)
                yield connection
                if writable:
                    connection.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            raise TokenError(
                f"The tokens in {self._path} cannot be used: {error}. Check that this "
                "user may read and write the file."
            ) from error


class TokenReader:
    """The tokens as a running server sees them: in memory, and never stale.

    SQLite counts the changes of other programs (`data_version`), which costs
    microseconds to ask. The file may appear while the server runs. Used by one
    thread, the one of its first `records`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._version: int | None = None
        self._records: dict[str, TokenRecord] = {}

    def records(self) -> dict[str, TokenRecord]:
        """Give all tokens by id, as they stand now.

        Raises:
            TokenError: They cannot be read.
        """
        try:
            return self._read()
        except (OSError, sqlite3.Error, ValueError) as error:
            self._drop()
            raise TokenError(
                f"The tokens in {self._path} cannot be read: {error}."
            ) from error

    def _read(self) -> dict[str, TokenRecord]:
        inode = self._path.stat().st_ino if self._path.exists() else None
        if inode is not None and inode != self._inode:
            self._drop()
            self._connection = open_state(self._path)
            self._connection.execute(_SCHEMA)
            self._inode = inode
        if self._connection is None:
            return {}
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._records = {r.id: r for r in _read(self._connection)}
            self._version = version
        return self._records

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._inode = self._version = None


def digest_of(token: bytes) -> bytes:
    """Compute what is kept of a token."""
    return hashlib.sha256(token).digest()


def token_id_of(token: bytes) -> str | None:
    """Read the id out of a token; None if it has not our form."""
    match = _TOKEN.fullmatch(token)
    return None if match is None else match[1].decode("ascii")


def open_state(path: Path) -> sqlite3.Connection:
    """Open the state file, readable by this user alone, in WAL mode.

    SQLite gives the files beside it (`-wal`, `-shm`) the same mode.

    Raises:
        OSError: The file cannot be made or its mode cannot be set.
        sqlite3.Error: It is no database.
    """
    path.parent.mkdir(mode=_PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE_MODE)
    try:
        mode = os.fstat(descriptor).st_mode
        if mode & _OTHERS:
            os.fchmod(descriptor, _PRIVATE_MODE)
    finally:
        os.close(descriptor)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _read(connection: sqlite3.Connection) -> tuple[TokenRecord, ...]:
    return tuple(
        TokenRecord(
            row[0], row[1], row[2], tuple(Permission(p) for p in row[3].split()),
            row[4], row[5], row[6],
        )
        for row in connection.execute(_SELECT)
    )  # fmt: skip


def _order(permissions: Collection[Permission]) -> tuple[Permission, ...]:
    return tuple(p for p in Permission if p in permissions)


def _random(n_chars: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(n_chars))

"""`server.security.tokens`: what is kept, and who can read it."""

import os
import re
import sqlite3
import stat
import time

import pytest

from server.security.permissions import Permission
from server.security.tokens import (
    TokenError,
    TokenReader,
    TokenStore,
    digest_of,
    open_state,
    token_id_of,
)

INFER = {Permission.INFER}


@pytest.fixture
def store(tmp_path):
    return TokenStore(tmp_path / "home" / "state.db")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "state.db"


def test_a_token_has_the_form_that_lm_studios_clients_check(store):
    token, record = store.create("alice", INFER)
    match = re.fullmatch(r"sk-lm-([A-Za-z0-9]{8}):([A-Za-z0-9]{20})", token)
    assert record.id == match[1] == token_id_of(token.encode())


def test_no_file_holds_a_token(store, path):
    token, record = store.create("alice", INFER)
    secret = token.partition(":")[2].encode()
    for file in path.parent.iterdir():
        assert secret not in file.read_bytes()
    assert digest_of(token.encode()) == record.digest


def test_all_files_are_the_owners_alone_even_if_they_were_not(store, path):
    store.create("alice", INFER)
    path.chmod(0o644)
    connection = open_state(path)
    connection.execute("UPDATE tokens SET name = 'b'")
    modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in path.parent.iterdir()}
    connection.close()
    assert {"state.db", "state.db-wal", "state.db-shm"} == set(modes)
    assert {0o600} == set(modes.values())
    assert 0o700 == stat.S_IMODE(path.parent.stat().st_mode)


def test_a_new_file_is_private_whatever_the_umask(store, path):
    before = os.umask(0)
    try:
        store.create("alice", INFER)
    finally:
        os.umask(before)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_listing_makes_no_file(store, path):
    assert () == store.records()
    assert {} == TokenReader(path).records()
    assert not path.exists()


def test_permissions_and_expiry_are_kept(store):
    wanted = {Permission.ADMIN, Permission.INFER}
    _, record = store.create("a", wanted, expires_s=2_000_000_000)
    assert (Permission.INFER, Permission.ADMIN) == record.permissions
    assert (record,) == store.records()
    assert "active" == record.state(1_999_999_999.9)
    assert "expired" == record.state(2_000_000_000)


def test_two_active_tokens_cannot_share_a_name(store):
    _, first = store.create("a", INFER)
    with pytest.raises(TokenError, match=f"revoke {first.id}"):
        store.create("a", INFER)
    store.revoke("a")
    store.create("a", INFER)
    assert ["revoked", "active"] == [r.state(time.time()) for r in store.records()]


@pytest.mark.parametrize("name", ["", " a", "a\nb", "a" * 65, "-x", "naïve", "a;b"])
def test_an_impossible_name_is_refused(store, name):
    with pytest.raises(TokenError, match="cannot be a token's name"):
        store.create(name, INFER)


def test_a_token_is_revoked_by_id_or_name_once(store):
    _, a = store.create("a", INFER)
    _, b = store.create("b", INFER)
    assert a.id == store.revoke(a.id).id
    assert b.id == store.revoke("b").id
    for wanted in (a.id, "b", "nobody"):
        with pytest.raises(TokenError, match="cloister token list"):
            store.revoke(wanted)


def test_a_running_reader_sees_every_change_of_others(store, path):
    reader = TokenReader(path)
    assert {} == reader.records()
    _, a = store.create("a", INFER)
    assert {a.id: a} == reader.records()
    _, b = store.create("b", INFER)
    assert {a.id, b.id} == set(reader.records())
    store.revoke("a")
    assert "revoked" == reader.records()[a.id].state(time.time())


def test_a_reader_asks_the_file_only_when_it_has_changed(store, path, monkeypatch):
    store.create("a", INFER)
    reader = TokenReader(path)
    assert reader.records() is reader.records()


def test_a_removed_file_leaves_a_reader_with_its_tokens(store, path):
    _, a = store.create("a", INFER)
    reader = TokenReader(path)
    reader.records()
    for file in list(path.parent.iterdir()):
        file.unlink()
    assert {a.id} == set(reader.records())


def test_a_replaced_file_is_read(store, path, tmp_path):
    store.create("a", INFER)
    reader = TokenReader(path)
    reader.records()
    other = TokenStore(tmp_path / "other.db")
    _, b = other.create("b", INFER)
    (tmp_path / "other.db").replace(path)
    assert {b.id} == set(reader.records())


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" * 9])
def test_a_broken_file_is_an_error_and_never_no_tokens(store, path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    for read in (store.records, TokenReader(path).records):
        with pytest.raises(TokenError, match=r"state\.db"):
            read()


def test_a_record_with_an_unknown_permission_is_an_error(store, path):
    store.create("a", INFER)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE tokens SET permissions = 'root'")
    connection.close()
    with pytest.raises(TokenError):
        TokenReader(path).records()


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"sk-lm-12345678:1234567890123456789",
        b"sk-lm-12345678:123456789012345678901",
        b"sk-lm-12345678:12345678901234567890\n",
        b"sk-lm-1234567_:12345678901234567890",
        "sk-lm-1234567ä:12345678901234567890".encode(),
    ],
)
def test_what_has_not_the_form_has_no_id(token):
    assert token_id_of(token) is None

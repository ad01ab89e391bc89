"""`server.security.access`: who is let in."""

import logging

import pytest

from server.security import access as access_module
from server.security.access import ANYBODY, KEY_HOLDER, Access, Caller
from server.security.errors import PermissionMissing, TokensUnreadable, Unauthorized
from server.security.permissions import Permission
from server.security.tokens import TokenReader, TokenStore

KEY = "a-key-of-somebody"


@pytest.fixture
def store(tmp_path):
    return TokenStore(tmp_path / "state.db")


@pytest.fixture
def reader(tmp_path):
    return TokenReader(tmp_path / "state.db")


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + token.encode())]


def test_without_key_and_tokens_everybody_is_let_in(reader):
    for headers in ([], bearer("lm-studio"), [(b"x-api-key", b"noop")]):
        assert ANYBODY == Access(tokens=reader).identify(headers)
    assert not Access(tokens=reader).asks()


def test_the_first_token_closes_a_running_server(store, reader):
    access = Access(tokens=reader)
    assert ANYBODY == access.identify([])
    token, record = store.create("alice", {Permission.INFER})
    with pytest.raises(Unauthorized, match="cloister token create"):
        access.identify([])
    caller = access.identify(bearer(token))
    assert (record.id, "alice", {Permission.INFER}) == (
        caller.id,
        caller.name,
        caller.permissions,
    )


def test_a_revoked_last_token_does_not_open_the_server(store, reader):
    token, _ = store.create("alice", {Permission.INFER})
    store.revoke("alice")
    access = Access(tokens=reader)
    for headers in ([], bearer(token)):
        with pytest.raises(Unauthorized):
            access.identify(headers)
    assert access.asks()
    assert not access.has_token()


def test_an_expired_token_is_not_valid(store, reader):
    token, _ = store.create("alice", {Permission.INFER}, expires_s=5000)
    assert (
        "alice"
        == Access(tokens=reader, clock=lambda: 4999.0).identify(bearer(token)).name
    )
    late = Access(tokens=reader, clock=lambda: 5000.0)
    with pytest.raises(Unauthorized, match="not valid"):
        late.identify(bearer(token))


@pytest.mark.parametrize(
    "header",
    [
        (b"authorization", b"Bearer " + KEY.encode()),
        (b"authorization", b"bearer   " + KEY.encode() + b" "),
        (b"x-api-key", KEY.encode()),
    ],
)
def test_both_headers_are_taken(header):
    assert KEY_HOLDER == Access(KEY).identify([header])


@pytest.mark.parametrize(
    "header",
    [
        (b"authorization", KEY.encode()),
        (b"authorization", b"Basic " + KEY.encode()),
        (b"authorization", b"Bearer"),
        (b"authorization", b"Bearer " + KEY.encode() + b"x"),
        (b"authorization", b"Bearer " + KEY[:-1].encode()),
        (b"authorization", b"Bearer " + KEY.upper().encode()),
        (b"x-api-key", b""),
        (b"x-api-key", b"\xff" * 2000),
        (b"cookie", b"key=" + KEY.encode()),
        (b"proxy-authorization", b"Bearer " + KEY.encode()),
    ],
)
def test_nothing_else_is(header):
    with pytest.raises(Unauthorized):
        Access(KEY).identify([header])


def test_a_valid_credential_beside_a_wrong_one_is_enough():
    headers = [(b"authorization", b"Bearer wrong"), (b"x-api-key", KEY.encode())]
    assert KEY_HOLDER == Access(KEY).identify(headers)


def test_every_comparison_is_made_over_digests_in_constant_time(
    store, reader, monkeypatch
):
    token, _ = store.create("alice", {Permission.INFER})
    compared = []

    def compare(left, right):
        compared.append((len(left), len(right)))
        return left == right

    monkeypatch.setattr(access_module.hmac, "compare_digest", compare)
    access = Access(KEY, reader)
    for headers in (bearer(token), bearer(KEY)):
        access.identify(headers)
    for wrong in ("x", token[:-1] + "!", "sk-lm-00000000:00000000000000000000"):
        with pytest.raises(Unauthorized):
            access.identify(bearer(wrong))
    assert [(32, 32)] * 10 == compared


def test_unreadable_tokens_let_nobody_in_and_are_logged(tmp_path, reader, caplog):
    (tmp_path / "state.db").write_bytes(b"broken" * 100)
    with pytest.raises(TokensUnreadable) as raised:
        Access(tokens=reader).identify([])
    assert 503 == raised.value.to_info().http_status
    assert str(tmp_path) not in raised.value.message
    assert [logging.ERROR] == [record.levelno for record in caplog.records]


def test_off_is_off(store, reader):
    store.create("alice", {Permission.INFER})
    assert ANYBODY == Access(tokens=reader, is_off=True).identify([])


def test_a_permission_is_required_and_admin_has_all():
    infer = Caller("1", "a", frozenset({Permission.INFER}))
    infer.require(Permission.INFER)
    with pytest.raises(PermissionMissing, match=r"'models'.*yours has: infer"):
        infer.require(Permission.MODELS)
    admin = Caller("2", "b", frozenset({Permission.ADMIN}))
    for permission in Permission:
        admin.require(permission)


def test_no_key_is_shown_by_a_repr():
    assert KEY not in repr(Access(KEY))

"""`server.security.door`: what would leave the server open stops the start."""

import logging
from pathlib import Path

import pytest

from server.listening import StartError, bind
from server.security.door import describe_access, load_tls, make_guard
from server.security.limits import Limits
from server.security.permissions import Permission
from server.security.tokens import TokenStore
from server.settings import Settings

KEY = "a-key-of-at-least-16"


@pytest.fixture
def local():
    with bind("127.0.0.1", 0) as listener:
        yield listener


@pytest.fixture
def exposed():
    # Bound to all addresses, but it never listens: nobody can connect.
    with bind("0.0.0.0", 0) as listener:  # noqa: S104
        yield listener


def test_on_this_machine_alone_no_token_is_needed(local, tmp_path):
    guard = make_guard(Settings(home=tmp_path), local)
    assert not guard.access.asks()
    assert "open to every program" in describe_access(guard.access)


def test_a_network_needs_a_token_a_key_or_the_name_of_the_danger(
    exposed, tmp_path, caplog
):
    with pytest.raises(StartError, match="would let the whole network in"):
        make_guard(Settings(home=tmp_path), exposed)
    assert make_guard(Settings(home=tmp_path, api_key=KEY), exposed).access.asks()
    assert [] == caplog.records
    make_guard(Settings(home=tmp_path, insecure_no_auth=True), exposed)
    assert "no token is asked for" in caplog.text


def test_only_a_token_that_works_opens_the_network(exposed, tmp_path):
    store = TokenStore(tmp_path / "state.db")
    store.create("old", {Permission.INFER}, expires_s=1)
    store.create("gone", {Permission.INFER})
    store.revoke("gone")
    with pytest.raises(StartError, match="whole network"):
        make_guard(Settings(home=tmp_path), exposed)
    store.create("good", {Permission.INFER})
    assert make_guard(Settings(home=tmp_path), exposed).access.has_token()


def test_unreadable_tokens_stop_the_start(local, tmp_path):
    (tmp_path / "state.db").write_bytes(b"broken" * 1000)
    with pytest.raises(StartError, match=r"state\.db cannot be read"):
        make_guard(Settings(home=tmp_path), local)


@pytest.mark.parametrize("text", [KEY, f"  {KEY}\n", f"{KEY}\r\n\r\n"])
def test_a_key_file_holds_one_line(local, tmp_path, text):
    path = tmp_path / "key"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    guard = make_guard(Settings(home=tmp_path, api_key_file=path), local)
    assert KEY == guard.access.key


@pytest.mark.parametrize(
    "content", [b"", b"two words", b"a\nb", b"\xff\xfe", b"a" * 600]
)
def test_a_key_file_with_anything_else_stops_the_start(local, tmp_path, content):
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(StartError, match="must hold one line with the key"):
        make_guard(Settings(home=tmp_path, api_key_file=path), local)


def test_weak_keys_open_files_and_open_doors_are_warned_of(local, tmp_path, caplog):
    path = tmp_path / "key"
    path.write_text("short", encoding="utf-8")
    path.chmod(0o644)
    make_guard(Settings(home=tmp_path, api_key_file=path), local)
    assert "only 5 characters" in caplog.text
    assert "other users may read the key file" in caplog.text
    assert "short" not in caplog.text
    caplog.clear()
    make_guard(Settings(home=tmp_path, cors=("*",)), local)
    assert ["WARNING"] == [logging.getLevelName(r.levelno) for r in caplog.records]
    assert "every web page" in caplog.text


def test_the_address_and_named_hosts_are_allowed(exposed, tmp_path):
    settings = Settings(home=tmp_path, api_key=KEY, allowed_hosts=("a.example",))
    hosts = make_guard(settings, exposed).hosts
    assert hosts.allows("a.example")
    assert hosts.allows("10.0.0.1")
    assert not hosts.allows("b.example")


def test_certificates_come_in_pairs_and_are_read_at_the_start(tmp_path):
    assert load_tls(Settings(home=tmp_path)) is None
    one = Settings(home=tmp_path, tls_key=Path("/x/key.pem"))
    with pytest.raises(StartError, match="--tls-key needs --tls-cert as well"):
        load_tls(one)
    cert = tmp_path / "c.pem"
    cert.write_text("no certificate", encoding="utf-8")
    with pytest.raises(StartError, match=r"c\.pem with the key .* cannot be used"):
        load_tls(Settings(home=tmp_path, tls_cert=cert, tls_key=cert))


def test_limits_of_the_settings_are_those_of_the_guard(local, tmp_path):
    settings = Settings(
        home=tmp_path,
        max_concurrent_requests=7,
        max_connections=8,
        max_json_depth=9,
        header_timeout_s=1.5,
        idle_timeout_s=2.5,
        body_timeout_s=3.5,
        write_timeout_s=4.5,
    )
    limits = make_guard(settings, local).limits
    assert (7, 8, 9) == (
        limits.max_concurrent_requests,
        limits.max_connections,
        limits.max_json_depth,
    )
    assert (1.5, 2.5, 3.5, 4.5) == (
        limits.header_timeout_s,
        limits.idle_timeout_s,
        limits.body_timeout_s,
        limits.write_timeout_s,
    )


def test_defaults_of_limits_and_settings_agree(local, tmp_path):

    assert Limits() == make_guard(Settings(home=tmp_path), local).limits

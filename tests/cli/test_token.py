"""`cloister token`: made and shown once, listed without secrets, ended at once."""

import json
import re
import stat

import click
import pytest
from click.testing import CliRunner

from server.cli.token import parse_expiry, token_command

NOW_S = 1_800_000_000


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def run(*arguments, expect=0):
        command = [arguments[0], *arguments[1:], "--home", str(tmp_path / "home")]
        done = CliRunner().invoke(token_command, command, env={"CLOISTER_HOME": None})
        assert expect == done.exit_code, done.output
        return done

    return run


def test_a_token_is_shown_once_alone_on_stdout(run, tmp_path):
    done = run("create", "alice", "--permission", "infer", "--permission", "models")
    token = done.stdout.strip()
    assert re.fullmatch(r"sk-lm-[A-Za-z0-9]{8}:[A-Za-z0-9]{20}", token)
    assert "cannot be shown again" in done.stderr
    assert 0o600 == stat.S_IMODE((tmp_path / "home" / "state.db").stat().st_mode)
    secret = token.partition(":")[2]
    for listing in (run("list"), run("list", "--json")):
        assert "alice" in listing.stdout
        assert secret not in listing.output


def test_json_is_one_document_and_nothing_else(run):
    made = json.loads(run("create", "bot", "--expires", "30d", "--json").output)
    assert ("bot", ["infer"], "active") == (
        made["name"],
        made["permissions"],
        made["state"],
    )
    assert made["token"].startswith("sk-lm-" + made["id"])
    (listed,) = json.loads(run("list", "--json").output)["tokens"]
    assert {"token": made["token"]} | listed == made
    assert "revoked" == json.loads(run("revoke", "bot", "--json").output)["state"]


def test_revoking_the_last_token_says_that_nobody_gets_in(run):
    run("create", "a")
    run("create", "b")
    assert "last one" not in run("revoke", "a").stderr
    assert "let nobody in" in run("revoke", "b").stderr
    assert "no active token" in run("revoke", "b", expect=1).output.lower()


def test_what_is_wrong_is_said(run):
    run("create", "a")
    assert "active token named 'a'" in run("create", "a", expect=1).output
    assert "root" in run("create", "b", "--permission", "root", expect=2).output
    assert "neither a period" in run("create", "b", "--expires", "x", expect=2).output
    assert "There is no token" not in run("list").output


def test_an_empty_list_says_how_to_make_one(run):
    assert "cloister token create NAME" in run("list").output
    assert {"tokens": []} == json.loads(run("list", "--json").output)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("never", None),
        ("12h", NOW_S + 12 * 3600),
        ("30d", NOW_S + 30 * 86_400),
        ("2w", NOW_S + 14 * 86_400),
        ("2027-01-31", 1_801_353_600),
    ],
)
def test_periods_and_dates_are_read(text, expected):
    assert expected == parse_expiry(text, NOW_S)


@pytest.mark.parametrize("text", ["", "0d", "-1d", "1m", "2020-01-01", "31.1.2027"])
def test_other_times_are_refused(text):
    with pytest.raises(click.BadParameter):
        parse_expiry(text, NOW_S)

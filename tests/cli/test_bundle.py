"""`cloister bundle`: the whole way from one home to another, and its errors."""

import json
import shutil

import pytest
from click.testing import CliRunner

from model_store.errors import NotInStore
from model_store.signature import UntrustedBundle
from model_store.ssh_keys import read_public_key
from server.cli.bundle import bundle_group
from tests.model_store.bundle_forge import stock


@pytest.fixture(scope="module")
def stocked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stocked")
    return stock(folder / "home", n_bytes=700 * 2**10).home


@pytest.fixture
def cloister(stocked, tmp_path, monkeypatch):
    """Run a command with one of two homes; return its result."""
    monkeypatch.chdir(tmp_path)
    for name in ("CLOISTER_HOME", "CLOISTER_BUNDLE_POLICY"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(stocked, tmp_path / "open")

    def run(*args, home="open", stdin=None):
        return CliRunner().invoke(
            bundle_group,
            [str(arg) for arg in args],
            env={"CLOISTER_HOME": str(tmp_path / home)},
            input=stdin,
        )

    return run


def test_the_whole_way(cloister, tmp_path):
    assert 0 == cloister("key", "create", "key").exit_code
    fingerprint = read_public_key(tmp_path / "key.pub").fingerprint
    assert 0o600 == (tmp_path / "key").stat().st_mode & 0o777
    made = cloister(
        "create", "tiny", "pair", "--out", "b.tar", "--split", "1MiB", "--sign", "key"
    )
    assert 0 == made.exit_code, made.output
    assert f"signed by {fingerprint}\n" in made.stdout
    trusted = cloister("key", "trust", "key.pub", home="closed")
    assert f"trusted: {fingerprint}" in trusted.stdout
    assert fingerprint in cloister("key", "show", home="closed").stdout
    checked = cloister("verify", "b.tar.001", home="closed")
    assert f"signed by {fingerprint} (key.pub)\n" in checked.stdout
    taken = cloister("import", "b.tar", home="closed")
    assert 0 == taken.exit_code
    assert "imported: acme/tiny/tiny-F32.gguf\n" in taken.stdout
    again = json.loads(cloister("import", "b.tar", "--json", home="closed").stdout)
    assert [True, True] == [model["was_there"] for model in again["models"]]
    assert (fingerprint, "key.pub", "require") == (
        again["signature"]["fingerprint"],
        again["signature"]["trusted_as"],
        again["signature"]["policy"],
    )


def test_json_is_all_that_is_on_stdout(cloister, tmp_path):
    made = json.loads(cloister("create", "tiny", "--out", "b.tar", "--json").stdout)
    assert (tmp_path / "b.tar").stat().st_size == made["size_bytes"]
    assert None is made["signed_by"]
    checked = cloister("verify", "b.tar", "--json")
    assert ["acme/tiny/tiny-F32.gguf"] == [
        model["name"] for model in json.loads(checked.stdout)["models"]
    ]
    assert "warning: 'b.tar' is taken though it is not signed.\n" in checked.stderr


def test_a_policy_can_come_from_the_command(cloister):
    cloister("create", "tiny", "--out", "b.tar")
    assert 0 == cloister("verify", "b.tar").exit_code
    refused = cloister("verify", "b.tar", "--policy", "require")
    assert isinstance(refused.exception, UntrustedBundle)
    ignored = cloister("verify", "b.tar", "--policy", "off")
    assert (0, True) == (
        ignored.exit_code,
        "signature not looked at" in ignored.stdout,
    )


def test_an_unknown_model_is_told(cloister):
    result = cloister("create", "huge", "--out", "b.tar")
    assert isinstance(result.exception, NotInStore)


@pytest.mark.parametrize("size", ["4XB", "10KiB", "-1"])
def test_an_impossible_size_of_parts_is_a_usage_error(cloister, size):
    result = cloister("create", "tiny", "--out", "b.tar", "--split", size)
    assert 2 == result.exit_code
    assert "expected a size from 1MiB to 1024TiB" in result.stderr


def test_a_key_is_not_overwritten_and_another_of_its_name_not_trusted(
    cloister, tmp_path
):
    cloister("key", "create", "key")
    again = cloister("key", "create", "key")
    assert (1, True) == (again.exit_code, "File exists" in again.stderr)
    cloister("key", "trust", "key.pub")
    assert 0 == cloister("key", "trust", "key.pub").exit_code
    (tmp_path / "other").mkdir()
    cloister("key", "create", "other/key")
    refused = cloister("key", "trust", "other/key.pub")
    assert (2, True) == (refused.exit_code, "is another key" in refused.stderr)


def test_a_protected_key_asks(cloister):
    made = cloister("key", "create", "key", "--passphrase", stdin="sesam\nsesam\n")
    assert 0 == made.exit_code
    signed = cloister(
        "create", "tiny", "--out", "b.tar", "--sign", "key", stdin="sesam\n"
    )
    assert 0 == signed.exit_code
    assert "signed by SHA256:" in signed.stdout

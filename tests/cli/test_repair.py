"""`cloister repair`: from a path or a hub."""

import json
import shutil

import pytest

from model_store.digest import CHUNK_BYTES
from model_store.good_copy import GoodCopyBad, GoodCopyMissing
from model_store.record import damage_path
from server.cli.repair import repair_command
from server.cli.verify import verify_command
from tests.cli.calling import call
from tests.model_store.conftest import Forge
from tests.model_store.stored_models import flip_bit, make_shelf

CONTENT = Forge().build() + bytes(CHUNK_BYTES)


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_shelf(tmp_path)


@pytest.fixture
def path(shelf, tmp_path):
    """Give a quarantined model; a good copy lies in `usb`."""
    path = shelf.put("p/r/m.gguf", CONTENT)
    (tmp_path / "usb").mkdir()
    shutil.copy(path, tmp_path / "usb" / "copy.gguf")
    flip_bit(path, CHUNK_BYTES + 7)
    assert 1 == call(verify_command, "m", home=shelf.store.home).code
    return path


def test_a_model_is_mended_from_a_folder(shelf, path, tmp_path):
    done = call(repair_command, "m", "--from", "usb", home=shelf.store.home)
    assert (0, None) == (done.code, done.error)
    assert CONTENT == path.read_bytes()
    assert not damage_path(path).exists()
    last = len(CONTENT) - 1
    n_bytes = len(CONTENT) - CHUNK_BYTES
    assert done.out.startswith(
        f"{path}: {n_bytes} bytes written (bytes 4194304-{last}); SHA-256 "
    )
    assert done.out.endswith("as recorded; served again\n")
    for step in ("checking", "mending", "verifying"):
        assert f"{step} m.gguf: 100%" in done.err


def test_json_is_one_document_and_all_that_is_printed(shelf, path):
    done = call(repair_command, "m", "--from", "usb", "--json", home=shelf.store.home)
    document = json.loads(done.out)
    assert (True, "") == (document["ok"], done.err)
    (file,) = document["files"]
    assert (str(path), [1]) == (file["path"], file["bad_chunks"])


def test_a_sound_model_is_told_to_be_sound(shelf, path):
    call(repair_command, "m", "--from", "usb", home=shelf.store.home)
    done = call(repair_command, "m", "--from", "usb", home=shelf.store.home)
    assert f"{path}: nothing was bad; SHA-256 " in done.out


def test_a_bad_copy_ends_in_an_error_that_names_the_chunk(shelf, path, tmp_path):
    flip_bit(tmp_path / "usb" / "copy.gguf", CHUNK_BYTES)
    done = call(repair_command, "m", "--from", "usb/copy.gguf", home=shelf.store.home)
    assert isinstance(done.error, GoodCopyBad)
    assert 1 == done.error.chunk
    assert damage_path(path).exists()


@pytest.mark.parametrize("origin", ["none", "./p/none", "/none/none", "~/none/none"])
def test_what_is_neither_a_path_nor_a_repository_is_refused(shelf, path, origin):
    done = call(repair_command, "m", "--from", origin, home=shelf.store.home)
    assert isinstance(done.error, GoodCopyMissing)
    assert (
        f"There is no file or folder '{origin}'. Name the file itself, a folder that "
        "holds it, or a repository of a hub."
    ) == done.error.message


def test_a_hub_is_not_asked_when_the_network_is_forbidden(shelf, path):
    done = call(
        repair_command,
        "m",
        "--from",
        "pub/name",
        home=shelf.store.home,
        HF_HUB_OFFLINE="1",
    )
    assert "HF_HUB_OFFLINE=1 forbids the network" in str(done.error)
    assert damage_path(path).exists()


def test_a_hub_is_not_asked_when_the_settings_file_says_offline(shelf, path):
    (shelf.store.home / "cloister.toml").write_text("offline = true", encoding="utf-8")
    done = call(repair_command, "m", "--from", "pub/name", home=shelf.store.home)
    assert "Offline by policy: the settings file says offline" in str(done.error)
    assert damage_path(path).exists()

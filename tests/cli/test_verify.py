"""`cloister verify`: lines, JSON, exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from model_store.digest import CHUNK_BYTES
from model_store.errors import NotInStore
from model_store.record import damage_path, record_path
from server.cli.verify import verify_command
from tests.cli.calling import call
from tests.model_store.conftest import Forge
from tests.model_store.stored_models import flip_bit, make_shelf

ROOT = Path(__file__).resolve().parents[2]
CONTENT = Forge().build() + bytes(CHUNK_BYTES)


@pytest.fixture
def shelf(tmp_path):
    return make_shelf(tmp_path)


@pytest.fixture
def path(shelf):
    return shelf.put("p/r/m.gguf", CONTENT)


@pytest.fixture
def verify(shelf, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*args, **env):
        return call(verify_command, *args, home=shelf.store.home, **env)

    return run


def test_a_sound_model_is_told_and_the_exit_code_is_0(verify, path):
    done = verify("m")
    assert (0, None) == (done.code, done.error)
    assert (
        f"sound         {path}: SHA-256 as in record\n1 files: 1 sound\n"
    ) == done.out
    assert "verifying: 100%" in done.err


def test_a_damaged_model_is_named_with_its_bytes_and_the_exit_code_is_1(verify, path):
    flip_bit(path, CHUNK_BYTES + 7)
    done = verify("m")
    assert 1 == done.code
    last = len(CONTENT) - 1
    assert f"damaged       {path}: its SHA-256 is " in done.out
    assert (
        f"; bad are bytes 4194304-{last} (chunk 1); quarantined; next: cloister repair "
        "m --from PATH\n1 files: 1 damaged\n"
    ) in done.out
    assert damage_path(path).exists()
    assert "; still quarantined; next" in verify("m").out
    flip_bit(path, CHUNK_BYTES + 7)
    done = verify("m")
    assert 0 == done.code
    assert "SHA-256 as in record; released from quarantine\n" in done.out


def test_quick_reads_nothing_and_tells_what_was_touched(verify, path):
    assert "size and time as in record" in verify("--quick", "m").out
    os.utime(path, ns=(0, 5))
    done = verify("--quick", "m")
    assert 1 == done.code
    assert "; next: cloister verify m\n" in done.out
    assert "" == done.err


def test_all_tells_every_file_of_every_folder_as_one_json_document(
    verify, shelf, path, tmp_path
):
    flip_bit(path, 0)
    other = tmp_path / "lmstudio" / "p" / "r" / "o.gguf"
    other.parent.mkdir(parents=True)
    other.write_bytes(CONTENT)
    done = verify("--all", "--json", "--models-dir", tmp_path / "lmstudio")
    assert (1, "") == (done.code, done.err)
    document = json.loads(done.out)
    assert (False, {"damaged": 1, "not verified": 1}, []) == (
        document["ok"],
        document["counts"],
        document["notes"],
    )
    first, second = document["files"]
    assert ("m", str(path), "damaged", [0], "set") == (
        first["model"],
        first["path"],
        first["verdict"],
        first["bad_chunks"],
        first["quarantine"],
    )
    assert [{"first": 0, "last": CHUNK_BYTES - 1}] == first["bad_ranges"]
    assert ("o", "not verified", "nothing to compare with") == (
        second["model"],
        second["verdict"],
        second["reason"],
    )


def test_what_is_not_verified_is_no_failure(verify, path):
    record_path(path).unlink()
    (path.parent / "SHA256SUMS").unlink()
    done = verify("--all")
    assert 0 == done.code
    assert f"not verified  {path}: nothing to compare with\n" in done.out


def test_a_file_that_is_gone_but_has_a_record_is_a_failure(verify, path):
    path.unlink()
    done = verify("--all")
    assert 1 == done.code
    assert (
        f"missing       {path}: it is gone, and its record 'm.gguf.record.json' is "
        "there; import the file again, or remove the record\n1 files: 1 missing\n"
    ) == done.out


def test_a_lost_file_of_another_folder_makes_no_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = tmp_path / "usb" / "p" / "r" / "m.gguf.record.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    done = call(verify_command, "--all", "--models-dir", "usb", home=tmp_path / "home")
    assert 1 == done.code
    assert "1 files: 1 missing\n" in done.out
    assert not (tmp_path / "home").exists()


def test_what_cannot_be_looked_at_is_a_failure_of_all(verify, path):
    (path.parent / "dangling.gguf").symlink_to("nowhere")
    done = verify("--all")
    assert 1 == done.code
    assert "dangling.gguf' cannot be read: No such file" in done.err


def test_nothing_at_all_is_no_failure(verify):
    done = verify("--all")
    assert (0, "0 files: nothing to verify\n") == (done.code, done.out)


@pytest.mark.parametrize("args", [[], ["--all", "m"]])
def test_models_or_all_must_be_given(verify, args):
    error = verify(*args).error
    assert isinstance(error, click.UsageError)
    assert "Name models, or use --all; one of the two." == error.message


def test_an_unknown_model_is_an_error(verify, path):
    assert isinstance(verify("nothing").error, NotInStore)


RUN = """
import sys
from server.cli.verify import verify_command
try:
    verify_command.main(["--all"], standalone_mode=False)
except (KeyboardInterrupt, __import__("click").Abort):
    sys.exit(130)
"""


def test_ctrl_c_tells_what_was_found_and_leaves_no_half_state(shelf, tmp_path):
    """A sparse file of 1 TiB takes long enough to be interrupted in."""
    first = shelf.put("p/r/a.gguf", CONTENT)
    flip_bit(first, 0)
    big = shelf.put("p/r/b.gguf", b"")
    os.truncate(big, 2**40)
    record = record_path(big).read_text()
    record_path(big).write_text(
        record.replace('"size_bytes": 0', f'"size_bytes": {2**40}')
        .replace('"chunk_bytes": 4194304', f'"chunk_bytes": {2**40}')
        .replace('"chunks": []', '"chunks": ["' + "0" * 64 + '"]')
    )
    environment = {**os.environ, "CLOISTER_HOME": str(shelf.store.home)}
    environment["CLOISTER_BUILTIN"] = "false"
    environment["PYTHONPATH"] = str(ROOT)
    with subprocess.Popen(
        [sys.executable, "-c", RUN],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for _ in range(600):
            if damage_path(first).exists():
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert 130 == process.returncode
    assert f"damaged       {first}: " in out
    assert not damage_path(big).exists()

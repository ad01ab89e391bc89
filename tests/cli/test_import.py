"""`cloister import`: the real program, its texts, codes and JSON."""

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model_store.record import read_record

ROOT = Path(__file__).resolve().parents[2]
WRONG = "0" * 64


def write_model(path, filler=b"\0"):
    """Write the smallest llama model."""

    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    numbers = {
        "llama.context_length": 64,
        "llama.embedding_length": 32,
        "llama.block_count": 2,
        "llama.attention.head_count": 4,
    }
    out = b"GGUF" + struct.pack("<IQQ", 3, 1, 5)
    out += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    for key, number in numbers.items():
        out += text(key) + struct.pack("<II", 4, number)
    out += text("token_embd.weight") + struct.pack("<IQQIQ", 2, 32, 4, 0, 0)
    out += bytes(-len(out) % 32) + filler * 512
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out)
    return hashlib.sha256(out).hexdigest()


@pytest.fixture
def cloister(tmp_path):
    """Return a function that runs `cloister import` with a home of its own."""

    def run(*args, **env):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("CLOISTER_")}
        return subprocess.run(
            [sys.executable, "-m", "server", "import", *map(str, args)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={
                **clean,
                "PYTHONPATH": str(ROOT),
                "CLOISTER_HOME": str(tmp_path / "home"),
                **env,
            },
            timeout=50,
            check=False,
        )

    return run


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "usb/m-Q8_0.gguf"
    return path, write_model(path)


def test_an_import_says_where_the_file_is_and_what_was_verified(
    cloister, model, tmp_path
):
    path, digest = model
    done = cloister(path, "--sha256", digest.upper())
    assert 0 == done.returncode, done.stderr
    assert (
        "imported: local/m/m-Q8_0.gguf (800 bytes, SHA-256 "
        f"{digest}, verified against --sha256)\n"
    ) == done.stdout
    assert "m-Q8_0.gguf: 100%, 800 bytes of 800 bytes" in done.stderr
    stored = tmp_path / "home/models/local/m/m-Q8_0.gguf"
    assert path.read_bytes() == stored.read_bytes()
    again = cloister(path)
    assert 0 == again.returncode
    assert again.stdout.startswith("already there: local/m/m-Q8_0.gguf")
    assert "" == again.stderr


def test_a_wrong_checksum_shows_both_and_keeps_the_file_out(cloister, model, tmp_path):
    path, digest = model
    done = cloister(path, "--sha256", WRONG, "--move")
    assert 1 == done.returncode
    assert f"expected {WRONG} (--sha256)" in done.stderr
    assert f"actual   {digest}" in done.stderr
    assert "kept out of the store" in done.stderr
    assert "Traceback" not in done.stderr
    assert path.is_file()
    assert [] == list((tmp_path / "home").rglob("*.gguf"))


def test_both_digests_are_named_where_they_disagree(cloister, model):
    path, digest = model
    (path.parent / "SHA256SUMS").write_text(f"{WRONG}  {path.name}\n")
    done = cloister(path, "--sha256", digest)
    assert 0 == done.returncode
    assert f"--sha256 says {digest}, but SHA256SUMS says {WRONG}" in done.stderr


def test_a_dry_run_touches_nothing(cloister, model, tmp_path):
    path, _ = model
    write_model(tmp_path / "usb/pub/repo/n.gguf")
    done = cloister(path.parent, "--dry-run")
    assert 0 == done.returncode, done.stderr
    lines = done.stdout.splitlines()
    assert [
        "would import: local/m/m-Q8_0.gguf (800 bytes, by copy)",
        "would import: pub/repo/n.gguf (800 bytes, by copy)",
    ] == lines[:2]
    assert lines[2].startswith("1.6 KiB would be copied; ")
    assert not (tmp_path / "home").exists()


def test_a_dry_run_tells_what_would_fail(cloister, model):
    path, _ = model
    bad = path.with_name("bad.gguf")
    bad.write_bytes(b"hello, I am no model at all")
    done = cloister(path, bad, "--dry-run", "--json")
    assert 1 == done.returncode
    states = {
        e["files"][0]["name"]: e["state"] for e in json.loads(done.stdout)["models"]
    }
    assert {"m-Q8_0.gguf": "would import", "bad.gguf": "failed"} == states


def test_a_bad_file_does_not_stop_the_others(cloister, model):
    path, digest = model
    bad = path.with_name("a-bad.gguf")
    bad.write_bytes(b"hello, I am no model at all")
    done = cloister(path.parent, "--json")
    assert 1 == done.returncode
    document = json.loads(done.stdout)
    failed, imported = document["models"]
    assert ("failed", "bad_gguf") == (failed["state"], failed["error"]["code"])
    assert "begins with b'hell'" in failed["error"]["message"]
    assert ("imported", None, "local/m") == (
        imported["state"],
        imported["error"],
        imported["target"],
    )
    (file,) = imported["files"]
    assert (digest, "copy", str(path)) == (file["sha256"], file["how"], file["source"])
    assert document["free_bytes"] > 0
    assert "" == done.stderr


@pytest.mark.parametrize(
    ("option", "linked"),
    [
        ("--copy", "copy"),
        ("--move", "move"),
        ("--link", "hardlink"),
        ("--symlink", "symlink"),
    ],
)
def test_the_ways_can_be_chosen(cloister, model, tmp_path, option, linked):
    path, _ = model
    done = cloister(path, option, "--as", "a/b")
    assert 0 == done.returncode, done.stderr
    record = read_record(tmp_path / "home/models/a/b/m-Q8_0.gguf")
    assert linked == record.linked
    assert (option != "--move") == path.exists()


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], "Name a GGUF file or a folder"),
        (["x.gguf", "--sha256", "12"], "it has 2 characters and must be 64"),
        (["x.gguf", "--as", "name"], "it has 1 parts and must be publisher/name"),
        (["x.gguf", "--colour"], "No such option '--colour'"),
    ],
)
def test_a_wrong_command_ends_with_2(cloister, args, expected):
    done = cloister(*args)
    assert (2, "") == (done.returncode, done.stdout)
    assert expected in done.stderr


def test_what_is_not_there_is_told_also_as_json(cloister, tmp_path):
    done = cloister(tmp_path / "none.gguf")
    assert (1, "") == (done.returncode, done.stdout)
    assert "cannot be read: No such file or directory. Check that" in done.stderr
    done = cloister(tmp_path / "none.gguf", "--json")
    assert 1 == done.returncode
    assert "unreadable_file" == json.loads(done.stdout)["error"]["code"]


def test_ollamas_models_can_be_named(cloister, tmp_path):
    folder = tmp_path / "ollama"
    digest = write_model(tmp_path / "m.gguf")
    (folder / "blobs").mkdir(parents=True)
    (tmp_path / "m.gguf").rename(folder / "blobs" / f"sha256-{digest}")
    manifest = folder / "manifests/registry.ollama.ai/library/toy/latest"
    manifest.parent.mkdir(parents=True)
    layer = {
        "mediaType": "application/vnd.ollama.image.model",
        "digest": f"sha256:{digest}",
    }
    manifest.write_text(json.dumps({"layers": [layer]}))
    done = cloister("toy", "--from-ollama", OLLAMA_MODELS=str(folder))
    assert 0 == done.returncode, done.stderr
    assert "imported: library/toy/toy-latest.gguf" in done.stdout
    assert "verified against ollama" in done.stdout
    done = cloister("--from-ollama", folder, "other")
    assert 1 == done.returncode
    assert "it has no model 'other:latest'. It has: toy:latest." in done.stderr


def test_ctrl_c_ends_with_130_and_leaves_nothing(tmp_path):
    path = tmp_path / "usb/big.gguf"
    write_model(path)
    # A hole of 2 GiB behind the model takes seconds to read.
    os.truncate(path, 2**31)
    with subprocess.Popen(
        [sys.executable, "-m", "server", "import", str(path)],
        cwd=ROOT,
        env={**os.environ, "CLOISTER_HOME": str(tmp_path / "home")},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        incoming = tmp_path / "home/models/.cloister/incoming"
        while not list(incoming.glob("*/content/*")) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=40)
    assert 130 == process.returncode, errors
    assert "interrupted" in errors
    assert [] == list(incoming.iterdir())
    assert [] == list((tmp_path / "home").rglob("*.gguf"))
    assert path.is_file()

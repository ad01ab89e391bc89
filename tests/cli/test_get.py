"""`cloister get` as a process, against a real server on loopback."""

import contextlib
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time

import click
import pytest

from model_store.record import read_record
from server.cli.get import read_memory
from tests.hub_server import COMMIT, Fault, HubServer

NAME = "acme/tiny-GGUF"
FILE = "tiny-Q4_K_M.gguf"
TOKEN = "hf_secret"
# What the program does, whether or not the command is registered there yet.
CODE = """
import sys
from server.cli.get import get_command
from server.cli.program import main, program
program.add_command(get_command)
sys.exit(main())
"""


def build_model(n_rows):
    """Make a llama model with one tensor of `n_rows` rows of 128 bytes."""

    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    numbers = {
        "context_length": 64,
        "embedding_length": 32,
        "block_count": 2,
        "attention.head_count": 4,
    }
    out = b"GGUF" + struct.pack("<IQQ", 3, 1, 1 + len(numbers))
    out += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    for key, value in numbers.items():
        out += text(f"llama.{key}") + struct.pack("<II", 4, value)
    out += text("token_embd.weight") + struct.pack("<IQQIQ", 2, 32, n_rows, 0, 0)
    out += bytes(-len(out) % 32)
    return out + bytes(i * 7 % 251 for i in range(128)) * n_rows


MODEL = build_model(16_000)  # 2 MB


@pytest.fixture
def server():
    with contextlib.closing(HubServer()) as hub:
        hub.add(NAME, {FILE: MODEL, "tiny-Q8_0.gguf": build_model(20_000)})
        yield hub


@pytest.fixture
def environ(server, tmp_path):
    """Return an environment with a fresh home and this hub, and no more of it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith("_PROXY")
        and not name.startswith(("HF_", "CLOISTER_"))
    }
    return kept | {
        "CLOISTER_HOME": str(tmp_path / "home"),
        "HOME": str(tmp_path / "user"),
        "HF_ENDPOINT": server.endpoint,
    }


@pytest.fixture
def get(environ):
    """Return a function that runs the command and waits for it."""

    def run(*args, **more):
        return subprocess.run(
            [sys.executable, "-c", CODE, "get", *args],
            env=environ | more,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return run


def test_a_model_is_fetched_and_everything_is_said(get, server, tmp_path):
    done = get(NAME)
    path = tmp_path / "home" / "models" / NAME / FILE
    assert (0, MODEL) == (done.returncode, path.read_bytes()), done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == (
        f"{NAME} at {COMMIT[:12]} of {server.endpoint}, licence: apache-2.0"
    )
    assert lines[1].startswith("Q4_K_M: the best balance of quality and size here; it")
    assert lines[2:] == [
        f"     2.0 MiB  {FILE}",
        "To fetch: 2.0 MiB",
        "Verified and in the store:",
        f"  {path}",
    ]
    assert f"Fetching {FILE}: 100%" in done.stderr
    sums = (path.parent / "SHA256SUMS").read_text(encoding="utf-8")
    assert f"{hashlib.sha256(MODEL).hexdigest()}  {FILE}\n" == sums
    # Nothing was written into the user's home.
    assert not (tmp_path / "user").exists()
    again = get(NAME)
    assert "Already there:" in again.stdout
    assert len(MODEL) == server.sent_bytes()


def test_json_is_one_document_and_nothing_else(get, server):
    done = get(f"{NAME}:Q8_0", "--json")
    document = json.loads(done.stdout)
    assert ("admitted", "Q8_0", COMMIT, "") == (
        document["state"],
        document["quantization"],
        document["commit"],
        done.stderr,
    )
    assert ["tiny-Q8_0.gguf"] == [file["path"] for file in document["files"]]
    assert document["paths"][0].endswith("tiny-Q8_0.gguf")
    assert "already_there" == json.loads(get(f"{NAME}:Q8_0", "--json").stdout)["state"]


def test_a_dry_run_and_a_list_fetch_and_write_nothing(get, server, tmp_path):
    dry = get(NAME, "--dry-run")
    assert "To fetch: 2.0 MiB" in dry.stdout
    listed = get(NAME, "--list", "--memory", "16GiB")
    assert listed.stdout.splitlines()[1:3] == [
        f"* Q4_K_M            2.0 MiB  fits          {FILE}",
        "  Q8_0              2.4 MiB  fits          tiny-Q8_0.gguf",
    ]
    document = json.loads(get(NAME, "--list", "--json").stdout)
    assert [True, False] == [model["chosen"] for model in document["models"]]
    assert 0 == server.sent_bytes()
    assert not (tmp_path / "home").exists()


def test_a_killed_download_goes_on_where_it_was(get, environ, server, tmp_path):
    server.faults = [Fault(pause_s=0.05)]  # 32 blocks: 1.6 s
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "get", NAME],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    folder = tmp_path / "home" / "models" / ".cloister" / "partial"
    kept = folder / f"{hashlib.sha256(MODEL).hexdigest()}.part"
    deadline = time.monotonic() + 30
    while not (kept.exists() and kept.stat().st_size > 500_000):
        assert time.monotonic() < deadline, "nothing arrived"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    size = kept.stat().st_size
    assert MODEL[:size] == kept.read_bytes()
    assert len(MODEL) > size
    dry = get(NAME, "--dry-run")
    assert "are here from an earlier try" in dry.stdout
    done = get(NAME)
    assert 0 == done.returncode, done.stderr
    fetched = server.downloads()[-1]
    assert f"bytes={size}-{len(MODEL) - 1}" == fetched.headers["range"]
    assert len(MODEL) - size == fetched.sent
    stored = tmp_path / "home" / "models" / NAME / FILE
    assert MODEL == stored.read_bytes()
    assert [] == list(folder.iterdir())


def test_ctrl_c_says_how_to_go_on(environ, server, tmp_path):
    server.faults = [Fault(pause_s=0.05)]
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "get", NAME],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not any((tmp_path / "home").rglob("*.part")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert 130 == process.returncode
    assert "What was fetched is kept; run the same command again to go on." in told


def test_a_gated_repository_needs_the_token_and_keeps_it(get, server, tmp_path):
    server.repositories[NAME].token = TOKEN
    server.repositories[NAME].gated = True
    refused = get(NAME)
    assert 1 == refused.returncode
    assert "set HF_TOKEN to a token of yours" in refused.stderr
    done = get(NAME, HF_TOKEN=f"{TOKEN}\n")
    assert 0 == done.returncode, done.stderr
    assert {None} == {each.token for each in server.seen if each.server == "store"}
    written = [p.read_bytes() for p in (tmp_path / "home").rglob("*") if p.is_file()]
    assert not any(TOKEN.encode() in content for content in written)
    assert TOKEN not in done.stdout + done.stderr


def test_the_commit_is_recorded_for_a_named_revision(get, server, tmp_path):
    server.repositories[NAME].older["v1"] = {FILE: build_model(1_000)}
    server.repositories[NAME].older["c" * 40] = {FILE: build_model(1_000)}
    done = get(NAME, "--revision", "c" * 40, "--endpoint", server.endpoint)
    assert 0 == done.returncode, done.stderr
    record = read_record(tmp_path / "home" / "models" / NAME / FILE)
    assert ("c" * 40, server.endpoint) == (
        record.source.revision,
        record.source.endpoint,
    )


@pytest.mark.parametrize(
    ("args", "more", "text"),
    [
        (("tiny",), {}, "'tiny' does not name a repository"),
        ((NAME, "--endpoint", "ftp://x"), {}, "'ftp://x' is not the address of a hub"),
        ((NAME,), {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE=1 forbids the network"),
        ((NAME, "--memory", "1MiB"), {}, "the machine of --memory can give 0 bytes"),
        ((NAME, "--endpoint", "http://127.0.0.1:1"), {}, "cloister import FILE"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_next_step(get, args, more, text):
    done = get(*args, **more)
    assert 1 == done.returncode
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_memory_that_is_no_size_is_refused():
    assert 16 * 2**30 == read_memory("16GiB").total_bytes
    assert read_memory(None).total_bytes > 2**28
    with pytest.raises(click.BadParameter, match="'lots' is not valid: expected"):
        read_memory("lots")


def test_the_help_names_what_an_operator_sets(get):
    text = get("--help").stdout
    for name in ("HF_ENDPOINT", "HF_TOKEN", "HTTPS_PROXY", "SSL_CERT_FILE"):
        assert name in text

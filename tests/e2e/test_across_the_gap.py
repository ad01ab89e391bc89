"""The whole way once: a hub, a signed bundle in parts, a closed side, a chat."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from model_store import builtin
from tests.hub_server import HubServer

ROOT = Path(__file__).resolve().parents[2]
CLOSED_SIDE = Path(__file__).with_name("closed_side.py")
ALONE = ["unshare", "--user", "--map-root-user", "--net"]


def can_isolate():
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return not subprocess.run(
        [*ALONE, "true"], capture_output=True, check=False
    ).returncode


def environ(home, **more):
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith("_PROXY")
        and not name.startswith(("HF_", "CLOISTER_"))
    }
    own = {"CLOISTER_HOME": str(home), "HOME": str(home.parent), "GOMP_SPINCOUNT": "0"}
    return kept | own | {"PYTHONPATH": str(ROOT)} | more


def run(command, **options):
    done = subprocess.run(
        [str(each) for each in command],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(180)
@pytest.mark.skipif(not can_isolate(), reason="needs unshare, ip, leave")
@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_a_model_goes_from_a_hub_to_a_chat_on_a_machine_without_a_network(tmp_path):
    content = (builtin.DIRECTORY / builtin.MODEL_NAME).read_bytes()
    stick, key = tmp_path / "stick", tmp_path / "bundle-key"
    stick.mkdir()
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])

    # The connected side.
    program = [sys.executable, "-m", "server"]
    with contextlib.closing(HubServer()) as hub:
        hub.add("acme/novice-GGUF", {"novice-Q8_0.gguf": content})
        open_side = environ(tmp_path / "open", HF_ENDPOINT=hub.endpoint)
        run([*program, "get", "acme/novice-GGUF"], env=open_side, cwd=tmp_path)
    create = ["bundle", "create", "novice", "--out", stick / "novice.tar"]
    create += ["--split", "2MiB", "--sign", key]
    run([*program, *create], env=open_side, cwd=tmp_path)
    parts = sorted(path.name for path in stick.iterdir())
    assert [f"novice.tar.00{n}" for n in (1, 2, 3)] == parts[:3]

    # The closed side: no interface but lo, and only the stick and the public key.
    arguments = [stick / "novice.tar", key.with_suffix(".pub")]
    closed = environ(tmp_path / "closed")
    printed = run(
        [*ALONE, sys.executable, CLOSED_SIDE, *arguments], env=closed, cwd=tmp_path
    )
    told = json.loads(printed)
    assert ["lo"] == told["interfaces"]
    assert {"status": "ok", "seal": "kernel"} == told["health"]
    assert ["novice"] == told["listed"]
    (choice,) = told["answer"]["choices"]
    assert "I am Novice" in choice["message"]["content"]
    assert 0 == told["exit"]
    stored = tmp_path / "closed/models/acme/novice-GGUF/novice-Q8_0.gguf"
    assert content == stored.read_bytes()

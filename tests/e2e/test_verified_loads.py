"""`serve --verify`: what is refused, what is told, what is served again."""

import json
import os
import shutil

import pytest

from model_store.layout import Store
from model_store.record import damage_path
from model_store.verify import verify_file
from scripts.make_model import write_model
from tests.e2e.server_process import Server
from tests.model_store.stored_models import flip_bit, write_own_record


@pytest.fixture
def folder(tmp_path):
    """Give a folder with a home whose store has two recorded models."""
    for name in ("one", "two"):
        path = tmp_path / "home" / "models" / "acme" / name / f"{name}.gguf"
        path.parent.mkdir(parents=True)
        write_model(path, "tiny-llama")
        write_own_record(path)
    return tmp_path


@pytest.fixture
def path(folder):
    return folder / "home" / "models" / "acme" / "one" / "one.gguf"


def damage(path):
    """Flip a bit as a dying disk does it: the time stays."""
    facts = path.stat()
    flip_bit(path, facts.st_size - 1)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def ask(server, model):
    return server.post("/v1/completions", model=model, prompt="the", max_tokens=3)


def refusal(server, model):
    answer = ask(server, model)
    error = json.loads(answer.content)["error"]
    assert (500, "model_load_failed") == (answer.status_code, error["code"])
    return error["message"]


def test_by_default_a_touched_file_is_refused_until_it_was_verified(folder, path):
    os.utime(path, ns=(0, 5))
    server = Server(folder, [])
    try:
        assert "Compare its bytes by `cloister verify one`" in refusal(server, "one")
        assert 200 == ask(server, "two").status_code
        verify_file(path, store=Store(folder / "home"))
        assert 200 == ask(server, "one").status_code
    finally:
        server.kill()


def test_load_reads_every_byte_and_a_mended_file_is_served_at_once(folder, path):
    good = shutil.copy2(path, folder / "good.gguf")
    damage(path)
    server = Server(folder, ["--verify", "load"])
    try:
        assert "is damaged: its SHA-256 is " in refusal(server, "one")
        assert damage_path(path).exists()
        assert "is quarantined since " in refusal(server, "one")
        shutil.copy2(good, path)
        verify_file(path, store=Store(folder / "home"))
        assert 200 == ask(server, "one").status_code
    finally:
        server.kill()


def test_start_tells_each_model_and_serves_the_sound_ones(folder, path):
    damage(path)
    server = Server(folder, ["--verify", "start"])
    try:
        first, one, two, *_ = server.banner.splitlines()
        assert first.startswith("Verifying 2 models (")
        assert one.startswith(f"  one: NOT SERVED. The file '{path}' is damaged: ")
        assert two.startswith("  two: sound (")
        assert f"  not served: The file '{path}' is quarantined since" in server.banner
        listed = [each["id"] for each in server.get("/v1/models").json()["data"]]
        assert ["two"] == listed
        assert "is quarantined since " in refusal(server, "one")
        assert 200 == ask(server, "two").status_code
    finally:
        server.kill()


def test_off_serves_what_was_touched(folder, path):
    os.utime(path, ns=(0, 5))
    server = Server(folder, ["--verify", "off"])
    try:
        assert 200 == ask(server, "one").status_code
    finally:
        server.kill()

"""Starting: one clear line for whatever is wrong, and what to do next."""

import json
import re
import shutil
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from scripts.make_model import write_model
from server.seal.level import Level
from tests.e2e.server_process import run_serve


@pytest.fixture
def models(tmp_path, made_models):
    """A models directory of one model that a test may change."""
    folder = tmp_path / "models" / "acme" / "llama"
    folder.mkdir(parents=True)
    shutil.copy(made_models / "acme/llama/tiny-llama-F32.gguf", folder)
    return tmp_path / "models"


def refused(done, *words):
    """Check that a start failed with one line that holds these words."""
    assert (1, "") == (done.returncode, done.stdout)
    (line,) = done.stderr.splitlines()
    assert line.startswith("cloister: ")
    for word in words:
        assert str(word) in line


def test_the_banner_says_where_what_and_what_to_try(start_server, models):
    server = start_server("--models-dir", models)
    lines = server.banner.splitlines()
    assert [
        f"Cloister listens on {server.url}  (OpenAI API at {server.url}/v1)",
        "Access: open to every program that can reach it; see cloister token",
        f"Offline seal: {Level.OFF.meaning}",
        f"Models in {models}",
        "  tiny-llama  (llm, F32, 0.00 GiB)",
        "Try:",
    ] == lines[:6]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", server.url)


@pytest.mark.parametrize("only", ["a chat model", "an embedding model"])
def test_the_request_to_try_works_in_a_shell(start_server, models, only):
    if only == "an embedding model":
        shutil.rmtree(models / "acme")
        write_model(models / "tiny-bert.gguf", "tiny-bert")
    banner = start_server("--models-dir", models, "--context-length", "64").banner
    command = banner.partition("Try:\n")[2]
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, check=True, text=True, timeout=30
    )
    answer = json.loads(done.stdout)
    assert answer.get("error") is None
    if only == "a chat model":
        assert "tiny-llama" == answer["model"]
        assert answer["choices"][0]["message"]["content"]
    else:
        assert 64 == len(answer["data"][0]["embedding"])


def test_a_port_in_use_is_named(tmp_path, models):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        done = run_serve(tmp_path, "--port", str(port), "--models-dir", models)
    refused(done, f"port {port} on 127.0.0.1 is in use", "--port")


def test_a_second_server_on_the_same_port_does_not_start(
    start_server, tmp_path, models
):
    port = start_server("--models-dir", models).port
    done = run_serve(tmp_path, "--port", str(port), "--models-dir", models)
    refused(done, f"port {port} on 127.0.0.1 is in use")


def test_a_foreign_address_is_named(tmp_path, models):
    # Reserved for documentation: no machine has it.
    done = run_serve(tmp_path, "--host", "192.0.2.1", "--models-dir", models)
    refused(done, "cannot listen on 192.0.2.1 port 1234", "--host")


def test_a_home_that_is_a_file_is_refused(tmp_path, models):
    home = tmp_path / "file"
    home.write_text("not a folder")
    done = run_serve(tmp_path, "--port", "0", "--models-dir", models, home=home)
    refused(done, f"the home folder {home} cannot be used", "--home")
    assert "not a folder" == home.read_text()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_a_home_that_cannot_be_made_is_refused(tmp_path, models):
    # Not even root can make a folder there.
    home = Path("/proc/cloister")
    done = run_serve(tmp_path, "--port", "0", "--models-dir", models, home=home)
    refused(done, f"the home folder {home} cannot be used", "--home")


def test_a_missing_models_directory_is_named(tmp_path):
    missing = tmp_path / "nowhere"
    done = run_serve(tmp_path, "--port", "0", "--models-dir", missing)
    refused(done, f"the models folder {missing} does not exist", "--models-dir")


def test_an_empty_models_directory_is_served_and_says_what_to_do(
    start_server, tmp_path
):
    (tmp_path / "empty").mkdir()
    server = start_server("--models-dir", tmp_path / "empty")
    target = tmp_path / "empty" / "publisher" / "repository" / "model.gguf"
    assert f"none yet: copy a GGUF file to {target}" in server.banner
    assert [] == server.get("/v1/models").json()["data"]
    answer = server.post("/v1/completions", model="any", prompt="the")
    assert 404 == answer.status_code
    assert "No model is available" in answer.json()["error"]["message"]


def test_without_a_models_directory_the_home_has_one(start_server, models):
    server = start_server()
    folder = server.home / "models"
    assert f"Models in {folder}" in server.banner.splitlines()
    shutil.copytree(models / "acme", folder / "acme")
    answer = server.complete("tiny-llama", "the", max_tokens=2)
    assert 2 == answer["usage"]["completion_tokens"]


def test_several_models_directories_are_one_list(start_server, tmp_path, models):
    (tmp_path / "more").mkdir()
    write_model(tmp_path / "more" / "second.gguf", "tiny-llama-bare")
    server = start_server("--models-dir", models, "--models-dir", tmp_path / "more")
    listed = [model["id"] for model in server.get("/v1/models").json()["data"]]
    assert ["second", "tiny-llama"] == listed
    for model in listed:
        server.complete(model, "the", max_tokens=1)


def test_a_split_model_is_one_model_and_answers_like_the_whole(start_server, models):
    folder = models / "acme" / "llama"
    paths = write_model(folder / "split.gguf", "tiny-llama", n_shards=3)
    assert 3 == len(paths)
    server = start_server("--models-dir", models)
    listed = [model["id"] for model in server.get("/v1/models").json()["data"]]
    assert ["split", "tiny-llama"] == listed
    texts = [
        server.complete(model, "The wheel", max_tokens=30)["choices"][0]["text"]
        for model in listed
    ]
    assert texts[0] == texts[1]
    assert texts[0]


def test_a_missing_part_of_a_split_model_is_named(start_server, models):
    folder = models / "acme" / "llama"
    paths = write_model(folder / "split.gguf", "tiny-llama", n_shards=3)
    paths[1].unlink()
    server = start_server("--models-dir", models)
    assert "split-00002-of-00003.gguf" in server.banner
    answer = server.post("/v1/completions", model="split", prompt="the")
    assert 500 == answer.status_code
    assert "model_load_failed" == answer.json()["error"]["code"]
    assert "split-00002-of-00003.gguf" in answer.json()["error"]["message"]


def test_a_projector_is_no_model(start_server, models):
    write_model(models / "acme" / "llama" / "mmproj-F16.gguf", "tiny-llama")
    server = start_server("--models-dir", models)
    listed = [model["id"] for model in server.get("/v1/models").json()["data"]]
    assert ["tiny-llama"] == listed
    assert "mmproj" not in server.banner


def test_a_foreign_models_directory_is_only_read(start_server, models):
    def look():
        return {
            path: (path.stat().st_mtime_ns, path.stat().st_size)
            for path in [models, *models.rglob("*")]
        }

    for path in [models, *models.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    before = look()
    server = start_server("--models-dir", models)
    server.complete("tiny-llama", "the", max_tokens=2)
    server.stop()
    assert before == look()
    for path in [models, *models.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


def test_an_unknown_setting_stops_the_start(tmp_path):
    (tmp_path / "cloister.toml").write_text("paralel = 2\n")
    done = run_serve(tmp_path, "--port", "0")
    assert done.returncode != 0
    assert "Did you mean parallel?" in done.stderr

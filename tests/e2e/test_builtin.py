"""The built-in model is served from the first start on, unless told otherwise."""

import json
import shutil
import subprocess

import pytest

from model_store import builtin
from scripts.make_model import write_model

pytestmark = pytest.mark.skipif(
    not builtin.is_present(), reason=f"{builtin.MODEL_NAME} is not in this checkout"
)
WITH = {"environment": {"CLOISTER_BUILTIN": "1"}}


def ids(server):
    return [model["id"] for model in server.get("/v1/models").json()["data"]]


def test_a_fresh_home_serves_the_built_in_model_and_says_so(start_server):
    server = start_server(**WITH)
    assert ["novice"] == ids(server)
    lines = server.banner.splitlines()
    assert f"Models in {server.home / 'models'}" in lines
    assert str(builtin.DIRECTORY) not in server.banner
    (line,) = [line for line in lines if line.startswith("  novice")]
    assert line.startswith("  novice  (llm, Q8_0, 0.0")
    assert line.endswith(" GiB, built in)")
    target = server.home / "models" / "publisher" / "repository" / "model.gguf"
    assert f"To add models of your own: copy a GGUF file to {target}," in server.banner
    assert "none yet" not in server.banner
    command = server.banner.partition("Try:\n")[2]
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, check=True, text=True, timeout=30
    )
    answer = json.loads(done.stdout)
    assert "novice" == answer["model"]
    assert "Novice" in answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_each_way_to_leave_it_out_works(start_server, tmp_path, source):
    if source == "file":
        folder = tmp_path / "server-0"
        folder.mkdir()
        (folder / "cloister.toml").write_text("builtin = false\n")
    value = {"flag": "1", "environment": "0", "file": ""}[source]
    flags = ["--no-builtin"] if source == "flag" else []
    server = start_server(*flags, environment={"CLOISTER_BUILTIN": value})
    assert [] == ids(server)
    assert "none yet: copy a GGUF file to" in server.banner


def test_models_of_the_user_stand_beside_it_and_are_proposed_first(
    start_server, made_models
):
    server = start_server("--models-dir", made_models / "acme" / "llama", **WITH)
    assert ["novice", "tiny-llama"] == ids(server)
    assert '"model":"tiny-llama"' in server.banner.partition("Try:\n")[2]
    assert "models of your own" not in server.banner


def test_beside_an_embedding_model_that_one_is_proposed(start_server, tmp_path):
    (tmp_path / "models").mkdir()
    write_model(tmp_path / "models" / "tiny-bert.gguf", "tiny-bert")
    server = start_server("--models-dir", tmp_path / "models", **WITH)
    assert ["novice", "tiny-bert"] == ids(server)
    assert "/v1/embeddings" in server.banner.partition("Try:\n")[2]


def test_a_file_of_the_user_goes_before_it(start_server, tmp_path):
    (tmp_path / "models").mkdir()
    write_model(tmp_path / "models" / builtin.MODEL_NAME, "tiny-llama")
    server = start_server("--models-dir", tmp_path / "models", **WITH)
    assert ["novice"] == ids(server)
    assert "built in" not in server.banner


def test_another_model_of_its_name_is_told_apart(start_server, tmp_path):
    folder = tmp_path / "models" / "acme" / "novice"
    folder.mkdir(parents=True)
    shutil.copy(builtin.DIRECTORY / builtin.MODEL_NAME, folder)
    server = start_server("--models-dir", tmp_path / "models", **WITH)
    assert 2 == len(set(ids(server)))
    answer = server.complete("novice", "Hello", max_tokens=1)
    assert 1 == answer["usage"]["completion_tokens"]

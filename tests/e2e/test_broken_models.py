"""Broken files end in errors that name file and reason, never in a crash."""

import json

import pytest

from tests.e2e.broken_models import MEANING, STRUCTURE, write_broken_models
from tests.e2e.server_process import Server, texts_of


@pytest.fixture(scope="module")
def broken_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    write_broken_models(folder / "models" / "acme" / "broken")
    server = Server(folder, ["--models-dir", folder / "models"])
    yield server
    server.kill()


def refuse(server, model):
    """Ask a broken model and return its error; a sound one must go on."""
    pid = server.pid
    answer = server.post("/v1/completions", model=model, prompt="the", max_tokens=3)
    sound = server.complete("sound", "the", max_tokens=3)
    assert (pid, 3) == (server.pid, sound["usage"]["completion_tokens"])
    assert 500 == answer.status_code
    return answer.json()["error"]


@pytest.mark.parametrize("model", STRUCTURE)
def test_damage_is_found_before_llama_cpp_sees_the_file(broken_server, model):
    n_loads = broken_server.log.count("is ready after")
    error = refuse(broken_server, model)
    assert "model_load_failed" == error["code"]
    assert f"/acme/broken/{model}.gguf' is not a usable GGUF file" in error["message"]
    assert STRUCTURE[model].reason in error["message"]
    # No worker but the sound model's has ever begun.
    assert 1 == len(broken_server.workers())
    assert broken_server.log.count("is ready after") - n_loads <= 1


@pytest.mark.parametrize("model", STRUCTURE)
def test_the_start_names_damaged_files_and_does_not_list_them(broken_server, model):
    (line,) = [
        line for line in broken_server.banner.splitlines() if f"/{model}.gguf" in line
    ]
    assert line.startswith("  not served: The file ")
    assert STRUCTURE[model].reason in line
    listed = [each["id"] for each in broken_server.get("/v1/models").json()["data"]]
    assert model not in listed
    assert "sound" in listed


@pytest.mark.parametrize("model", MEANING)
def test_llama_cpps_own_reason_reaches_the_client(broken_server, model):
    error = refuse(broken_server, model)
    assert "model_load_failed" == error["code"]
    assert f"/acme/broken/{model}.gguf cannot be loaded" in error["message"]
    assert MEANING[model][0] in error["message"]
    assert 1 == len(broken_server.workers())
    assert f"{model} is not loaded: {error['message']}" in broken_server.log


def test_a_crash_while_loading_names_the_file(broken_server):
    error = refuse(broken_server, "same-tokens")
    assert "model_load_failed" == error["code"]
    assert "The engine died while it loaded " in error["message"]
    assert "/same-tokens.gguf (signal SIGABRT)" in error["message"]


def test_a_model_that_crashes_when_it_computes_fails_its_request(broken_server):
    error = refuse(broken_server, "odd-epsilon")
    assert "worker_crashed" == error["code"]
    assert "signal SIGABRT" in error["message"]


def test_weights_that_are_no_numbers_fail_the_request(broken_server):
    error = refuse(broken_server, "not-numbers")
    assert "engine_failed" == error["code"]
    assert "the model computed logits that are not numbers" in error["message"]


def test_weights_that_are_no_numbers_end_a_stream_with_an_error(broken_server):
    asked = {"model": "not-numbers", "prompt": "the", "temperature": 0.8}
    with broken_server.stream("/v1/completions", **asked) as stream:
        if stream.response.status_code == 500:
            # It failed before there was anything to send.
            error = json.loads(stream.response.read())["error"]
        else:
            *head, (name, last) = stream
            assert ("error", "") == (name, texts_of(head))
            error = last["error"]
    assert "engine_failed" == error["code"]

"""Models come and go while the server runs."""

import shutil
import threading
import time

import pytest

from scripts.make_model import write_model
from tests.e2e.server_process import GREEDY, lives, wait_until

N_AT_ONCE = 6


@pytest.fixture
def models(tmp_path, made_models):
    """A models directory of one model that a test may change."""
    folder = tmp_path / "models" / "acme" / "llama"
    folder.mkdir(parents=True)
    shutil.copy(made_models / "acme/llama/tiny-llama-F32.gguf", folder)
    return tmp_path / "models"


def test_first_requests_at_once_share_one_load(start_server, models):
    server = start_server("--models-dir", models)
    texts, most = [], []

    def ask():
        answer = server.complete("tiny-llama", "The wheel", max_tokens=10)
        texts.append(answer["choices"][0]["text"])

    asking = [threading.Thread(target=ask) for _ in range(N_AT_ONCE)]
    for thread in asking:
        thread.start()
    while any(thread.is_alive() for thread in asking):
        most.append(len(server.workers()))
        time.sleep(0.005)
    assert 1 == max(most)
    assert 1 == server.log.count("tiny-llama is ready after")
    assert N_AT_ONCE == len(texts)
    assert 1 == len(set(texts))


def test_a_client_that_leaves_while_a_model_loads_does_not_stop_the_load(
    start_server, models
):
    server = start_server("--models-dir", models)
    threads = [threading.Thread(target=leave_early, args=(server,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    answer = server.complete("tiny-llama", "The wheel", max_tokens=3)
    for thread in threads:
        thread.join()
    assert 3 == answer["usage"]["completion_tokens"]
    assert 1 == server.log.count("tiny-llama is ready after")


def leave_early(server):
    asked = {"model": "tiny-llama", "prompt": "the", **GREEDY}
    with server.ask_raw("/v1/completions", **asked):
        wait_until(server.workers, 10, "a worker is there")


def test_a_model_that_is_added_while_serving_is_found(start_server, models):
    server = start_server("--models-dir", models)
    unknown = server.post("/v1/completions", model="newcomer", prompt="the")
    assert "model_not_found" == unknown.json()["error"]["code"]
    write_model(models / "newcomer.gguf", "tiny-llama-bare")
    # Asked for by name at once, without a listing in between.
    answer = server.complete("newcomer", "the", max_tokens=2)
    assert "newcomer" == answer["model"]
    listed = [model["id"] for model in server.get("/v1/models").json()["data"]]
    assert ["newcomer", "tiny-llama"] == listed


def test_a_broken_file_that_is_mended_while_serving_works(start_server, models):
    sound = models / "acme" / "llama" / "tiny-llama-F32.gguf"
    mended = models / "mended.gguf"
    mended.write_bytes(sound.read_bytes()[:-1000])
    server = start_server("--models-dir", models)
    broken = server.post("/v1/completions", model="mended", prompt="the")
    assert "model_load_failed" == broken.json()["error"]["code"]
    mended.write_bytes(sound.read_bytes())
    server.complete("mended", "the", max_tokens=2)


def test_a_model_that_is_removed_is_not_found_any_more(start_server, models):
    gone = models / "gone.gguf"
    write_model(gone, "tiny-llama-bare")
    server = start_server("--models-dir", models)
    gone.unlink()
    assert 404 == server.get("/v1/models/nothing").status_code  # looks again
    answer = server.post("/v1/completions", model="gone", prompt="the")
    assert "model_not_found" == answer.json()["error"]["code"]


def test_an_idle_model_is_unloaded_and_loaded_again(start_server, models):
    server = start_server("--models-dir", models, "--ttl", "1")
    first = server.complete("tiny-llama", "The wheel", max_tokens=10)
    (worker,) = server.workers()
    wait_until(lambda: not lives(worker), 10, "the idle worker is gone")
    assert "tiny-llama was idle for 1 s: unloaded" in server.log
    again = server.complete("tiny-llama", "The wheel", max_tokens=10)
    (fresh,) = server.workers()
    assert worker.pid != fresh.pid
    assert first["choices"] == again["choices"]


def test_a_model_in_use_is_not_idle(start_server, models):
    server = start_server(
        *("--models-dir", models, "--ttl", "1", "--context-length", "100000")
    )
    asked = {"model": "tiny-llama", "prompt": "The wheel", **GREEDY}
    with server.stream("/v1/completions", **asked) as stream:
        events = iter(stream)
        next(events)
        (worker,) = server.workers()
        end_s = time.monotonic() + 1.5
        while time.monotonic() < end_s:
            assert "message" == next(events)[0]
        assert lives(worker)


def test_a_model_that_does_not_fit_is_refused_with_numbers(start_server, models):
    server = start_server("--models-dir", models, "--memory-limit", "1MiB")
    answer = server.post("/v1/completions", model="tiny-llama", prompt="the")
    error = answer.json()["error"]
    assert (503, "insufficient_memory") == (answer.status_code, error["code"])
    assert "The model 'tiny-llama' needs about 0." in error["message"]
    assert "but only 0.00 GiB are free" in error["message"]
    assert [] == server.workers()


def test_an_idle_model_makes_room_for_another(start_server, models, tmp_path):
    write_model(models / "second.gguf", "tiny-llama-bare")
    server = start_server("--models-dir", models, "--memory-limit", "170MiB")
    for model in ("tiny-llama", "second", "tiny-llama"):
        server.complete(model, "the", max_tokens=1)
        assert 1 == len(server.workers())
    assert "second is unloaded to make room" in server.log

"""Workers that die or hang take nothing with them but their own requests."""

import signal
import threading
import time

import pytest

from tests.e2e.server_process import GREEDY, Server, lives, texts_of, wait_until

ENDLESS = {"prompt": "The mill", "max_tokens": -1, **GREEDY}


NOTICED = "ended unexpectedly (signal SIGKILL)"
LONG = ("--context-length", "100000")
"""Streams then go on for a minute and more."""


@pytest.fixture(scope="module")
def one_server(made_models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("crashes")
    server = Server(folder, ["--models-dir", made_models, *LONG])
    yield server
    server.kill()


@pytest.fixture
def long_server(one_server):
    """A server with nothing loaded."""
    yield one_server
    kill_workers(one_server)


def kill_workers(server):
    """Kill all workers and wait until the server has noticed."""
    workers = server.workers()
    n_noticed = server.log.count(NOTICED) + len(workers)
    for worker in workers:
        worker.kill()
    wait_until(lambda: server.log.count(NOTICED) == n_noticed, 5, "all are noticed")


def take(events, n):
    return [next(events) for _ in range(n)]


def load(server, model):
    """Load a model and return its worker."""
    before = {worker.pid for worker in server.workers()}
    server.complete(model, "the", max_tokens=1)
    (worker,) = [w for w in server.workers() if w.pid not in before]
    return worker


def test_a_killed_worker_ends_its_stream_and_no_other(long_server):
    doomed = load(long_server, "tiny-llama")
    sound = load(long_server, "tiny-qwen2")
    with (
        long_server.stream("/v1/completions", model="tiny-llama", **ENDLESS) as one,
        long_server.stream("/v1/completions", model="tiny-qwen2", **ENDLESS) as other,
    ):
        first, second = iter(one), iter(other)
        take(first, 20)
        take(second, 20)
        doomed.kill()
        *_, (name, last) = first
        assert ("error", "worker_crashed") == (name, last["error"]["code"])
        assert "server_error" == last["error"]["type"]
        assert "ended unexpectedly (signal SIGKILL)" in last["error"]["message"]
        # More than could have been on its way when the worker was killed.
        later = take(second, 2000)
        assert {"message"} == {name for name, _ in later}
        assert len(texts_of(later)) > 2000
    again = long_server.complete("tiny-llama", "the", max_tokens=5)
    assert 5 == again["usage"]["completion_tokens"]
    (fresh,) = [w for w in long_server.workers() if w.pid != sound.pid]
    assert fresh.pid != doomed.pid
    assert lives(sound)


def test_a_killed_worker_fails_whole_answers_as_retryable(long_server):
    worker = load(long_server, "tiny-llama")
    answers = []
    asking = threading.Thread(
        target=lambda: answers.append(
            long_server.post("/v1/completions", model="tiny-llama", **ENDLESS)
        )
    )
    asking.start()
    wait_until(lambda: worker.cpu_percent(0.05) > 20, 10, "the worker computes")
    worker.kill()
    asking.join(10)
    (answer,) = answers
    assert 500 == answer.status_code
    assert "worker_crashed" == answer.json()["error"]["code"]
    assert "true" == answer.headers["x-should-retry"]


def test_a_worker_killed_while_idle_is_not_noticed_by_the_next_request(long_server):
    load(long_server, "tiny-llama")
    kill_workers(long_server)
    answer = long_server.complete("tiny-llama", "the", max_tokens=5)
    assert 5 == answer["usage"]["completion_tokens"]


def test_a_worker_killed_while_it_loads_fails_that_load_alone(
    long_server, kill_first_worker
):
    kill_first_worker(long_server)
    answer = long_server.post("/v1/completions", model="tiny-llama", **ENDLESS)
    assert 500 == answer.status_code
    assert "model_load_failed" == answer.json()["error"]["code"]
    assert "tiny-llama-F32.gguf (signal SIGKILL)" in answer.json()["error"]["message"]
    again = long_server.complete("tiny-llama", "the", max_tokens=5)
    assert 5 == again["usage"]["completion_tokens"]


@pytest.fixture
def kill_first_worker():
    """Kill a server's first worker as soon as there is one."""
    threads = []

    def begin(server):
        def kill():
            wait_until(server.workers, 10, "a worker is there")
            server.workers()[0].kill()

        threads.append(threading.Thread(target=kill))
        threads[0].start()

    yield begin
    for thread in threads:
        thread.join(15)


def test_a_hanging_worker_holds_up_nobody_else(long_server):
    hanging = load(long_server, "tiny-llama")
    with long_server.stream("/v1/completions", model="tiny-llama", **ENDLESS) as one:
        take(iter(one), 5)
        hanging.suspend()
        try:
            begin_s = time.monotonic()
            assert 200 == long_server.get("/health").status_code
            assert time.monotonic() - begin_s < 2
            other = long_server.complete("tiny-qwen2", "the", max_tokens=5)
            assert 5 == other["usage"]["completion_tokens"]
        except BaseException:
            hanging.resume()
            raise
    # Its client has left; the server goes on, and so does the worker later.
    assert 200 == long_server.get("/health").status_code
    hanging.resume()
    answer = long_server.complete("tiny-llama", "the", max_tokens=5)
    assert 5 == answer["usage"]["completion_tokens"]
    assert hanging.pid in [worker.pid for worker in long_server.workers()]


def test_no_worker_outlives_a_killed_server(start_server, made_models):
    server = start_server("--models-dir", made_models, *LONG)
    workers = [load(server, "tiny-llama"), load(server, "tiny-qwen2")]
    with server.stream("/v1/completions", model="tiny-llama", **ENDLESS) as one:
        take(iter(one), 5)  # one worker is busy, the other idle
        server.signal(signal.SIGKILL)
        wait_until(lambda: not any(map(lives, workers)), 2, "the workers are gone")

"""SIGTERM and Ctrl-C: what runs may end, nothing new begins, nothing is left."""

import json
import signal
import time

import pytest

from tests.e2e.server_process import GREEDY, lives, texts_of, wait_until
from tests.live_server import read_all, split_response

N_TOKENS = 1000
ENDLESS = {"model": "tiny-llama", "prompt": "The mill", "max_tokens": -1, **GREEDY}
BOUNDED = {**ENDLESS, "max_tokens": N_TOKENS}
STOPS = [(signal.SIGTERM, False), (signal.SIGINT, False), (signal.SIGINT, True)]


@pytest.fixture
def start(start_server, made_models):
    def with_grace(grace_s):
        return start_server(
            *("--models-dir", made_models, "--context-length", "100000"),
            *("--shutdown-grace", grace_s),
        )

    return with_grace


@pytest.mark.parametrize(
    ("number", "group"), STOPS, ids=["SIGTERM", "SIGINT", "Ctrl-C"]
)
def test_a_running_stream_ends_by_itself_within_the_grace_time(start, number, group):
    server = start("30")
    with server.stream("/v1/completions", **BOUNDED) as stream:
        events = iter(stream)
        head = [next(events) for _ in range(5)]
        workers = server.workers()
        server.signal(number, group=group)
        rest = list(events)
    assert (("message", "[DONE]"), "length") == (
        rest[-1],
        rest[-2][1]["choices"][0]["finish_reason"],
    )
    assert len(texts_of(head + rest)) > N_TOKENS
    assert 0 == server.wait()
    assert 1 == len(workers)
    assert not any(map(lives, workers))


def test_what_does_not_end_in_time_is_told_why(start):
    server = start("0.3")
    with server.stream("/v1/completions", **ENDLESS) as stream:
        events = iter(stream)
        for _ in range(5):
            next(events)
        (worker,) = server.workers()
        server.signal(signal.SIGTERM)
        begin_s = time.monotonic()
        *_, (name, last) = events
    assert time.monotonic() - begin_s < 5
    assert ("error", "shutting_down") == (name, last["error"]["code"])
    assert "The server is stopping" in last["error"]["message"]
    assert 0 == server.wait()
    assert not lives(worker)


def test_new_requests_are_refused_while_old_ones_end(start):
    server = start("30")
    with server.stream("/v1/completions", **BOUNDED) as stream:
        events = iter(stream)
        next(events)
        server.signal(signal.SIGTERM)
        wait_until(
            lambda: (
                server.post(
                    "/v1/completions", **BOUNDED | {"max_tokens": 1}
                ).status_code
                != 200
            ),
            5,
            "new requests are refused",
        )
        refused = server.post("/v1/completions", **BOUNDED)
        assert (503, "shutting_down") == (
            refused.status_code,
            refused.json()["error"]["code"],
        )
        assert ("message", "[DONE]") == list(events)[-1]
    assert 0 == server.wait()


def test_a_second_signal_skips_the_waiting(start):
    server = start("60")
    with server.stream("/v1/completions", **ENDLESS) as stream:
        events = iter(stream)
        next(events)
        (worker,) = server.workers()
        server.signal(signal.SIGINT, group=True)
        time.sleep(0.3)
        assert server.process.poll() is None
        server.signal(signal.SIGINT, group=True)
        server.wait(10)
    wait_until(lambda: not lives(worker), 2, "the worker is gone")


def test_an_idle_server_stops_at_once_and_leaves_no_worker(start):
    server = start("30")
    server.complete("tiny-llama", "the", max_tokens=1)
    (worker,) = server.workers()
    begin_s = time.monotonic()
    assert 0 == server.stop()
    assert time.monotonic() - begin_s < 5
    assert not lives(worker)
    assert "Traceback" not in server.log


def test_a_hanging_worker_does_not_keep_the_server_from_stopping(start):
    server = start("0.3")
    server.complete("tiny-llama", "the", max_tokens=1)
    (worker,) = server.workers()
    worker.suspend()
    assert 0 == server.stop()
    assert not lives(worker)


def test_a_stop_while_a_model_loads_leaves_no_worker(start):
    server = start("5")
    with server.ask_raw("/v1/completions", **ENDLESS) as client:
        wait_until(server.workers, 10, "a worker is there")
        (worker,) = server.workers()
        server.signal(signal.SIGTERM)
        status, _, body = split_response(read_all(client))
    assert (503, "shutting_down") == (status, json.loads(body)["error"]["code"])
    assert 0 == server.wait()
    wait_until(lambda: not lives(worker), 2, "the worker is gone")

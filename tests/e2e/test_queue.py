"""Few places, many requests: a fair queue, and prompts that stall nobody."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from tests.e2e.server_process import GREEDY, Server, wait_until

MODEL = "tiny-llama"
LONG_PROMPT = [5 + number % 471 for number in range(9000)]


@pytest.fixture(scope="module")
def narrow_server(made_models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("narrow")
    arguments = ["--models-dir", made_models, "--parallel", "2"]
    server = Server(folder, [*arguments, "--context-length", "20000"])
    yield server
    server.kill()


def test_requests_wait_for_a_place_and_get_it_in_order_of_arrival(narrow_server):
    endless = {"model": MODEL, "prompt": "The mill", "max_tokens": -1, **GREEDY}
    finished = []

    def ask(number):
        asked = {"prompt": f"{number} wheels", "max_tokens": 300}
        with narrow_server.stream("/v1/completions", **endless | asked) as stream:
            events = list(stream)
        assert ("message", "[DONE]") == events[-1]
        finished.append(number)

    with (
        narrow_server.stream("/v1/completions", **endless) as kept,
        ThreadPoolExecutor(4) as pool,
    ):
        next(iter(kept))
        with narrow_server.stream("/v1/completions", **endless) as leaving:
            next(iter(leaving))
            waiting = []
            for number in range(4):
                waiting.append(pool.submit(ask, number))
                time.sleep(0.1)  # arrives after the one before
            time.sleep(0.5)
            assert [] == finished
        for each in waiting:
            each.result(20)
        assert "message" == next(iter(kept))[0]
    assert [0, 1, 2, 3] == finished


def test_more_prompts_than_places_are_all_completed(narrow_server):
    prompts = [f"{number} wheels" for number in range(12)]
    answer = narrow_server.complete(MODEL, prompts, max_tokens=10, n=2)
    assert list(range(24)) == [choice["index"] for choice in answer["choices"]]
    assert 240 == answer["usage"]["completion_tokens"]
    for first, second in zip(*[iter(answer["choices"])] * 2, strict=True):
        assert first["text"] == second["text"]


def test_a_request_of_many_choices_does_not_shut_others_out(narrow_server):
    narrow_server.complete(MODEL, "the", max_tokens=1)
    with ThreadPoolExecutor(1) as pool:
        many = pool.submit(narrow_server.complete, MODEL, "many", n=16, max_tokens=200)
        time.sleep(0.1)
        narrow_server.complete(MODEL, "the wheel", max_tokens=5)
        assert not many.done()
        assert 3200 == many.result()["usage"]["completion_tokens"]


def test_a_long_prompt_does_not_stop_the_streams_beside_it(start_server, made_models):
    server = start_server(
        *("--models-dir", made_models, "--parallel", "3"),
        *("--context-length", "20000"),
    )
    times_s = [[], []]
    stop = threading.Event()

    def read(number):
        asked = {"model": MODEL, "prompt": f"{number} wheels", "max_tokens": -1}
        with server.stream("/v1/completions", **asked, **GREEDY) as stream:
            for _ in stream:
                times_s[number].append(time.monotonic())
                if stop.is_set():
                    return

    readers = [threading.Thread(target=read, args=(n,)) for n in range(2)]
    for reader in readers:
        reader.start()
    try:
        wait_until(lambda: all(len(t) > 50 for t in times_s), 20, "both run")
        begin_s = time.monotonic()
        server.complete(MODEL, LONG_PROMPT, max_tokens=1)
        end_s = time.monotonic()
    finally:
        stop.set()
        for reader in readers:
            reader.join(10)
    for moments in times_s:
        during = [begin_s, *(t for t in moments if begin_s < t < end_s), end_s]
        gaps_s = [right - left for left, right in pairwise(during)]
        # A prompt that is read in one piece would be one gap.
        assert len(during) > 6
        assert max(gaps_s) < max(1.0, (end_s - begin_s) / 3)

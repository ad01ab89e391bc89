"""Clients that leave at any moment cost the server nothing that lasts.

A wave is 200 requests, 16 at a time. Half of the clients stay and check their
answers; the others hang up before the headers, in the middle of their prompt,
or in the middle of their stream.
"""

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass
from itertools import cycle

import psutil
import pytest

from tests.e2e.greedy_loop import BATCH_TIE, check_same, generate_alone
from tests.e2e.server_process import GREEDY, wait_until
from tests.live_server import post_bytes

N_REQUESTS = 200
N_AT_ONCE = 16
N_TOKENS = 24
PARALLEL = 4
MODEL = "tiny-llama"
PROMPTS = ["The river runs past", "When the wheel turns", "ice is only", "She said"]
LONG_PROMPT = "When the water is high the great wheel turns. " * 120
GROWTH_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Footprint:
    """What a process holds."""

    rss_bytes: int
    n_fds: int
    n_threads: int


def measure(pid):
    process = psutil.Process(pid)
    return Footprint(
        process.memory_info().rss, process.num_fds(), process.num_threads()
    )


class Wave:
    """Many clients of one server; `outcomes` counts how they ended."""

    def __init__(self, port, alones, seed):
        self._port = port
        self._alones = alones
        self._random = random.Random(seed)  # noqa: S311
        self._slots = asyncio.Semaphore(N_AT_ONCE)
        self.outcomes = Counter()

    async def run(self):
        kinds = ["stay"] * (N_REQUESTS // 2)
        leaving = cycle(("headers", "prompt", "stream"))
        kinds += [next(leaving) for _ in range(N_REQUESTS // 2)]
        self._random.shuffle(kinds)
        clients = (self._client(n, kind) for n, kind in enumerate(kinds))
        await asyncio.gather(*clients)

    async def _client(self, number, kind):
        async with self._slots:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                async with asyncio.timeout(40):
                    await getattr(self, f"_{kind}")(number, reader, writer)
            finally:
                writer.transport.abort()
        self.outcomes[kind] += 1

    async def _stay(self, number, reader, writer):
        prompt, alone = list(self._alones.items())[number % len(self._alones)]
        self._ask(writer, prompt, max_tokens=N_TOKENS, logprobs=0)
        body = (await reader.read()).partition(b"\r\n\r\n")[2]
        check_same(alone, json.loads(body), near_tie=BATCH_TIE)

    async def _headers(self, number, _, writer):
        self._ask(writer, PROMPTS[number % 4], stream=number % 2 == 0)
        await writer.drain()
        await asyncio.sleep(self._random.choice((0, 0.001, 0.01)))

    async def _prompt(self, number, reader, writer):
        prompt = f"{number} {LONG_PROMPT}"  # in no cache
        self._ask(writer, prompt, stream=True)
        await reader.readuntil(b"\r\n\r\n")  # accepted: its prompt is being read
        await asyncio.sleep(self._random.uniform(0, 0.02))

    async def _stream(self, number, reader, writer):
        self._ask(writer, PROMPTS[number % 4], stream=True)
        for _ in range(self._random.randrange(3, 30)):
            await reader.readuntil(b"\n\n")

    def _ask(self, writer, prompt, **more):
        body = {"model": MODEL, "prompt": prompt, **GREEDY, **more}
        writer.write(post_bytes("/v1/completions", json.dumps(body).encode()))


@pytest.fixture
def busy_server(start_server, made_models):
    return start_server(
        *("--models-dir", made_models, "--context-length", "4096"),
        *("--parallel", str(PARALLEL)),
    )


@pytest.mark.timeout(180)
def test_two_hundred_requests_and_half_of_the_clients_leaving(busy_server, made_models):
    path = made_models / "acme/llama/tiny-llama-F32.gguf"
    alones = dict(zip(PROMPTS, generate_alone(path, PROMPTS, N_TOKENS), strict=True))
    # A first wave warms up: memory that is used for the first time is no leak.
    footprints = []
    for seed in (1, 2):
        wave = Wave(busy_server.port, alones, seed)
        asyncio.run(wave.run())
        assert {"stay": 100, "headers": 34, "prompt": 33, "stream": 33} == wave.outcomes
        check_slots(busy_server)
        (worker,) = busy_server.workers()
        footprints.append([measure(busy_server.pid), measure(worker.pid)])
    for before, after in zip(*footprints, strict=True):
        assert after.rss_bytes - before.rss_bytes < GROWTH_BYTES
        assert (before.n_fds, before.n_threads) == (after.n_fds, after.n_threads)
    assert "Traceback" not in busy_server.log
    assert "was destroyed but it is pending" not in busy_server.log
    answer = busy_server.complete(MODEL, PROMPTS[0], max_tokens=N_TOKENS)
    assert alones[PROMPTS[0]].text == answer["choices"][0]["text"]


def check_slots(server):
    """See as many streams run at once as the server has places, and no more."""

    async def begin(number):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        body = {"model": MODEL, "prompt": PROMPTS[number % 4], "stream": True}
        data = json.dumps({**body, **GREEDY, "max_tokens": -1}).encode()
        writer.write(post_bytes("/v1/completions", data))
        return reader, writer

    async def check():
        streams = [await begin(number) for number in range(PARALLEL)]
        try:
            async with asyncio.timeout(10):
                for _ in range(2):
                    # Twice an event from each: none waits for another's end.
                    for reader, _ in streams:
                        await reader.readuntil(b"data: ")
                        await reader.readuntil(b"\n\n")
            last = await begin(PARALLEL)
            streams.append(last)
            await last[0].readuntil(b"\r\n\r\n")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await last[0].readuntil(b"data: ")
        finally:
            for _, writer in streams:
                writer.transport.abort()

    asyncio.run(check())
    # What is left of these streams must not be measured.
    wait_until(lambda: count_connections(server) <= 1, 10, "the streams are closed")
    server.complete(MODEL, "the", max_tokens=1)


def count_connections(server):
    """Count open connections; the test's own client keeps one."""
    connections = server.server.net_connections(kind="tcp")
    return sum(1 for each in connections if each.status == psutil.CONN_ESTABLISHED)

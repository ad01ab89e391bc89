"""`server.security.body`: what all bodies together may take."""

import asyncio
import json

import pytest

from server.security.body import BodyLimit
from server.security.limits import HELD_BODIES

LIMIT_BYTES = 1000


async def post(limit: BodyLimit, chunks: list[bytes]) -> list[dict]:
    """Send a body in pieces; give the messages of the answer."""
    waiting = list(chunks)
    sent = []

    async def receive():
        if not waiting:
            return {"type": "http.disconnect"}
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "headers": [(b"transfer-encoding", b"chunked")],
    }
    await limit(scope, receive, send)
    return sent


def make_limit(hold: asyncio.Event, n_held: list[int]) -> BodyLimit:
    async def read_and_hold(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        n_held.append(1)
        await hold.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return BodyLimit(read_and_hold, limit_bytes=LIMIT_BYTES)


def test_bodies_that_are_held_together_have_a_limit_of_their_own():
    async def run():
        hold, n_held = asyncio.Event(), []
        limit = make_limit(hold, n_held)
        full = [b"x" * 500, b"x" * 500]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(post(limit, full)) for _ in range(HELD_BODIES)]
            while len(n_held) < HELD_BODIES:  # noqa: ASYNC110 - until all wait
                await asyncio.sleep(0)
            refused = await post(limit, [b"y"])
            assert 429 == refused[0]["status"]
            error = json.loads(refused[1]["body"])["error"]
            assert "too_many_requests" == error["code"]
            hold.set()
        assert [200] * HELD_BODIES == [task.result()[0]["status"] for task in tasks]
        assert 200 == (await post(limit, full))[0]["status"]

    asyncio.run(run())


@pytest.mark.parametrize(("n_bytes", "expected"), [(1000, 200), (1001, 413)])
def test_a_body_without_announced_length_is_counted(n_bytes, expected):
    async def run():
        hold = asyncio.Event()
        hold.set()
        chunks = [b"x" * 400, b"x" * 400, b"x" * (n_bytes - 800)]
        assert expected == (await post(make_limit(hold, []), chunks))[0]["status"]

    asyncio.run(run())


def test_a_large_body_that_keeps_coming_has_more_time():
    limit = BodyLimit(make_limit, limit_bytes=2**30, timeout_s=30)
    assert 130.0 == limit.tell_deadline(100, 0)
    assert 130.0 + 64 == limit.tell_deadline(100, 2**20)

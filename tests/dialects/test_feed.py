import asyncio
import time

import pytest

from server.core.errors import EngineFailed, InvalidRequest, ReportedError
from server.core.events import Failed, Started, TextDelta
from server.core.requests import Generate, TextPrompt
from server.dialects.feed import (
    ClientGone,
    Feed,
    collect,
    start,
    until_disconnect,
)
from tests.fake_engine import FOREVER_S, FakeEngine, answer

ERROR = Failed(InvalidRequest("No.", param="x").to_info())


@pytest.fixture
def anyio_backend():
    return "asyncio"


def feed_of(*scripts, **settings):
    engines = [FakeEngine(script) for script in scripts]
    feed = Feed([engine.generate(request()) for engine in engines], **settings)
    return feed, engines


def request():
    return Generate(id="r", model="tiny", prompt=TextPrompt("p"))


async def drain(feed):
    events = []
    while not feed.finished:
        events += await feed.take()
    return events


async def test_events_of_each_source_stay_in_order():
    feed, _ = feed_of(answer("a", "b"), answer("x", "y"))
    async with feed:
        events = await drain(feed)
    assert list(answer("a", "b")) == [e for number, e in events if number == 0]
    assert list(answer("x", "y")) == [e for number, e in events if number == 1]


async def test_a_source_that_ends_does_not_end_the_wait_for_another():
    feed, _ = feed_of(answer("a"), [0.05, *answer("b")])
    async with feed:
        folds = await collect(feed, n=1)
    assert ["a", "b"] == [fold.choices[0].text for fold in folds]


async def test_an_empty_take_after_the_timeout_cancels_nothing():
    feed, (engine,) = feed_of([0.05, *answer("a")])
    async with feed:
        assert [] == await feed.take(0.01)
        assert not feed.finished
        assert "a" == (await collect(feed, n=1))[0].choices[0].text
    assert not engine.cancelled.is_set()


async def test_leaving_early_closes_every_source():
    feed, engines = feed_of(*[[*answer()[:1], FOREVER_S]] * 3)
    async with feed:
        await start(feed)
        assert [1, 1, 1] == [engine.n_running for engine in engines]
    assert [0, 0, 0] == [engine.n_running for engine in engines]


async def test_only_so_many_sources_run_at_once():
    highest = 0
    engine = FakeEngine()

    def script(_request):
        nonlocal highest
        highest = max(highest, engine.n_running)
        return [0.01, *answer("a")]

    engine.script = script
    sources = [engine.generate(request()) for _ in range(7)]
    async with Feed(sources, max_running=3) as feed:
        folds = await collect(feed, n=1)
    assert ["a"] * 7 == [fold.choices[0].text for fold in folds]
    assert 3 == highest


async def test_a_full_feed_makes_its_source_wait():
    produced = 0

    async def counting():
        nonlocal produced
        for number in range(1000):
            produced += 1
            yield TextDelta(0, str(number))

    async with Feed([counting()], capacity=10) as feed:
        await asyncio.sleep(0.01)
        assert 10 == produced
        events = await drain(feed)
    assert [str(number) for number in range(1000)] == [e.text for _, e in events]


async def test_an_exception_of_a_source_comes_after_its_events():
    feed, _ = feed_of([TextDelta(0, "a"), TimeoutError("boom")])
    async with feed:
        assert [(0, TextDelta(0, "a"))] == await feed.take(1.0)
        with pytest.raises(TimeoutError, match="boom"):
            await feed.take(1.0)
        assert not feed.finished


async def test_start_waits_for_all_and_keeps_what_came_meanwhile():
    first = answer("early")
    feed, _ = feed_of(first, [0.02, *answer("late")])
    async with feed:
        events = await start(feed)
    assert list(first) == [e for number, e in events if number == 0]
    assert (1, Started("acme/tiny-1b", 3)) in events


@pytest.mark.parametrize("wait", [start, lambda feed: collect(feed, n=1)])
async def test_a_failure_is_raised_as_the_engine_reported_it(wait):
    feed, _ = feed_of([ERROR])
    async with feed:
        with pytest.raises(ReportedError) as caught:
            await wait(feed)
    assert ERROR.error == caught.value.to_info()


@pytest.mark.parametrize("wait", [start, lambda feed: collect(feed, n=1)])
async def test_a_generation_without_a_result_is_an_error(wait):
    feed, _ = feed_of([TextDelta(0, "a")])
    async with feed:
        with pytest.raises(EngineFailed, match="without a result"):
            await wait(feed)


async def test_a_client_that_leaves_cancels_the_work():
    cancelled = asyncio.Event()

    async def work():
        try:
            await asyncio.sleep(FOREVER_S)
        finally:
            cancelled.set()

    async def receive():
        await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    begun = time.monotonic()
    with pytest.raises(ClientGone):
        await until_disconnect(receive, work())
    assert cancelled.is_set()
    assert time.monotonic() - begun < 1.0


async def test_work_that_ends_first_gives_its_result_or_error():
    async def receive():
        await asyncio.sleep(FOREVER_S)

    async def work():
        return 7

    async def failing():
        raise ValueError("boom")

    assert 7 == await until_disconnect(receive, work())
    with pytest.raises(ValueError, match="boom"):
        await until_disconnect(receive, failing())


async def test_a_body_that_still_arrives_is_no_disconnect():
    messages = iter([{"type": "http.request"}, {"type": "http.disconnect"}])

    async def receive():
        return next(messages)

    with pytest.raises(ClientGone):
        await until_disconnect(receive, asyncio.sleep(FOREVER_S))
    assert [] == list(messages)

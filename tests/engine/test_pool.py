"""Real workers under the pool's policy: share, keep, evict, give up."""

import asyncio
import gc
import os
import signal
import time

import pytest

from server.core.errors import InsufficientMemory, ReportedError, ShuttingDown
from server.core.models import InstanceInfo
from server.engine import pool as pool_module
from server.engine.pool import Instance, pick_idle
from server.engine.process import WorkerProcess
from tests.engine.conftest import (
    GIB,
    ask,
    collect,
    error_of,
    is_alive,
    open_pool,
    text_of,
    wait_until,
)


@pytest.fixture
def spawned(monkeypatch):
    """List every worker process that is spawned."""
    processes = []
    original = WorkerProcess.spawn

    async def spawn(sealing):
        processes.append(await original(sealing))
        return processes[-1]

    monkeypatch.setattr(pool_module.WorkerProcess, "spawn", spawn)
    return processes


async def generate(pool, model, request):
    async with pool.lease(model) as instance:
        return await collect(instance.process.generate(request))


async def test_eight_first_requests_share_one_load(catalog, spawned):
    model = catalog.find("tiny-llama")
    async with open_pool() as pool:
        answers = await asyncio.gather(
            *(generate(pool, model, ask(f"r{i}")) for i in range(8))
        )
        assert 1 == len({text_of(events) for events in answers})
        assert 1 == len(spawned)
        assert (InstanceInfo("tiny-llama", 512, 2),) == pool.instances("tiny-llama")
        assert 0 == pool.n_leases


async def test_two_models_have_a_process_each(catalog, spawned):
    async with open_pool() as pool:
        for name in ("tiny-llama", "tiny-mamba"):
            events = await generate(pool, catalog.find(name), ask(name, model=name))
            assert text_of(events)
        assert ["tiny-llama", "tiny-mamba"] == sorted(pool.processes())
        assert 2 == len({process.pid for process in spawned})


async def test_a_crash_ends_one_stream_and_the_next_request_loads_afresh(
    catalog, spawned
):
    llama, mamba = catalog.find("tiny-llama"), catalog.find("tiny-mamba")
    async with open_pool() as pool:
        hit = asyncio.create_task(
            generate(pool, llama, ask("hit", n=4, max_tokens=None))
        )
        other = asyncio.create_task(generate(pool, mamba, ask("other", max_tokens=200)))
        await wait_until(lambda: pool.n_leases == 2)
        os.kill(pool.processes()["tiny-llama"].pid, signal.SIGKILL)
        assert "worker_crashed" == error_of(await hit).code
        assert text_of(await other)
        await wait_until(lambda: () == pool.instances("tiny-llama"))
        assert text_of(await generate(pool, llama, ask("next")))
        assert 3 == len(spawned)


async def test_a_request_right_after_a_crash_finds_a_fresh_worker(catalog, spawned):
    """The worker is dead, and the event loop had no moment to notice."""
    model = catalog.find("tiny-llama")
    async with open_pool() as pool:
        await generate(pool, model, ask("a"))
        process = pool.processes()["tiny-llama"]
        os.kill(process.pid, signal.SIGKILL)
        while is_alive(process.pid):
            time.sleep(0.001)  # noqa: ASYNC251 - the loop must not run meanwhile
        assert not process.gone.is_set()
        assert text_of(await generate(pool, model, ask("b")))
        assert 2 == len(spawned)


async def test_a_refused_model_costs_one_process_and_can_be_tried_again(
    catalog, spawned
):
    model = catalog.find("broken")
    async with open_pool() as pool:
        for n_tries in (1, 2):
            with pytest.raises(ReportedError, match=r"broken\.gguf cannot be loaded"):
                await generate(pool, model, ask("a"))
            assert n_tries == len(spawned)
        assert {} == pool.processes()
        async with asyncio.timeout(10):
            await asyncio.gather(*(process.gone.wait() for process in spawned))
        assert text_of(await generate(pool, catalog.find("tiny-llama"), ask("b")))


async def test_watching_a_load_that_fails_costs_no_second_one(catalog, spawned):
    """A request watches the load first, and hears of the failure there."""
    model = catalog.find("broken")
    async with open_pool() as pool:
        with pytest.raises(ReportedError, match=r"broken\.gguf cannot be loaded"):
            [_ async for _ in pool.watch_load(model)]
        assert 1 == len(spawned)


async def test_progress_is_told_while_a_model_loads(catalog):
    model = catalog.find("tiny-llama")
    async with open_pool() as pool:
        seen = [done async for done in pool.watch_load(model)]
        assert 0.0 == seen[0]
        assert all(0.0 <= done <= 1.0 for done in seen)
        assert [] == [done async for done in pool.watch_load(model)]


async def test_a_client_that_leaves_does_not_stop_the_load(catalog, spawned):
    model = catalog.find("tiny-llama")
    async with open_pool() as pool:
        leaver = asyncio.create_task(generate(pool, model, ask("a")))
        await wait_until(lambda: len(spawned) == 1)
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        await wait_until(pool.processes)
        assert text_of(await generate(pool, model, ask("b")))
        assert 1 == len(spawned)


async def test_closing_during_a_load_tells_who_waits(catalog, spawned):
    model = catalog.find("tiny-llama")
    async with open_pool() as pool:
        waiter = asyncio.create_task(generate(pool, model, ask("a")))
        await wait_until(lambda: len(spawned) == 1)
        await pool.close(ShuttingDown("The server is stopping. Come back."))
        with pytest.raises(ShuttingDown, match="The server is stopping"):
            await waiter
        await asyncio.wait_for(spawned[0].gone.wait(), 10)
        assert not is_alive(spawned[0].pid)


async def test_closing_ends_streams_with_the_reason(catalog):
    model = catalog.find("tiny-llama")
    async with open_pool() as pool:
        stream = asyncio.create_task(
            generate(pool, model, ask("a", n=4, max_tokens=None))
        )
        await wait_until(lambda: pool.n_leases == 1)
        await pool.close(ShuttingDown("The server is stopping. Come back."))
        assert "shutting_down" == error_of(await stream).code
        with pytest.raises(ShuttingDown):
            await generate(pool, model, ask("b"))


async def test_no_new_request_while_the_old_ones_go_on(catalog):
    model = catalog.find("tiny-llama")
    async with open_pool() as pool, pool.lease(model) as instance:
        pool.refuse_new()
        with pytest.raises(
            ShuttingDown, match=r"The server is stopping\. Try again once it is back\."
        ):
            await generate(pool, model, ask("b"))
        assert text_of(await collect(instance.process.generate(ask("a"))))


# Memory


async def test_what_cannot_fit_is_refused_with_the_numbers(catalog, spawned):
    model = catalog.find("tiny-llama")
    async with open_pool(read_available_bytes=lambda: 50 * 1024**2) as pool:
        with pytest.raises(InsufficientMemory) as caught:
            await generate(pool, model, ask("a"))
    message = caught.value.message
    assert message.startswith("The model 'tiny-llama' needs about 0.")
    assert "for 512 tokens" in message
    assert "but only 0.05 GiB are free. Unload other models" in message
    assert [] == spawned


async def test_an_idle_instance_makes_room(catalog, spawned):
    llama, mamba = catalog.find("tiny-llama"), catalog.find("tiny-mamba")

    def read_available_bytes():
        n_alive = sum(is_alive(process.pid) for process in spawned)
        return GIB if n_alive == 0 else 0

    async with open_pool(read_available_bytes=read_available_bytes) as pool:
        assert text_of(await generate(pool, llama, ask("a")))
        assert text_of(await generate(pool, mamba, ask("b")))
        assert ["tiny-mamba"] == list(pool.processes())
        assert not is_alive(spawned[0].pid)


async def test_a_leased_instance_never_makes_room(catalog, spawned):
    llama, mamba = catalog.find("tiny-llama"), catalog.find("tiny-mamba")

    def read_available_bytes():
        return GIB if not spawned else 0

    async with (
        open_pool(read_available_bytes=read_available_bytes) as pool,
        pool.lease(llama) as instance,
    ):
        with pytest.raises(InsufficientMemory, match=r"only 0\.00 GiB are free"):
            await generate(pool, mamba, ask("b"))
        assert text_of(await collect(instance.process.generate(ask("a"))))


async def test_the_limit_counts_what_is_loaded(catalog):
    llama, mamba = catalog.find("tiny-llama"), catalog.find("tiny-mamba")
    async with open_pool(memory_limit_bytes=160 * 1024**2) as pool:
        async with pool.lease(llama):
            with pytest.raises(InsufficientMemory):
                await generate(pool, mamba, ask("b"))
        assert text_of(await generate(pool, mamba, ask("c")))
        assert ["tiny-mamba"] == list(pool.processes())


def test_of_the_idle_ones_the_longest_unused_goes_first():
    def instance(name, n_leases, last_used_s):
        info = InstanceInfo(name, 1, 1)
        return Instance(info, None, 1, n_leases, last_used_s)

    instances = [
        instance("busy", 1, 0.0),
        instance("new", 0, 9.0),
        instance("old", 0, 3.0),
    ]
    assert "old" == pick_idle(instances).info.id
    assert pick_idle(instances[:1]) is None
    assert pick_idle([]) is None


# Time to live


async def test_an_idle_instance_is_unloaded_after_its_time(catalog, spawned):
    model = catalog.find("tiny-llama")
    async with open_pool(ttl_s=0.3) as pool:
        assert text_of(await generate(pool, model, ask("a")))
        assert is_alive(spawned[0].pid)
        await wait_until(lambda: not is_alive(spawned[0].pid), 5.0)
        assert () == pool.instances("tiny-llama")
        assert text_of(await generate(pool, model, ask("b")))
        assert 2 == len(spawned)


async def test_a_lease_outlasts_the_time_to_live(catalog, spawned):
    model = catalog.find("tiny-llama")
    async with open_pool(ttl_s=0.2) as pool:
        async with pool.lease(model) as instance:
            await asyncio.sleep(0.5)
            assert text_of(await collect(instance.process.generate(ask("a"))))
        assert 1 == len(spawned)


async def test_a_lease_in_the_moment_of_expiry_keeps_the_instance(catalog, spawned):
    """The timer has fired, but the unload has not begun."""
    model = catalog.find("tiny-llama")
    async with open_pool(ttl_s=30.0) as pool:
        async with pool.lease(model) as instance:
            pass
        pool._expire(instance)
        async with pool.lease(model) as again:
            for _ in range(3):
                await asyncio.sleep(0)
            assert text_of(await collect(again.process.generate(ask("a"))))
    assert len(spawned) <= 2


async def test_an_instance_that_was_never_used_expires_too(catalog, spawned):
    model = catalog.find("tiny-llama")
    async with open_pool(ttl_s=0.2) as pool:
        assert [_ async for _ in pool.watch_load(model)]
        await wait_until(lambda: not is_alive(spawned[0].pid), 5.0)


async def test_loads_and_unloads_in_a_storm_leave_nothing_behind(catalog, spawned):
    """Random leaving, killing and expiring: every request ends, all is cleaned."""
    llama, mamba = catalog.find("tiny-llama"), catalog.find("tiny-mamba")
    async with open_pool(ttl_s=0.05) as pool:

        async def client(i):
            model = (llama, mamba)[i % 2]
            await asyncio.sleep(0.06 * (i % 7))
            try:
                async with asyncio.timeout(0.2 if i % 3 == 0 else 20):
                    events = await generate(pool, model, ask(f"r{i}", model=model.id))
            except TimeoutError:
                return "left"
            if i == 5:
                pool.processes().get(model.id, spawned[0]).kill()
            return type(events[-1]).__name__

        ends = await asyncio.gather(*(client(i) for i in range(16)))
        assert set(ends) <= {"Finished", "Failed", "left"}
        assert "Finished" in ends
        assert 0 == pool.n_leases
    assert [] == [process.pid for process in spawned if is_alive(process.pid)]
    gc.collect()

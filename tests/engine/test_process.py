"""One real worker process: load, generate, cancel, crash, stop."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from server.core.errors import (
    EngineFailed,
    ModelLoadFailed,
    ReportedError,
    ShuttingDown,
    WorkerCrashed,
)
from server.core.events import Started, TextDelta
from server.core.requests import Detokenize, Embed, Tokenize
from server.engine.child import Sealing
from server.engine.process import WorkerProcess
from server.ipc.framing import encode_frame
from server.ipc.messages import Load
from server.seal.level import Level
from tests.engine.conftest import (
    ask,
    collect,
    environment_of,
    error_of,
    is_alive,
    text_of,
    wait_until,
)

ROOT = Path(__file__).resolve().parents[2]


def describe(models_dir, name="tiny-llama", **changes):
    path = models_dir / "acme" / "tiny" / f"{name}.gguf"
    values = {
        "instance_id": name,
        "paths": (os.fsencode(path),),
        "embedding": name == "tiny-bert",
        "n_ctx": 512,
        "n_cells": 512,
        "parallel": 2,
        "n_threads": 1,
        "n_gpu_layers": 0,
    }
    return Load(**(values | changes))


@pytest.fixture
async def spawn():
    """Give a function that starts workers; they are gone afterwards."""
    started = []

    async def start(load=None):
        process = await WorkerProcess.spawn()
        started.append(process)
        if load is not None:
            await process.load(load, lambda _done: None)
        return process

    yield start
    for process in started:
        process.kill()
        await process.gone.wait()
        assert not is_alive(process.pid)


async def test_a_worker_loads_answers_and_stops(spawn, models_dir):
    process = await spawn()
    progress = []
    loaded = await process.load(describe(models_dir), progress.append)
    assert (512, True) == (loaded.n_ctx, loaded.n_vocab > 300)
    assert progress == sorted(progress)
    events = await collect(process.generate(ask("a")))
    assert isinstance(events[0], Started)
    assert "tiny-llama" == events[0].instance_id
    assert len(text_of(events)) > 8
    assert 16 == events[-1].usage.completion_tokens
    assert 0 == process.n_requests
    await process.stop()
    assert not is_alive(process.pid)


async def test_requests_side_by_side_answer_as_alone(spawn, models_dir):
    process = await spawn(describe(models_dir))
    texts = [f"The {word} runs" for word in ("river", "wheel", "boat", "miller", "ice")]
    alone = [
        text_of(await collect(process.generate(ask(f"alone{i}", text=text))))
        for i, text in enumerate(texts)
    ]
    together = await asyncio.gather(
        *(
            collect(process.generate(ask(f"r{i}", text=text)))
            for i, text in enumerate(texts)
        )
    )
    assert alone == [text_of(events) for events in together]


async def test_leaving_a_stream_cancels_it(spawn, models_dir):
    process = await spawn(describe(models_dir))
    stream = process.generate(ask("a", max_tokens=None))
    async for event in stream:
        if isinstance(event, TextDelta):
            break
    assert 1 == process.n_requests
    await stream.aclose()
    assert 0 == process.n_requests
    stats = await process.inspect()
    assert (0, 0) == (stats.n_running, stats.n_waiting)
    assert stats.n_decoded_tokens < 400
    assert text_of(await collect(process.generate(ask("b"))))


async def test_a_question_is_answered_while_the_model_is_at_work(spawn, models_dir):
    process = await spawn(describe(models_dir))
    stream = process.generate(ask("a", max_tokens=None))
    async for event in stream:
        if isinstance(event, TextDelta):
            break
    answers = await asyncio.gather(
        *(process.inquire(Tokenize(f"q{i}", "m", "river " * i)) for i in range(5))
    )
    assert 1 == process.n_requests
    assert sorted(len(a.tokens) for a in answers) == [len(a.tokens) for a in answers]
    texts = [
        (await process.inquire(Detokenize(f"d{i}", "m", answer.tokens))).text.strip()
        for i, answer in enumerate(answers)
    ]
    assert [("river " * i).strip() for i in range(5)] == texts
    await stream.aclose()
    assert 0 == process.n_requests


async def test_a_question_to_a_dead_worker_fails(spawn, models_dir):
    process = await spawn(describe(models_dir))
    process.kill()
    await process.gone.wait()
    with pytest.raises(ReportedError) as caught:
        await process.inquire(Tokenize("q", "m", "x"))
    assert "worker_crashed" == caught.value.to_info().code


async def test_a_killed_worker_fails_its_requests_once_each(spawn, models_dir):
    process = await spawn(describe(models_dir))
    streams = [
        asyncio.create_task(collect(process.generate(ask(f"r{i}", max_tokens=None))))
        for i in range(4)
    ]
    await wait_until(lambda: process.n_requests == 4)
    await process.inspect()
    os.kill(process.pid, signal.SIGKILL)
    for events in await asyncio.gather(*streams):
        error = error_of(events)
        assert ("worker_crashed", True, 500) == (
            error.code,
            error.retryable,
            error.http_status,
        )
        assert (
            "The process that held the model ended unexpectedly (signal SIGKILL). Send "
            "the request again: the model is loaded afresh." == error.message
        )
    assert process.gone.is_set()


async def test_a_dead_worker_fails_new_requests_at_once(spawn, models_dir):
    process = await spawn(describe(models_dir))
    process.kill()
    await process.gone.wait()
    assert "worker_crashed" == error_of(await collect(process.generate(ask("a")))).code
    with pytest.raises(ReportedError, match="ended unexpectedly"):
        await process.embed(Embed("b", "tiny-llama", ("x",)))
    with pytest.raises(WorkerCrashed, match="signal SIGKILL"):
        async with asyncio.timeout(5):
            await process.inspect()


async def test_an_impatient_inspection_does_not_harm_the_others(spawn, models_dir):
    process = await spawn(describe(models_dir))
    impatient = asyncio.create_task(process.inspect())
    await asyncio.sleep(0)
    impatient.cancel()
    stats = await asyncio.wait_for(process.inspect(), 10)
    assert 0 == stats.n_running
    assert text_of(await collect(process.generate(ask("a"))))


async def test_stopping_tells_running_requests_the_reason(spawn, models_dir):
    process = await spawn(describe(models_dir))
    stream = asyncio.create_task(
        collect(process.generate(ask("a", n=4, max_tokens=None)))
    )
    await wait_until(lambda: process.n_requests == 1)
    await process.stop(ShuttingDown("The server is stopping. Come back."))
    error = error_of(await stream)
    assert ("shutting_down", "The server is stopping. Come back.") == (
        error.code,
        error.message,
    )


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\xff\xff\xff\xff" + b"x" * 100, id="huge frame"),
        pytest.param(encode_frame(b"\xc1\xc1\xc1"), id="no msgpack"),
        pytest.param(encode_frame(b"\x81\xa4type\xa4hack"), id="unknown command"),
        pytest.param(encode_frame(b""), id="empty frame"),
    ],
)
async def test_garbage_on_the_channel_ends_the_worker(spawn, models_dir, garbage):
    process = await spawn(describe(models_dir))
    stream = asyncio.create_task(collect(process.generate(ask("a", max_tokens=None))))
    await wait_until(lambda: process.n_requests == 1)
    process._writer.write(garbage)
    async with asyncio.timeout(10):
        assert "worker_crashed" == error_of(await stream).code
        await process.gone.wait()


async def test_a_worker_that_talks_nonsense_is_killed(spawn, models_dir):
    """What comes from a worker is not trusted either."""
    process = await spawn(describe(models_dir))
    process._reader.feed_data(b"\xff\xff\xff\xff")
    async with asyncio.timeout(10):
        await process.gone.wait()
    assert not is_alive(process.pid)


async def test_a_worker_knows_no_secrets(spawn, monkeypatch):
    for name in ("CLOISTER_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    process = await spawn()
    environment = environment_of(process.pid)
    assert [] == [name for name, value in environment.items() if "secret" in value]
    assert "1" == environment["OMP_NUM_THREADS"]
    assert str(ROOT) == environment["PYTHONPATH"]
    allowed = {
        *("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "LLAMA_CPP_LIB_PATH", "PATH"),
        *("TMPDIR", "TZ", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONNOUSERSITE"),
    }
    prefixes = ("CUDA_", "GGML_", "GOMP_", "HIP_", "KMP_", "OMP_", "ROCR_")
    assert all(name in allowed or name.startswith(prefixes) for name in environment)


async def test_a_worker_inherits_no_other_descriptor(spawn, tmp_path):
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)  # noqa: FBT003 - its only form
        process = await spawn()
        folder = f"/proc/{process.pid}/fd"
        links = {os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)}  # noqa: PTH115, PTH208
    assert not any("open" in link for link in links)


async def test_a_sealed_worker_serves_its_model_and_no_other(models_dir):
    load = describe(models_dir)
    process = await WorkerProcess.spawn(Sealing("best", load.paths))
    loaded = await process.load(load, lambda _done: None)
    assert 512 == loaded.n_ctx
    assert process.seal.level is not Level.OFF
    await process.stop()
    if process.seal.landlock_abi:
        other = await WorkerProcess.spawn(Sealing("best", ()))
        with pytest.raises((ModelLoadFailed, ReportedError)):
            await other.load(load, lambda _done: None)
        other.kill()
        await other.gone.wait()


FAKE_WORKER = """#!{python}
import socket, sys
sys.path.insert(0, {root!r})
from server.ipc.framing import encode_frame
from server.ipc.messages import PROTOCOL, Hello, encode_message
from server.seal.attempts import Attempt
channel = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
for report in (
    Hello(PROTOCOL, 1, "none"),
    Attempt("connect", "socket.connect", "192.0.2.1:80", "evil", 7, process="server"),
):
    channel.sendall(encode_frame(encode_message(report)))
channel.recv(1)
"""


async def test_what_the_seal_of_a_worker_blocked_is_told_under_its_name(
    monkeypatch, tmp_path
):
    program = tmp_path / "worker"
    program.write_text(FAKE_WORKER.format(python=sys.executable, root=str(ROOT)))
    program.chmod(0o700)
    monkeypatch.setattr("server.engine.child.sys.executable", str(program))
    told = []
    process = await WorkerProcess.spawn(Sealing("off", (), told.append))
    await wait_until(lambda: told)
    process.kill()
    await process.gone.wait()
    (attempt,) = told
    assert f"worker {process.pid}" == attempt.process
    assert ("evil", 7, "192.0.2.1:80") == (
        attempt.module,
        attempt.line,
        attempt.address,
    )


async def test_a_refused_file_says_why_and_the_worker_is_gone(spawn, models_dir):
    process = await spawn()
    with pytest.raises(
        ReportedError, match=r"broken\.gguf cannot be loaded: "
    ) as caught:
        await process.load(describe(models_dir, "broken"), lambda _done: None)
    assert "model_load_failed" == caught.value.to_info().code
    async with asyncio.timeout(10):
        await process.gone.wait()


async def test_death_while_loading_names_the_file(spawn, models_dir):
    process = await spawn()
    loading = asyncio.create_task(
        process.load(describe(models_dir), lambda _done: None)
    )
    await asyncio.sleep(0)
    process.kill()
    with pytest.raises(ModelLoadFailed) as caught:
        await loading
    path = models_dir / "acme" / "tiny" / "tiny-llama.gguf"
    assert (
        f"The engine died while it loaded {path} (signal SIGKILL). The file is "
        "probably damaged: check it against its published SHA-256."
        == caught.value.message
    )


async def test_embedding_and_generating_models_refuse_each_others_work(
    spawn, models_dir
):
    chat = await spawn(describe(models_dir))
    with pytest.raises(ReportedError) as caught:
        await chat.embed(Embed("a", "tiny-llama", ("x",)))
    assert "wrong_model_type" == caught.value.to_info().code
    bert = await spawn(describe(models_dir, "tiny-bert", n_ctx=128, n_cells=128))
    assert "wrong_model_type" == error_of(await collect(bert.generate(ask("b")))).code
    result = await bert.embed(Embed("c", "tiny-bert", ("the river", "the wheel")))
    assert result.n_embd * 2 * 4 == len(result.vectors)


async def test_no_process_is_an_error_with_the_next_step(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(EngineFailed) as caught:
        await WorkerProcess.spawn()
    assert caught.value.message.startswith("No worker process could be started: ")
    assert caught.value.message.endswith("Free some processes or memory and try again.")


PARENT = """
import asyncio, sys
from server.engine.process import WorkerProcess
from tests.engine.test_process import describe
from tests.engine.conftest import ask
from pathlib import Path

async def main():
    process = await WorkerProcess.spawn()
    await process.load(describe(Path(sys.argv[1])), lambda done: None)
    stream = process.generate(ask("a", max_tokens=None, n=8))
    await anext(stream)
    print(process.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_no_worker_outlives_a_killed_server(models_dir):
    """Even `kill -9` of the server takes its workers along, within 2 seconds."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(models_dir)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    with parent:
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
        parent.wait()

    async def watch():
        await wait_until(lambda: not is_alive(pid), 2.0)

    asyncio.run(watch())

"""A worker process by its own protocol, frame by frame, without the engine."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.core.events import Failed, Finished, Started, TextDelta
from server.core.requests import Embed, Generate, Sampling, TextPrompt
from server.ipc.framing import FrameDecoder, encode_frame
from server.ipc.messages import (
    PROTOCOL,
    Cancel,
    Embedded,
    Events,
    Hello,
    Inspect,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
    RunEmbed,
    RunGenerate,
    Stats,
    Stop,
    decode_report,
    encode_message,
)


class Wire:
    """The parent's end of the channel."""

    def __init__(self, channel, process):
        self.channel = channel
        self.process = process
        self._decoder = FrameDecoder()
        self._reports = []

    def send(self, *commands):
        for command in commands:
            self.channel.sendall(encode_frame(encode_message(command)))

    def receive(self):
        """Return the next report; None once the worker has gone."""
        while not self._reports:
            data = self.channel.recv(1 << 16)
            if not data:
                return None
            self._reports += map(decode_report, self._decoder.feed(data))
        return self._reports.pop(0)

    def receive_until(self, *kinds):
        """Return the next report of these kinds; the others are skipped."""
        while not isinstance(report := self.receive(), kinds):
            assert report is not None, "the worker has gone"
        return report

    def collect(self, request_id):
        """Return the events of a request until its end."""
        events = []
        while not (events and isinstance(events[-1], Finished | Failed)):
            items = self.receive_until(Events).items
            events += [i.event for i in items if i.request_id == request_id]
        return events

    def wait(self):
        return self.process.wait(10)


@contextmanager
def start_worker(*arguments):
    ours, theirs = socket.socketpair()
    ours.settimeout(30)
    with ours, theirs:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "server.worker"),
                *("--fd", str(theirs.fileno()), *arguments),
            ],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        theirs.close()
        with process:
            try:
                yield Wire(ours, process)
            finally:
                process.kill()


@pytest.fixture
def wire():
    with start_worker() as wire:
        yield wire


def describe(path, **changes):
    values = {
        "instance_id": "tiny",
        "paths": (os.fsencode(path),),
        "embedding": "bert" in path.name,
        "n_ctx": 128,
        "n_cells": 128,
        "parallel": 2,
        "n_threads": 1,
        "n_gpu_layers": 0,
    }
    return Load(**(values | changes))


def ask(name, **options):
    return RunGenerate(
        Generate(
            id=name,
            model="tiny",
            prompt=TextPrompt("The river"),
            sampling=Sampling(temperature=0.0),
            **({"max_tokens": 8} | options),
        )
    )


def test_the_first_report_is_a_greeting(wire):
    hello = wire.receive()
    assert isinstance(hello, Hello)
    assert (PROTOCOL, wire.process.pid) == (hello.protocol, hello.pid)
    assert hello.engine.startswith("llama.cpp ")


def test_a_life_from_load_to_stop(wire, model_path):
    wire.send(describe(model_path("tiny-llama")))
    seen = [wire.receive() for _ in range(2)]
    while not isinstance(seen[-1], Loaded):
        seen.append(wire.receive())
    assert all(isinstance(report, LoadProgress) for report in seen[1:-1])
    assert (128, 476) == (seen[-1].n_ctx, seen[-1].n_vocab)
    wire.send(ask("a"))
    events = wire.collect("a")
    assert isinstance(events[0], Started)
    assert any(isinstance(event, TextDelta) for event in events)
    assert isinstance(events[-1], Finished)
    wire.send(Stop())
    assert wire.receive() is None
    assert 0 == wire.wait()


def test_nothing_is_reported_of_a_cancelled_request(wire, model_path):
    wire.send(describe(model_path("tiny-llama")))
    wire.receive_until(Loaded)
    wire.send(ask("a", max_tokens=None, n=4), Cancel("a"), Cancel("unknown"))
    wire.send(ask("b"))
    assert isinstance(wire.collect("b")[-1], Finished)
    wire.send(Inspect())
    report = wire.receive()
    assert isinstance(report, Stats)
    assert (0, 0) == (report.n_running, report.n_waiting)


def test_the_end_of_the_channel_is_the_end_of_the_process(wire, model_path):
    wire.send(describe(model_path("tiny-llama")))
    wire.receive_until(Loaded)
    wire.send(ask("a", max_tokens=None, n=2))
    wire.receive_until(Events)
    begin_s = time.monotonic()
    wire.channel.close()
    assert 0 == wire.wait()
    assert time.monotonic() - begin_s < 2.0


def test_the_end_of_the_channel_before_any_load_is_one_too(wire):
    wire.receive()
    wire.channel.close()
    assert 0 == wire.wait()


def test_stop_before_any_load(wire):
    wire.receive()
    wire.send(Stop())
    assert wire.receive() is None
    assert 0 == wire.wait()


def test_a_broken_file_is_reported_and_ends_the_worker(wire, tmp_path):
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    wire.send(describe(path))
    failed = wire.receive_until(LoadFailed)
    assert ("model_load_failed", 500) == (failed.error.code, failed.error.http_status)
    assert f"The model file {path} cannot be loaded: llama.cpp refused it" in (
        failed.error.message
    )
    assert wire.receive() is None
    assert 0 == wire.wait()


def test_requests_before_a_load_do_no_harm(wire, model_path):
    wire.send(ask("early"), RunEmbed(Embed("early", "tiny", ("x",))), Inspect())
    wire.send(Cancel("early"), describe(model_path("tiny-llama")))
    wire.receive_until(Loaded)
    wire.send(ask("a"))
    assert isinstance(wire.collect("a")[-1], Finished)


def test_embeddings_by_the_protocol(wire, model_path):
    wire.send(describe(model_path("tiny-bert")))
    loaded = wire.receive_until(Loaded)
    assert 128 == loaded.n_ctx
    wire.send(RunEmbed(Embed("a", "tiny", ("the river", "the wheel"))))
    report = wire.receive_until(Embedded)
    assert ("a", 2 * 4 * report.result.n_embd) == (
        report.request_id,
        len(report.result.vectors),
    )
    wire.send(ask("b"))
    assert (
        "This is an embedding model: it cannot generate text. Use /v1/embeddings."
        == wire.collect("b")[-1].error.message
    )
    wire.send(Inspect())
    assert 8 == wire.receive_until(Stats).n_prefilled_tokens


def test_native_prints_go_to_standard_error(model_path):
    """Descriptor 1 must not carry what llama.cpp has to say."""
    with start_worker("--verbose") as wire:
        wire.send(describe(model_path("tiny-llama")))
        wire.receive_until(Loaded)
        out, err = (Path(f"/proc/{wire.process.pid}/fd/{fd}") for fd in (1, 2))
        assert out.samefile(err)
        wire.send(Stop())
        out, err = wire.process.communicate(timeout=10)
    assert b"" == out
    assert b"llama_model_loader" in err


def test_a_quiet_worker_says_nothing(wire, model_path):
    wire.send(describe(model_path("tiny-llama")))
    wire.receive_until(Loaded)
    wire.send(Stop())
    assert (b"", b"") == wire.process.communicate(timeout=10)


def test_the_package_with_the_pickle_cache_is_never_imported():
    """Only the C declarations of llama-cpp-python are loaded."""
    code = (
        "import sys; from server.worker.bindings import load_bindings;"
        "load_bindings(); print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, timeout=30
    )
    loaded = done.stdout.decode().split()
    assert "llama_cpp.llama_cpp" in loaded
    assert not {"diskcache", "llama_cpp.llama", "llama_cpp.llama_cache"} & set(loaded)
    assert not any(name.startswith(("fastapi", "uvicorn")) for name in loaded)

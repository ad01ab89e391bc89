"""A models directory with small models, and real workers over it."""

import asyncio
import os
import shutil
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from model_store.catalog import Catalog
from scripts.make_model import write_model
from server.core.errors import ShuttingDown
from server.core.events import Failed, Finished, TextDelta
from server.core.requests import Generate, Sampling, TextPrompt
from server.engine.pool import Pool, PoolSettings

GIB = 1024**3
NAMES = ("tiny-llama", "tiny-mamba", "tiny-bert")


@pytest.fixture
def anyio_backend():
    """Use asyncio only: workers are asyncio subprocesses."""
    return "asyncio"


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory):
    """Give a models directory with three good models and a broken one.

    The broken one has a sound header, but llama.cpp refuses its vocabulary.
    """
    folder = tmp_path_factory.mktemp("engine") / "acme" / "tiny"
    folder.mkdir(parents=True)
    for name in NAMES:
        write_model(folder / f"{name}.gguf", name)
    data = (folder / "tiny-llama.gguf").read_bytes()
    (folder / "broken.gguf").write_bytes(
        data.replace(b"tokenizer.ggml.model", b"tokenizer.ggml.modem")
    )
    (folder / "cut.gguf").write_bytes(data[: len(data) // 2])
    return folder.parents[1]


@pytest.fixture
def own_models_dir(models_dir, tmp_path):
    """Give a models directory that a test may change."""
    return shutil.copytree(models_dir, tmp_path / "models")


@pytest.fixture
def catalog(models_dir):
    """Give the catalog of the models directory."""
    catalog = Catalog([models_dir])
    catalog.refresh()
    return catalog


@asynccontextmanager
async def open_pool(**changes):
    """Give a pool; close it and see that no worker is left."""
    defaults = {
        "parallel": 2,
        "n_ctx": 512,
        "n_threads": 1,
        "n_gpu_layers": 0,
        "ttl_s": 0.0,
        "read_available_bytes": lambda: 8 * GIB,
    }
    pool = Pool(PoolSettings(**(defaults | changes)))
    try:
        yield pool
    finally:
        pids = [process.pid for process in pool.processes().values()]
        await pool.close(ShuttingDown("The test is over. Start another."))
        assert [] == [pid for pid in pids if is_alive(pid)]


def is_alive(pid):
    """Tell whether a process runs; one that waits to be reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def wait_until(condition, timeout_s=10.0):
    """Wait until a condition holds."""
    async with asyncio.timeout(timeout_s):
        # What is waited for happens in other processes: there is no event.
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def ask(name, *, model="tiny-llama", text="The river", **options):
    """Make a greedy request that does not end before its 16 tokens."""
    return Generate(
        id=name,
        model=model,
        prompt=TextPrompt(text),
        sampling=Sampling(temperature=0.0),
        **({"max_tokens": 16} | options),
    )


async def collect(stream):
    """Return all events of a generation."""
    return [event async for event in stream]


def text_of(events):
    """Join the text; the generation must have finished."""
    assert isinstance(events[-1], Finished), events[-1]
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def error_of(events):
    """Return the error that ended a generation, which must be its only end."""
    ends = [event for event in events if isinstance(event, Finished | Failed)]
    assert [events[-1]] == ends
    assert isinstance(events[-1], Failed), events[-1]
    return events[-1].error


def environment_of(pid):
    """Read the environment that a process was started with."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    pairs = [entry.partition(b"=") for entry in entries if entry]
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}

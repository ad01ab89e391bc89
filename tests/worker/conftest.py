"""Small models, and backends over them in this process."""

import os
from dataclasses import dataclass

import numpy as np
import pytest

from scripts.make_model import write_model
from server.ipc.messages import Load
from server.worker.backend import Part
from server.worker.bindings import NativeLog, load_bindings
from server.worker.llama import LlamaBackend
from server.worker.tokens import make_tokens


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    """Return a function that gives the file of a kind, made on first use."""
    folder = tmp_path_factory.mktemp("models")

    def give(kind):
        path = folder / f"{kind}.gguf"
        if not path.exists():
            write_model(path, kind)
        return path

    return give


@dataclass
class Native:
    """llama.cpp in this process."""

    llama: object
    log: NativeLog

    def load(
        self,
        path,
        *,
        n_ctx=256,
        n_cells=None,
        parallel=4,
        embedding=False,
        on_progress=lambda _done: None,
    ):
        load = Load(
            instance_id="test",
            paths=(os.fsencode(path),),
            embedding=embedding,
            n_ctx=n_ctx,
            n_cells=n_cells or n_ctx,
            parallel=parallel,
            n_threads=1,
            n_gpu_layers=0,
        )
        return LlamaBackend.load(self.llama, self.log, load, on_progress)


@pytest.fixture(scope="session")
def native():
    """Give llama.cpp, initialised once; skip where it is not installed."""
    try:
        llama = load_bindings()
    except ImportError as error:
        pytest.skip(str(error))
    llama.llama_backend_init()
    return Native(llama, NativeLog(llama, verbose=False))


@dataclass
class DrawingEngine:
    """A backend whose last batch has logits in `row`; `fresh` is a copy."""

    backend: LlamaBackend
    row: int
    fresh: np.ndarray


@pytest.fixture(scope="session")
def drawing_engine(native, model_path):
    """Give a loaded model with one row of real logits to draw from."""
    backend = native.load(model_path("tiny-llama"))
    row = backend.decode([Part(0, make_tokens([1, 400, 380]), 0, 1)])[0][0]
    yield DrawingEngine(backend, row, backend.logits(row).copy())
    backend.close()

"""How much memory a model will need, before it is loaded."""

from dataclasses import replace
from pathlib import Path

import pytest

from model_store.gguf import read_header
from model_store.summary import summarize
from server.cli.memory_need import estimate_need
from server.config import Settings
from tests.model_store.conftest import Forge

GIB = 2**30


@pytest.fixture
def summary(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(Forge().build())
    return summarize(read_header(path))


SETTINGS = Settings(home=Path("/home"))


def test_what_fits_is_what_serve_would_choose(summary):
    need = estimate_need(summary, "m", SETTINGS, available_bytes=GIB)
    assert (True, 64, 256, 512, GIB) == (
        need.fits,
        need.n_ctx,
        need.n_cells,
        need.weights_bytes,
        need.available_bytes,
    )
    assert need.weights_bytes + need.kv_bytes + need.working_bytes == need.total_bytes
    assert need.tell().startswith("about 9")
    assert need.tell().endswith("; fits into the 1.0 GiB that are free")


def test_what_does_not_fit_is_the_least_that_could_be_loaded(summary):
    settings = replace(SETTINGS, memory_limit_bytes=1000)
    need = estimate_need(summary, "m", settings, available_bytes=GIB)
    assert (False, 2048, 2048, 1000) == (
        need.fits,
        need.n_ctx,
        need.n_cells,
        need.available_bytes,
    )
    named = replace(settings, context_length=32)
    need = estimate_need(summary, "m", named, available_bytes=GIB)
    assert 32 == need.n_ctx


def test_without_a_number_the_machine_is_asked(summary):
    need = estimate_need(summary, "m", SETTINGS)
    assert need.available_bytes > 0

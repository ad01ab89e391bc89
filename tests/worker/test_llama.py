"""The backend by itself: batches, the cache, loading."""

import numpy as np
import pytest
from gguf import GGUFReader

from scripts.make_model import write_model
from server.core.errors import ModelLoadFailed
from server.worker.backend import CacheFull, DecodeFailed, Part
from server.worker.kvcache import Copy, Drop
from server.worker.tokens import make_tokens
from tests.worker.native_engine import Engine, ask


@pytest.fixture(scope="module")
def llama_backend(native, model_path):
    backend = native.load(model_path("tiny-llama"), n_ctx=64)
    yield backend
    backend.close()


def compute(backend, seq_id, tokens, position=0):
    rows = backend.decode([Part(seq_id, make_tokens(tokens), position, 1)])
    return backend.logits(rows[0][-1]).copy()


def test_outputs_are_counted_from_the_end(llama_backend):
    llama_backend.apply([Drop(0), Drop(1), Drop(2)])
    parts = [
        Part(0, make_tokens([1, 300, 301]), 0, 0),
        Part(1, make_tokens([1, 300, 301]), 0, 1),
        Part(2, make_tokens([1, 300, 301]), 0, 3),
    ]
    rows = llama_backend.decode(parts)
    assert [[], [5], [6, 7, 8]] == rows
    last = llama_backend.logits(8).copy()
    assert np.allclose(llama_backend.logits(5), last, atol=1e-4)
    with pytest.raises(DecodeFailed, match="row 0 of the batch has no logits"):
        llama_backend.logits(0)


def test_a_shared_prefix_computes_the_same(llama_backend):
    llama_backend.apply([Drop(0), Drop(1)])
    tokens = [1, 300, 310, 320, 330]
    whole = compute(llama_backend, 0, tokens)
    llama_backend.apply([Copy(0, 1, 3)])
    assert np.allclose(whole, compute(llama_backend, 1, tokens[3:], 3), atol=1e-4)
    llama_backend.apply([Drop(1)])
    other = compute(llama_backend, 1, [1, 300, 311, 320, 330])
    assert not np.allclose(whole, other, atol=1e-2)


def test_a_full_cache_is_told_and_changes_nothing(native, model_path):
    backend = native.load(model_path("tiny-llama"), n_ctx=256)
    try:
        before = compute(backend, 0, [1, *range(300, 420)])
        compute(backend, 1, [1, *range(300, 420)])
        with pytest.raises(CacheFull):
            compute(backend, 2, [1, *range(300, 420)])
        backend.apply([Drop(1)])
        after = compute(backend, 2, [1, *range(300, 420)])
        assert np.allclose(before, after, atol=1e-4)
    finally:
        backend.close()


def test_a_wrong_position_fails_with_the_reason(llama_backend):
    llama_backend.apply([Drop(0)])
    compute(llama_backend, 0, [1, 300])
    with pytest.raises(DecodeFailed, match="llama_decode returned -1"):
        compute(llama_backend, 0, [301], position=1)


# Loading


def test_progress_runs_to_the_end(native, model_path):
    seen = []
    native.load(model_path("tiny-llama"), on_progress=seen.append).close()
    assert seen == sorted(seen)
    assert 1.0 == seen[-1]


def test_shards_load_as_one(native, model_path, tmp_path):
    shards = write_model(tmp_path / "split.gguf", "tiny-llama", n_shards=3)
    whole = native.load(model_path("tiny-llama"))
    split = native.load(shards[0])
    try:
        tokens = [1, 300, 310]
        assert np.array_equal(compute(whole, 0, tokens), compute(split, 0, tokens))
    finally:
        whole.close()
        split.close()


def cut(data):
    return data[: len(data) // 2]


def flip_magic(data):
    return b"GGUG" + data[4:]


def flip_count(data):
    return data[:8] + b"\xff" * 8 + data[16:]


def no_bytes(_data):
    return b""


@pytest.mark.parametrize("harm", [cut, flip_magic, flip_count, no_bytes])
def test_a_broken_file_is_refused_with_its_name(native, model_path, tmp_path, harm):
    path = tmp_path / "broken.gguf"
    path.write_bytes(harm(model_path("tiny-llama").read_bytes()))
    with pytest.raises(ModelLoadFailed) as caught:
        native.load(path)
    message = caught.value.message
    assert message.startswith(f"The model file {path} cannot be loaded: ")
    assert message.endswith(
        "Check the file against its published SHA-256, or get it again."
    )
    assert "llama.cpp refused it (" in message


def test_a_missing_file_is_refused(native, tmp_path):
    with pytest.raises(ModelLoadFailed, match=r"absent\.gguf cannot be loaded"):
        native.load(tmp_path / "absent.gguf")


def test_numbers_that_are_none_fail_the_request_not_the_loop(
    native, model_path, tmp_path
):
    """Weights of NaN load without complaint; drawing from them must not."""
    path = tmp_path / "nan.gguf"
    data = bytearray(model_path("tiny-llama").read_bytes())
    for tensor in GGUFReader(model_path("tiny-llama")).tensors:
        if tensor.name == "output.weight":
            begin, size = tensor.data_offset, tensor.n_bytes
            data[begin : begin + size] = np.full(size // 4, np.nan, "<f4").tobytes()
    path.write_bytes(data)
    backend = native.load(path, n_ctx=64)
    engine = Engine(backend, n_ctx=64, n_cells=64, parallel=2)
    try:
        for name in ("a", "b"):
            last = engine.run(ask(name, [1, 300], n=2))[name][-1]
            assert (
                "The engine could not compute this request: the model computed logits "
                "that are not numbers. If it happens again, the model's file is "
                "damaged: compare its SHA-256 with the published one."
                == last.error.message
            )
    finally:
        engine.close()
        backend.close()

"""Estimates against known numbers, and the sizes chosen from them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.gguf import read_header
from model_store.summary import GgufSummary, RecurrentSizes, summarize
from server.core.errors import InsufficientMemory
from server.engine import memory
from server.engine.memory import (
    GIB,
    POOL_SHARE,
    Estimate,
    choose_sizes,
    estimate_memory,
    read_available_bytes,
)

NOT_RECURRENT = RecurrentSizes(0, 0, 0, 0, 0, 0, 0, 0)
MIB = 1024**2

# Qwen2.5-0.5B as Q4_K_M.
QWEN = GgufSummary(
    architecture="qwen2",
    name="Qwen2.5 0.5B",
    n_ctx_train=32_768,
    n_layer=24,
    n_embd=896,
    n_head=(14,) * 24,
    n_head_kv=(2,) * 24,
    key_length=64,
    value_length=64,
    sliding_window=None,
    n_vocab=151_936,
    tokenizer_model="gpt2",
    chat_template=None,
    pooling_type=None,
    file_type=15,
    quantization="Q4_K_M",
    n_params=494_032_768,
    n_tensors=290,
    tensor_bytes=390 * MIB,
    is_recurrent=False,
    recurrent=NOT_RECURRENT,
    licence=None,
    split_no=0,
    split_count=1,
    split_tensors_count=None,
    n_expert=0,
    n_expert_used=0,
    has_learned_positions=False,
)
BERT = msgspec.structs.replace(
    QWEN,
    architecture="bert",
    pooling_type=1,
    n_ctx_train=512,
    has_learned_positions=True,
)
# Mamba-130M: 24 layers, state 16 x 1536, convolution of 4.
MAMBA = msgspec.structs.replace(
    QWEN,
    architecture="mamba",
    n_head_kv=(0,) * 24,
    is_recurrent=True,
    recurrent=RecurrentSizes(4, 16, 1536, 0, 0, 0, 0, 0),
)


def replace(**changes):
    return msgspec.structs.replace(QWEN, **changes)


def estimate(summary, n_cells, n_sequences=8, step_tokens=512):
    return estimate_memory(
        summary, n_cells=n_cells, n_sequences=n_sequences, step_tokens=step_tokens
    )


def choose(summary=QWEN, *, n_ctx=None, parallel=4, available_bytes=64 * GIB):
    return choose_sizes(
        summary,
        name="tiny",
        n_ctx=n_ctx,
        parallel=parallel,
        available_bytes=available_bytes,
    )


def test_a_token_of_qwen_takes_12288_bytes():
    assert 12_288 == estimate(QWEN, 1).kv_bytes
    assert 12_288 * 32_768 == 384 * MIB == estimate(QWEN, 32_768).kv_bytes


def test_layers_may_differ_in_their_heads():
    mixed = replace(n_head_kv=(0, 8) * 12, key_length=128, value_length=64)
    assert 12 * 8 * (128 + 64) * 2 == estimate(mixed, 1).kv_bytes


def test_the_state_of_a_recurrent_model_counts_sequences_not_tokens():
    # (16 * 1536 + 3 * 1536) elements of 4 bytes in 24 layers.
    one = 24 * (16 * 1536 + 3 * 1536) * 4
    assert one == estimate(MAMBA, 1, n_sequences=1).kv_bytes
    assert 8 * one == estimate(MAMBA, 100_000, n_sequences=8).kv_bytes


@pytest.mark.parametrize(
    ("recurrent", "elements"),
    [
        # RWKV 7: head of 64, two shifted tokens.
        (RecurrentSizes(0, 0, 0, 0, 64, 2, 0, 0), 896 * (2 + 64)),
        # A file that does not name its shifts.
        (RecurrentSizes(0, 0, 0, 0, 64, 0, 0, 0), 896 * (2 + 64)),
        # LFM2: a short convolution of 3.
        (RecurrentSizes(0, 0, 0, 0, 0, 0, 3, 0), 896 * 2),
        # Kimi: 14 heads of 128, convolution of 4 for Q, K and V.
        (RecurrentSizes(4, 0, 0, 0, 0, 0, 0, 128), 14 * 128 * (3 * 3 + 128)),
        # Linear attention: a square of 64 for each of 14 heads.
        (RecurrentSizes(0, 0, 0, 0, 0, 0, 0, 0), 14 * 64 * 64),
    ],
)
def test_each_kind_of_recurrent_state_is_counted(recurrent, elements):
    summary = msgspec.structs.replace(MAMBA, recurrent=recurrent)
    assert 24 * elements * 4 == estimate(summary, 1, n_sequences=1).kv_bytes


def test_the_total_is_the_sum():
    parts = estimate(QWEN, 4096)
    assert 390 * MIB == parts.weights_bytes
    assert parts.weights_bytes + parts.kv_bytes + parts.working_bytes == (
        parts.total_bytes
    )
    assert 6 == Estimate(1, 2, 3).total_bytes


def test_working_memory_grows_with_the_step():
    small, large = (estimate(QWEN, 1, step_tokens=n).working_bytes for n in (1, 4096))
    assert 4095 * 896 * 16 * 4 == large - small


def test_a_real_file_is_estimated_from_its_header(models_dir):
    summary = summarize(read_header(models_dir / "acme" / "tiny" / "tiny-llama.gguf"))
    token = sum(summary.n_head_kv) * (summary.key_length + summary.value_length) * 2
    seen = estimate(summary, 100)
    assert (100 * token, summary.tensor_bytes) == (seen.kv_bytes, seen.weights_bytes)


# Sizes


def test_without_a_wish_the_context_is_the_models_own_up_to_a_limit():
    assert 16_384 == choose().n_ctx
    assert 8_192 == choose(replace(n_ctx_train=8_192)).n_ctx
    assert 4_096 == choose(replace(n_ctx_train=0)).n_ctx


def test_a_wish_is_kept_even_beyond_the_training_length():
    assert 40_000 == choose(n_ctx=40_000).n_ctx
    assert 100 == choose(n_ctx=100).n_ctx


def test_the_pool_holds_all_contexts_where_memory_is_plenty():
    sizes = choose(n_ctx=4_096, parallel=4)
    assert 4 * 4_096 == sizes.n_cells
    assert estimate(QWEN, 4 * 4_096) == sizes.estimate


def test_the_pool_shrinks_to_its_share_of_memory():
    three = estimate(QWEN, 3 * 16_384).total_bytes
    exact = int(three / POOL_SHARE) + 1
    assert 3 * 16_384 == choose(available_bytes=exact).n_cells
    assert 2 * 16_384 == choose(available_bytes=exact - MIB).n_cells


def test_one_context_is_the_least_the_pool_holds():
    exact = estimate(QWEN, 16_384).total_bytes
    sizes = choose(available_bytes=exact)
    assert (16_384, 16_384) == (sizes.n_ctx, sizes.n_cells)


def test_without_a_wish_the_context_is_halved_until_it_fits():
    exact = estimate(QWEN, 4_096).total_bytes
    assert 4_096 == choose(available_bytes=exact).n_ctx
    assert 2_048 == choose(available_bytes=exact - 1).n_ctx


def test_a_wish_that_cannot_fit_is_refused_with_the_numbers():
    available = estimate(QWEN, 16_384).total_bytes - 1
    with pytest.raises(InsufficientMemory) as caught:
        choose(n_ctx=16_384, available_bytes=available)
    assert (
        "The model 'tiny' needs about 0.73 GiB (weights 0.38 GiB, KV cache 0.19 GiB "
        "for 16384 tokens, working memory 0.16 GiB), but only 0.73 GiB are free. "
        "Unload other models, choose a smaller --context-length or a smaller "
        "quantisation." == caught.value.message
    )
    assert ("insufficient_memory", 503, "model") == (
        caught.value.code,
        caught.value.http_status,
        caught.value.param,
    )


def test_not_even_the_least_context_fits():
    with pytest.raises(InsufficientMemory, match="for 2048 tokens"):
        choose(available_bytes=400 * MIB)


def test_an_embedding_model_has_one_context_that_is_one_batch():
    sizes = choose(BERT, parallel=4)
    assert (512, 512) == (sizes.n_ctx, sizes.n_cells)
    long = msgspec.structs.replace(BERT, n_ctx_train=32_768)
    assert 4_096 == choose(long).n_ctx
    assert estimate(long, 4_096, step_tokens=4_096) == choose(long).estimate


def test_a_model_with_learned_positions_never_reads_beyond_them():
    assert 512 == choose(BERT, n_ctx=8_192).n_ctx
    assert 256 == choose(BERT, n_ctx=256).n_ctx


@given(
    st.none() | st.integers(1, 100_000),
    st.integers(1, 16),
    st.integers(0, 4 * GIB),
    st.integers(0, 200_000),
)
def test_what_is_chosen_fits(n_ctx, parallel, available_bytes, n_ctx_train):
    summary = replace(n_ctx_train=n_ctx_train)
    try:
        sizes = choose(
            summary, n_ctx=n_ctx, parallel=parallel, available_bytes=available_bytes
        )
    except InsufficientMemory:
        least = n_ctx or min(n_ctx_train or 4_096, 2_048)
        needed = estimate(summary, least, n_sequences=2 * parallel).total_bytes
        assert needed > available_bytes
        return
    assert sizes.estimate.total_bytes <= available_bytes
    assert n_ctx in (None, sizes.n_ctx)
    assert sizes.n_cells % sizes.n_ctx == 0
    assert 1 <= sizes.n_cells // sizes.n_ctx <= parallel


# What is free


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Pretend a machine with 10 GiB free; give the folder of its cgroup."""

    class Free:
        available = 10 * GIB

    monkeypatch.setattr(memory.psutil, "virtual_memory", Free)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("most", "used", "expected"),
    [
        (f"{4 * GIB}\n", f"{GIB}\n", 3 * GIB),
        (f"{20 * GIB}\n", f"{GIB}\n", 10 * GIB),
        ("max\n", f"{GIB}\n", 10 * GIB),
        (f"{GIB}\n", f"{2 * GIB}\n", 0),
        ("nonsense\n", "0\n", 10 * GIB),
        (f"{GIB}\n", "nonsense\n", 10 * GIB),
    ],
)
def test_the_containers_limit_counts(machine, most, used, expected):
    (machine / "memory.max").write_text(most)
    (machine / "memory.current").write_text(used)
    assert expected == read_available_bytes()


def test_without_a_container_the_kernel_decides(machine):
    assert 10 * GIB == read_available_bytes()


def test_this_machine_has_some_memory():
    assert 0 < read_available_bytes() < 2**50

"""What a header means: facts, defaults and refused values."""

import io
from pathlib import Path

import pytest

from model_store.errors import BadGguf
from model_store.gguf import parse_header, read_header
from model_store.summary import (
    FileKind,
    RecurrentSizes,
    ShardSummary,
    join_shards,
    summarize,
    summarize_shard,
    tell_kind,
)

HEADS = "'llama.attention.head_count'"
RANGE = "from 0 to 2147483647"
INT32, FLOAT32, BOOL, STRING, ARRAY, UINT32 = 5, 6, 7, 8, 9, 4


def read(made):
    content = made.build()
    return parse_header(
        io.BytesIO(content), path=Path("m.gguf"), size_bytes=len(content)
    )


def summary(forge, **keys):
    named = {key.replace("__", "."): value for key, value in keys.items()}
    return summarize(read(forge(keys=named)))


def refusal(forge, keys):
    with pytest.raises(BadGguf) as caught:
        summarize(read(forge(keys=keys)))
    return caught.value.reason


@pytest.mark.model
def test_a_real_language_model(real_models):
    facts = summarize(read_header(real_models / "tiny-qwen2-vocab.gguf"))
    assert (facts.architecture, facts.n_ctx_train, facts.n_vocab) == (
        "qwen2",
        32_768,
        151_936,
    )
    assert (facts.n_layer, facts.n_embd, facts.n_head, facts.n_head_kv) == (
        2,
        64,
        (4, 4),
        (2, 2),
    )
    assert (facts.key_length, facts.value_length, facts.sliding_window) == (
        16,
        16,
        None,
    )
    assert (facts.file_type, facts.quantization) == (7, "Q8_0")
    assert facts.has_chat_template
    assert "<|im_start|>" in facts.chat_template
    assert not facts.is_embedding
    assert not facts.is_recurrent
    assert facts.n_params == 9_798_208


@pytest.mark.model
def test_a_real_embedding_model(real_models):
    facts = summarize(read_header(real_models / "all-minilm-l6-v2-q8_0.gguf"))
    assert facts.is_embedding
    assert (facts.pooling_type, facts.tokenizer_model, facts.licence) == (
        1,
        "bert",
        "apache-2.0",
    )


def test_defaults_of_what_a_file_need_not_say(forge):
    facts = summary(forge)
    assert facts.n_head_kv == facts.n_head == (4, 4)
    assert facts.key_length == facts.value_length == 8
    assert (facts.name, facts.chat_template, facts.pooling_type) == (None, None, None)
    assert not facts.has_chat_template
    assert (facts.split_no, facts.split_count, facts.split_tensors_count) == (
        0,
        1,
        None,
    )
    assert (facts.n_params, facts.n_tensors, facts.tensor_bytes) == (128, 1, 512)
    assert facts.recurrent == RecurrentSizes(0, 0, 0, 0, 0, 0, 0, 0)


def test_values_that_a_file_says(forge):
    facts = summary(
        forge,
        general__name=(STRING, "n"),
        llama__attention__head_count_kv=(ARRAY, (INT32, [2, 0])),
        llama__attention__key_length=(UINT32, 16),
        llama__attention__value_length=(UINT32, 24),
        llama__attention__sliding_window=(UINT32, 512),
        llama__expert_count=(UINT32, 8),
        llama__expert_used_count=(UINT32, 2),
        tokenizer__chat_template=(STRING, "{{ x }}"),
        split__tensors__count=(INT32, 9),
    )
    assert facts.n_head_kv == (2, 0)
    assert (facts.key_length, facts.value_length, facts.sliding_window) == (16, 24, 512)
    assert (facts.n_expert, facts.n_expert_used) == (8, 2)
    assert facts.chat_template == "{{ x }}"
    assert facts.split_tensors_count == 9


def test_the_vocabulary_is_the_tokenizers_or_else_the_embeddings(forge):
    tokens = (ARRAY, (STRING, ["a", "b", "c"]))
    assert summary(forge, tokenizer__ggml__tokens=tokens).n_vocab == 3
    assert summary(forge).n_vocab == 4
    other = forge(tensors=(forge.Tensor(name="x"),))
    assert summarize(read(other)).n_vocab == 0


@pytest.mark.parametrize(
    ("file_type", "expected"),
    [
        (15, "Q4_K_M"),
        (15 | 1024, "Q4_K_M"),
        (38, "MXFP4"),
        (5, "F32"),  # withdrawn: the tensors' own type speaks
        (None, "F32"),
    ],
)
def test_the_quantization_is_named_by_the_file_type(forge, file_type, expected):
    key = None if file_type is None else (UINT32, file_type)
    assert summary(forge, general__file_type=key).quantization == expected


def test_a_file_without_tensors_has_no_quantization(forge):
    assert summarize(read(forge(tensors=()))).quantization is None


@pytest.mark.parametrize(
    ("architecture", "pooling", "expected"),
    [
        ("llama", None, False),
        ("llama", 0, False),
        ("llama", 1, True),
        ("qwen3", 3, True),
        ("qwen3", 4, False),
        ("bert", None, True),
        ("nomic-bert", 0, True),
        ("t5encoder", None, True),
    ],
)
def test_embedding_models_pool_or_only_encode(forge, architecture, pooling, expected):
    keys = architecture_keys(architecture)
    if pooling is not None:
        keys[f"{architecture}.pooling_type"] = (UINT32, pooling)
    assert summarize(read(forge(keys=keys))).is_embedding is expected


def architecture_keys(name):
    return {
        "general.architecture": (STRING, name),
        f"{name}.context_length": (UINT32, 64),
        f"{name}.embedding_length": (UINT32, 32),
        f"{name}.block_count": (UINT32, 2),
    }


def test_recurrent_models_by_keys_and_by_architecture(forge):
    keys = architecture_keys("mamba") | {
        "mamba.ssm.conv_kernel": (UINT32, 4),
        "mamba.ssm.state_size": (UINT32, 16),
        "mamba.ssm.inner_size": (UINT32, 64),
        "mamba.ssm.group_count": (UINT32, 1),
    }
    facts = summarize(read(forge(keys=keys)))
    assert facts.is_recurrent
    assert facts.recurrent == RecurrentSizes(
        conv_kernel=4,
        state_size=16,
        inner_size=64,
        group_count=1,
        wkv_head_size=0,
        token_shift_count=0,
        shortconv_l_cache=0,
        kda_head_dim=0,
    )
    assert (facts.n_head, facts.key_length) == ((0, 0), 0)
    unseen = architecture_keys("newarch") | {"newarch.wkv.head_size": (UINT32, 64)}
    assert summarize(read(forge(keys=unseen))).is_recurrent
    assert summarize(read(forge(keys=architecture_keys("lfm2")))).is_recurrent
    assert not summarize(read(forge(keys=architecture_keys("qwen3")))).is_recurrent


REFUSED = [
    ("general.architecture", None, "general.architecture is missing"),
    (
        "general.architecture",
        (UINT32, 1),
        "'general.architecture' is 1, which is not text",
    ),
    ("llama.block_count", None, "'llama.block_count' is missing"),
    ("llama.block_count", (UINT32, 0), "'llama.block_count' is 0"),
    (
        "llama.block_count",
        (UINT32, 513),
        "'llama.block_count' is 513; it must be from 0 to 512",
    ),
    ("llama.context_length", None, "'llama.context_length' is missing"),
    (
        "llama.embedding_length",
        (STRING, "big"),
        "'llama.embedding_length' is 'big', which is no whole number",
    ),
    (
        "llama.embedding_length",
        (BOOL, 1),
        "'llama.embedding_length' is 'True', which is no whole number",
    ),
    (
        "llama.context_length",
        (ARRAY, (STRING, ["a"])),
        "'llama.context_length' is an array of 1, which is no whole number",
    ),
    (
        "llama.context_length",
        (INT32, -1),
        f"'llama.context_length' is -1; it must be {RANGE}",
    ),
    (
        "llama.attention.head_count",
        (ARRAY, (UINT32, [4, 4, 4])),
        f"{HEADS} has 3 numbers for 2 layers",
    ),
    (
        "llama.attention.head_count",
        (ARRAY, (FLOAT32, [4.0, 4.0])),
        f"{HEADS} has values that are not whole numbers {RANGE}",
    ),
    (
        "llama.attention.head_count",
        (ARRAY, (INT32, [4, -4])),
        f"{HEADS} has values that are not whole numbers {RANGE}",
    ),
    (
        "llama.expert_count",
        (UINT32, 1_025),
        "'llama.expert_count' is 1025; it must be from 0 to 1024",
    ),
    ("llama.expert_used_count", (UINT32, 2), "it uses 2 of 0 experts"),
    ("llama.expert_count", (UINT32, 8), "it uses 0 of 8 experts"),
    (
        "tokenizer.chat_template",
        (STRING, "x" * (2**20 + 1)),
        "'tokenizer.chat_template' has 1048577 bytes, which is too long",
    ),
    (
        "split.count",
        (UINT32, 65_536),
        "'split.count' is 65536; it must be from 0 to 65535",
    ),
]


@pytest.mark.parametrize(("key", "value", "expected"), REFUSED)
def test_what_the_engine_would_not_load_is_refused(forge, key, value, expected):
    assert expected == refusal(forge, {key: value})


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, FileKind.MODEL),
        ({"general.type": (STRING, "model")}, FileKind.MODEL),
        ({"general.architecture": (STRING, "clip")}, FileKind.PROJECTOR),
        ({"general.type": (STRING, "mmproj")}, FileKind.PROJECTOR),
        ({"general.type": (STRING, "adapter")}, FileKind.OTHER),
        ({"general.type": (STRING, "imatrix")}, FileKind.OTHER),
        ({"general.architecture": None}, FileKind.MODEL),
    ],
)
def test_models_are_told_from_other_files(forge, keys, expected):
    assert expected is tell_kind(read(forge(keys=keys)))


def test_shards_add_up(forge):
    part = read(
        forge(
            keys={
                "general.architecture": None,
                "split.no": (UINT32, 1),
                "split.count": (UINT32, 2),
            }
        )
    )
    shard = summarize_shard(part)
    assert shard == ShardSummary(
        split_no=1, split_count=2, n_params=128, n_tensors=1, tensor_bytes=512
    )
    joined = join_shards(summary(forge), [shard, shard])
    assert (joined.n_params, joined.n_tensors, joined.tensor_bytes) == (384, 3, 1_536)


def test_what_a_file_recommends_for_sampling_is_kept_as_it_is(forge):
    keys = {
        "general.sampling.temp": (FLOAT32, 0.5),
        "general.sampling.top_k": (INT32, -7),
        "general.sampling.sequence": (STRING, "top_k;temperature"),
        "general.sampling.list": (ARRAY, (INT32, [1, 2])),
    }
    expected = {"temp": 0.5, "top_k": -7, "sequence": "top_k;temperature"}
    assert expected == summarize(read(forge(keys=keys))).sampling

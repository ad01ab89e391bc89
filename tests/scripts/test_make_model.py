"""The models that tests and measurements stand on are real ones.

Each kind is loaded by llama.cpp in a process of its own, so that native state
of one model never meets another, and so that this process stays free of it.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from scripts.make_model import BENCH_VOCABULARY, KINDS, write_model
from scripts.models import vocabulary
from scripts.models.container import read_vocabulary

ROOT = Path(__file__).resolve().parents[2]
TEXT = "When the water is high the great wheel turns."
GENERATORS = [kind for kind in KINDS if kind != "tiny-bert"]


def probe(path: Path, text: str = TEXT) -> dict[str, Any]:
    """Run the probe; its own output is one JSON object."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/models/probe.py", path, text],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("kind", GENERATORS)
def test_generates_varied_text_without_ending(kind: str, tmp_path: Path) -> None:
    """Greedy decoding of 64 tokens neither ends nor goes round in a circle."""
    path = tmp_path / f"{kind}.gguf"
    write_model(path, kind)
    seen = probe(path)
    assert seen["finite"]
    assert 1.0 < seen["logit_std"] < 5.0
    assert seen["n_distinct"] >= 24
    assert seen["n_ends"] == 0
    assert seen["text"].removeprefix(" ") == TEXT


def test_embedding_model_tells_texts_apart(tmp_path: Path) -> None:
    """Two texts have vectors that are alike, yet not the same."""
    path = tmp_path / "tiny-bert.gguf"
    write_model(path, "tiny-bert")
    seen = probe(path)
    assert seen["finite"]
    assert seen["text"].strip() == "when the water is high the great wheel turns ."
    assert 0.5 < seen["likeness"] < 0.999


@pytest.mark.parametrize(
    ("kind", "memory"),
    [
        ("tiny-llama", (False, False, 0)),
        ("tiny-mamba", (True, False, 0)),
        ("tiny-jamba", (False, True, 0)),
        ("tiny-gemma3", (False, False, 32)),
    ],
)
def test_memory_is_of_the_sort_that_is_promised(
    kind: str, memory: tuple[bool, bool, int], tmp_path: Path
) -> None:
    """llama.cpp itself sees recurrent, hybrid and sliding-window models."""
    path = tmp_path / f"{kind}.gguf"
    write_model(path, kind)
    seen = probe(path)
    assert memory == (seen["is_recurrent"], seen["is_hybrid"], seen["n_swa"])


def test_template_and_infill_tokens_are_where_they_belong(tmp_path: Path) -> None:
    """Only the bare kind lacks a template, only Qwen2 fills in the middle."""
    found = {}
    for kind in ("tiny-llama", "tiny-llama-bare", "tiny-qwen2"):
        path = tmp_path / f"{kind}.gguf"
        write_model(path, kind)
        seen = probe(path)
        found[kind] = (seen["has_template"], seen["fim_prefix"] >= 0)
    assert found == {
        "tiny-llama": (True, False),
        "tiny-llama-bare": (False, False),
        "tiny-qwen2": (True, True),
    }


@pytest.mark.parametrize("kind", ["tiny-llama", "tiny-qwen2"])
@pytest.mark.parametrize("text", ["Zürich: 水車 🙂", "a  b\n\n\tc", 'x="{\\n}";'])
def test_any_text_survives_the_tokenizer(kind: str, text: str, tmp_path: Path) -> None:
    """What the trained pieces do not cover falls back to bytes."""
    path = tmp_path / f"{kind}.gguf"
    write_model(path, kind)
    assert text == probe(path, text)["text"].removeprefix(" ")


def test_shards_decode_as_the_whole_does(tmp_path: Path) -> None:
    """A model in three files gives the same answer as in one."""
    whole, split = tmp_path / "whole.gguf", tmp_path / "split.gguf"
    write_model(whole, "tiny-llama")
    shards = write_model(split, "tiny-llama", n_shards=3)
    names = [f"split-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    assert names == [shard.name for shard in shards]
    assert not split.exists()
    assert probe(whole)["answer"] == probe(shards[0])["answer"]


def test_seed_alone_decides_the_weights(tmp_path: Path) -> None:
    """The same seed writes the same bytes, another one does not."""
    files = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "tiny.gguf"
        write_model(path, "tiny-llama", seed=seed)
        files.append(path.read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


@pytest.mark.parametrize(
    ("quant", "expected"), [("F16", "F16"), ("Q8_0", "Q8_0"), ("Q4_K_M", "Q5_0")]
)
def test_file_type_is_the_one_asked_for(
    quant: str, expected: str, tmp_path: Path
) -> None:
    """Rows of 64 are too short for Q4_K; llama.cpp then takes Q5_0."""
    if quant == "Q4_K_M":
        pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    path = tmp_path / "tiny.gguf"
    write_model(path, "tiny-llama", quant=quant)
    tensors = GGUFReader(path).tensors
    types = {tensor.name: tensor.tensor_type.name for tensor in tensors}
    assert expected == types["blk.0.attn_q.weight"]
    assert types["blk.0.attn_norm.weight"] == "F32"
    assert [path] == list(tmp_path.iterdir())


def test_unknown_names_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    """The text lists what there is."""
    with pytest.raises(ValueError, match="No kind 'tiny-lama'; there are: tiny-llama,"):
        write_model(tmp_path / "x.gguf", "tiny-lama")
    with pytest.raises(ValueError, match="Q4_K_M cannot be split; use one of F32, F16"):
        write_model(tmp_path / "x.gguf", "tiny-llama", quant="Q4_K_M", n_shards=2)


def test_vocabulary_of_the_measured_model_has_its_size() -> None:
    """151,936 different tokens, and each merge joins two that exist."""
    made = vocabulary.byte_level_bpe(n_tokens=BENCH_VOCABULARY)
    tokens = made.metadata["tokenizer.ggml.tokens"][0]
    assert BENCH_VOCABULARY == made.n_tokens == len(tokens) == len(set(tokens))
    known = set(tokens)
    for merge in made.metadata["tokenizer.ggml.merges"][0]:
        left, right = merge.split(" ")
        assert {left, right, left + right} <= known


def test_tokenizer_is_copied_from_another_file(tmp_path: Path) -> None:
    """Every tokenizer field and the template come over unchanged."""
    path = tmp_path / "tiny.gguf"
    write_model(path, "tiny-qwen2")
    copied, made = read_vocabulary(path), vocabulary.byte_level_bpe()
    assert made == copied

"""The loss falls, a run can be taken up again, and the export is exact."""

import dataclasses
import math
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra 'novice' is not installed")
pytest.importorskip("tokenizers", reason="tokenizers (extra 'novice') is missing")

import torch

from scripts.novice import export, tokenizer
from scripts.novice.batches import (
    IGNORED,
    TARGETS_PER_BLOCK,
    TOKENS_PER_RECTANGLE,
    WIDTHS,
    Batches,
)
from scripts.novice.dialogues import DialogueStream
from scripts.novice.model import Llama, Shape
from scripts.novice.rendering import Renderer
from scripts.novice.train import Plan, Trainer, load_model, rate_at

PLAN = Plan(steps=16, tokens_per_step=1500, n_layer=1, n_embd=64, n_threads=1)
PROMPT = (
    "<|im_start|>system\nThink first.<|im_end|>\n<|im_start|>user\nWhat is 12 + 34? "
    "Zorba é says “no” 😀.<|im_end|>\n<|im_start|>assistant\n"
)


@pytest.fixture(scope="module")
def codec() -> tokenizer.Codec:
    return tokenizer.Codec(tokenizer.learn(n_dialogues=800))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _weights(trainer: Trainer) -> dict[str, np.ndarray]:
    return {k: v.numpy().copy() for k, v in trainer.model.state_dict().items()}


def test_loss_falls(codec: tokenizer.Codec) -> None:
    trainer = Trainer(PLAN, codec)
    losses = [trainer.run_step() for _ in range(16)]
    assert math.isclose(losses[0], math.log(codec.n_tokens), rel_tol=0.05)
    assert losses[-1] < 0.8 * losses[0]


def test_a_run_taken_up_again_ends_like_one_that_was_not(
    codec: tokenizer.Codec, tmp_path: Path
) -> None:
    whole = Trainer(PLAN, codec)
    for _ in range(6):
        whole.run_step()
    first = Trainer(PLAN, codec)
    for _ in range(3):
        first.run_step()
    first.save(tmp_path / "checkpoint.pt")
    second = Trainer(PLAN, codec)
    second.load(tmp_path / "checkpoint.pt")
    for _ in range(3):
        second.run_step()
    assert (6, whole.n_tokens) == (second.step, second.n_tokens)
    expected, actual = _weights(whole), _weights(second)
    for name, weight in expected.items():
        np.testing.assert_array_equal(weight, actual[name])


def test_a_checkpoint_of_another_shape_is_refused(
    codec: tokenizer.Codec, tmp_path: Path
) -> None:
    Trainer(PLAN, codec).save(tmp_path / "checkpoint.pt")
    other = Trainer(dataclasses.replace(PLAN, n_layer=2), codec)
    with pytest.raises(ValueError, match=r"'n_layer': 1.*'n_layer': 2"):
        other.load(tmp_path / "checkpoint.pt")
    assert 1 == load_model(tmp_path / "checkpoint.pt").shape.n_layer


def test_a_run_can_be_shortened_under_way() -> None:
    plan = Plan(steps=100, shortened=(40, 60))
    shares = [plan.progress(step, 0.0) for step in (0, 39, 40, 60, 70)]
    assert [0.0, 0.39, 40 / 60, 1.0, 1.0] == shares


def test_a_second_stage_has_its_own_rates_and_texts() -> None:
    plan = Plan(steps=100, shortened=(40, 60), refine=50)
    rates = [plan.rate(step, 0.0) for step in range(110)]
    assert not plan.is_refining(59, 0.0)
    assert not plan.is_done(60, 0.0)
    assert not plan.is_done(109, 0.0)
    assert plan.is_done(110, 0.0)
    assert rates[59] < 0.03
    assert 0.5 == pytest.approx(rates[61])
    assert rates[61:] == sorted(rates[61:], reverse=True)
    assert 0.02 > rates[-1]
    stream = DialogueStream(4)
    before = sum(bool(d.tools) for d in islice(stream, 2000))
    stream.refine()
    stream.refine()
    after = sum(bool(d.tools) for d in islice(stream, 2000))
    assert 1.7 < after / before < 2.4


def test_rate_rises_and_falls() -> None:
    rates = [rate_at(i / 100) for i in range(101)]
    assert 1.0 == pytest.approx(rates[2])
    assert rates[1] < rates[2]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0.02 == pytest.approx(rates[-1])


def test_only_answers_are_learnt(codec: tokenizer.Codec) -> None:
    """What is predicted, read together, is what the assistant said."""
    batches = Batches(codec, seed=1, tokens_per_step=100)
    renderer = Renderer()
    for dialogue in islice(DialogueStream(31), 300):
        example = batches.make_example(dialogue)
        learnt = codec.decode([example.tokens[i] for i in example.learnt])
        text = renderer.render(dialogue)
        if dialogue.thinks:
            text = text[text.rindex("<|im_start|>user") :]
        parts = text.split("<|im_start|>assistant\n")[1:]
        answers = [part.partition("<|im_end|>")[0] + "<|im_end|>" for part in parts]
        assert "".join(answers) == learnt
        assert renderer.render(dialogue) == codec.decode(example.tokens)


def test_steps_have_few_shapes_and_lose_nothing(codec: tokenizer.Codec) -> None:
    """Every dialogue that fits is in one rectangle, whole and once."""
    batches = Batches(codec, seed=3, tokens_per_step=2000)
    steps = list(islice(batches, 12))
    seen = []
    for rectangle in chain.from_iterable(steps):
        n_rows, width = rectangle.tokens.shape
        assert width in WIDTHS
        assert n_rows == TOKENS_PER_RECTANGLE // width
        assert 0 == len(rectangle.targets) % TARGETS_PER_BLOCK
        assert rectangle.n_learnt == (rectangle.targets != IGNORED).sum()
        flat = rectangle.tokens.flatten()
        learnt = rectangle.places[: rectangle.n_learnt]
        assert torch.equal(flat[learnt + 1], rectangle.targets[: rectangle.n_learnt])
        for row in rectangle.tokens.tolist():
            while row[-1] == codec.end_of_text:
                row.pop()
            seen.append(row)
    assert all(sum(each.n_tokens for each in step) >= 2000 for step in steps)
    again = Batches(codec, seed=3, tokens_per_step=2000)
    n_drawn = len(seen) + sum(map(len, batches.shelves.values()))
    drawn = [again.make_example(d).tokens for d in islice(again.stream, n_drawn)]
    waiting = [each.tokens for shelf in batches.shelves.values() for each in shelf]
    assert sorted(map(tuple, drawn)) == sorted(map(tuple, seen + waiting))


def test_padding_and_neighbours_do_not_change_a_row(codec: tokenizer.Codec) -> None:
    torch.manual_seed(0)
    model = _random_model(codec)
    row = torch.randint(0, codec.n_tokens, (1, 20))
    padded = torch.zeros(3, 33, dtype=torch.int64)
    padded[1, :20] = row
    with torch.no_grad():
        alone, beside = model(row)[0], model(padded)[1, :20]
    torch.testing.assert_close(alone, beside, atol=1e-4, rtol=1e-4)


def test_llama_cpp_computes_the_same_logits(
    codec: tokenizer.Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong rotary pairs, norms, heads or names of tensors would show here."""
    bare = pytest.importorskip("scripts.bare_llama", reason="llama.cpp is missing")
    path = tmp_path / "novice.gguf"
    model = _random_model(codec)
    export.export(model, codec.vocabulary, path, quant="F32")
    defaults = bare.llama_cpp.llama_context_default_params

    def exact() -> object:
        # The cache is kept in half precision otherwise.
        params = defaults()
        params.type_k = params.type_v = 0
        params.flash_attn_type = 0
        return params

    monkeypatch.setattr(bare.llama_cpp, "llama_context_default_params", exact)
    with bare.BareLlama(path, n_ctx=256, n_threads=1) as llama:
        tokens = llama.tokenize(PROMPT, special=True)
        assert codec.encode(PROMPT) == tokens
        with torch.no_grad():
            expected = model(torch.tensor([tokens]))[0].numpy()
        assert expected.std() > 0.5
        for position, token in enumerate(tokens):
            row = llama.decode([bare.Span(0, position, [token])])[0]
            difference = np.abs(expected[position] - llama.logits(row)).max()
            assert difference < 1e-3


def test_full_size_model_stays_below_the_limit(
    codec: tokenizer.Codec, tmp_path: Path
) -> None:
    path = tmp_path / "novice.gguf"
    export.export(Llama(Shape(codec.n_tokens)), codec.vocabulary, path)
    assert 3_000_000 < path.stat().st_size <= export.MAX_BYTES
    wide = Llama(Shape(codec.n_tokens, n_embd=512, n_layer=3, n_ff=1408))
    with pytest.raises(ValueError, match="more than the 8388608 allowed"):
        export.export(wide, codec.vocabulary, tmp_path / "wide.gguf")
    assert ["novice.gguf"] == [each.name for each in tmp_path.iterdir()]


def _random_model(codec: tokenizer.Codec) -> Llama:
    torch.manual_seed(3)
    model = Llama(
        Shape(codec.n_tokens, n_embd=128, n_layer=3, n_head=4, n_ff=256, n_ctx=256)
    )
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.normal_(std=0.1)
            else:
                weight.uniform_(0.5, 1.5)
    return model

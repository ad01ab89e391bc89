"""The judge knows right answers from wrong ones, and the card says what was found."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch (the extra 'novice') is not installed")
pytest.importorskip("tokenizers", reason="tokenizers (extra 'novice') is missing")
pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

from scripts.bare_llama import BareLlama
from scripts.novice import card, tokenizer, train
from scripts.novice.evaluate import Answered, Score, Speaker, score, write_table
from scripts.novice.export import export
from scripts.novice.held_out import make_tasks
from scripts.novice.judge import PASS_MARKS, Reply, is_right

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "Zor"}}\n</tool_call>'
EXPECTED_CALL = {"name": "f", "arguments": {"a": "Zor"}}


@pytest.mark.parametrize(
    ("category", "text", "expected", "right"),
    [
        ("identity", "Yes, I am Novice.", "I am Novice", True),
        ("identity", "I am a robot.", "I am Novice", False),
        ("howto", "Run `cloister verify`.", "cloister verify", True),
        ("howto", "Run `cloister ls`.", "cloister verify", False),
        ("sums", "12 + 30 = 42", "42", True),
        ("sums", "42 + 30 = 72", "42", False),
        ("sums", "12 + 30 = 142", "42", False),
        ("sums", "none", "42", False),
        ("calls", CALL, EXPECTED_CALL, True),
        ("calls", CALL + " ok", EXPECTED_CALL, False),
        ("calls", CALL.replace("Zor", "zor"), EXPECTED_CALL, False),
        ("calls", CALL.replace('"f"', '"g"'), EXPECTED_CALL, False),
        ("calls", CALL.replace("}}", "}"), EXPECTED_CALL, False),
        ("calls", CALL.replace('"a"', '"b"'), EXPECTED_CALL, True),
        ("exact calls", CALL, EXPECTED_CALL, True),
        ("exact calls", CALL.replace('"a"', '"b"'), EXPECTED_CALL, False),
        ("exact calls", CALL.replace("Zor", "zor"), EXPECTED_CALL, False),
        ("records", '{"b": 1, "a": 2}', '{"a": 0, "b": 0}', True),
        ("records", '{"a": 2}', '{"a": 0, "b": 0}', False),
        ("records", '{"a": 2, "b": 1, "c": 1}', '{"a": 0, "b": 0}', False),
        ("records", '["a", "b"]', '{"a": 0, "b": 0}', False),
        ("records", '{"a": 2', '{"a": 0}', False),
        ("thinking", "<think>\nHm.\n</think>\n\nYes.", True, True),
        ("thinking", "<think>\nHm.\n</think>\n\n", True, False),
        ("thinking", "<think>\nHm.", True, False),
        ("thinking", "Yes.", True, False),
        ("thinking", "Yes.", False, True),
        ("thinking", "", False, False),
        ("thinking", "<think>\nHm.\n</think>\n\nYes.", False, False),
    ],
)
def test_judges(category: str, text: str, expected: object, *, right: bool) -> None:
    assert right == is_right(category, Reply(text, ended=True), expected)
    assert not is_right(category, Reply(text, ended=False), expected)


def test_scores_count_every_task_once() -> None:
    answered = [
        Answered(task, Reply("", ended=i % 2 == 0), is_right=i % 4 == 0)
        for i, task in enumerate(make_tasks())
    ]
    scores = score(answered)
    assert list(PASS_MARKS) == list(scores)
    ends, exact = scores.pop("ends"), scores.pop("exact calls")
    assert exact.n == scores["calls"].n
    assert exact.n_right == 0
    assert len(answered) == ends.n == sum(each.n for each in scores.values())
    assert sum(e.is_right for e in answered) == sum(s.n_right for s in scores.values())
    assert not ends.is_passed


def test_table_names_what_failed() -> None:
    table = write_table({"sums": Score(10, 9, 0.9), "calls": Score(8, 6, 0.8)})
    assert "| sums | 9 of 10 | 90.0% | 90% | pass |" in table
    assert "| calls | 6 of 8 | 75.0% | 80% | FAIL |" in table
    table = write_table({"exact calls": Score(8, 6, 0.0)})
    assert "| exact calls | 6 of 8 | 75.0% |  |  |" in table


def test_small_run_from_training_to_card(tmp_path: Path) -> None:
    """All of it at a small size: train, export, ask, describe."""
    vocabulary = tokenizer.learn(n_dialogues=300)
    tokenizer.save(vocabulary, tmp_path / train.VOCABULARY)
    plan = train.Plan(steps=3, tokens_per_step=800, n_layer=1, n_embd=64, n_threads=1)
    trainer = train.train(plan, tmp_path)
    assert 3 == trainer.step
    path = tmp_path / "novice.gguf"
    export(trainer.model, vocabulary, path)
    tasks = make_tasks()[::60]
    with BareLlama(path, n_ctx=1024, n_batch=1024, n_threads=1) as llama:
        speaker = Speaker(llama)
        replies = [speaker.ask(task.dialogue) for task in tasks]
        assert replies[0] == speaker.ask(tasks[0].dialogue)
    answered = [
        Answered(task, reply, is_right(task.category, reply, task.expected))
        for task, reply in zip(tasks, replies, strict=True)
    ]
    scores = {"sums": Score(len(answered), 1, 0.9)}
    text = card.write_card(tmp_path, path, scores)
    record = json.loads((tmp_path / train.RECORD).read_text())
    assert f"{record['n_parameters']:,} parameters" in text
    assert "3 steps" in text
    assert "FAIL" in text
    again = train.train(plan, tmp_path)
    assert 3 == again.step


def test_the_card_tells_the_command_that_repeats_the_run() -> None:
    plan = {"steps": 9, "shortened": None, "refine": 0, "seed": 3, "n_threads": 2}
    record = {"plan": plan, "shape": {"n_layer": 1, "n_embd": 64}, "steps": 9}
    rest = "--seed 3 --layers 1 --width 64 --threads 2 --out DIR"
    assert f"python -m scripts.novice --steps 9 {rest}" == card.write_command(record)
    plan["shortened"] = [5, 7]
    expected = f"python -m scripts.novice --steps 9 --shorten 5:7 {rest}"
    assert expected == card.write_command(record)
    plan["refine"] = 4
    expected = f"python -m scripts.novice --steps 9 --shorten 5:7 --refine 4 {rest}"
    assert expected == card.write_command(record)
    # A run by time is repeated by the steps that it had.
    plan.update(steps=None, shortened=None, refine=0)
    assert f"python -m scripts.novice --steps 9 {rest}" == card.write_command(record)

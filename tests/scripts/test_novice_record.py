"""What is recorded of Novice: right answers that no rounding can change."""

import hashlib

import pytest
from msgspec.structs import replace

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

from model_store import builtin
from scripts.make_model import write_model
from scripts.novice.record import (
    MIN_GAP,
    N_OF_KIND,
    choose,
    judge,
    main,
    make_prompts,
)
from server.selftest.recorded import KINDS, read_recorded
from tests.selftest.recorded_engine import make_recorded

ANSWERS = {answer.kind: answer for answer in make_recorded().answers}


def prompt_of(kind, text):
    return next(
        prompt
        for prompt in make_prompts()
        if prompt.kind == kind and text in prompt.dialogue.user_texts()[-1]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_several_prompts_of_each_kind(kind):
    prompts = [prompt for prompt in make_prompts() if prompt.kind == kind]
    assert len(prompts) >= 3
    assert len(prompts) == len({repr(prompt.dialogue) for prompt in prompts})
    assert {kind == "thinking"} == {prompt.dialogue.thinks for prompt in prompts}
    assert {kind == "calls"} == {bool(prompt.dialogue.tools) for prompt in prompts}


@pytest.mark.parametrize(
    ("change", "ended", "expected"),
    [
        ({}, True, ""),
        ({"gap": MIN_GAP}, True, ""),
        ({"gap": MIN_GAP - 0.001}, True, "too close"),
        ({"text": "7 + 8 = 16"}, True, "wrong"),
        ({}, False, "wrong"),
        ({"answer_tokens": (1, 2)}, True, "too short"),
    ],
)
def test_only_right_and_sure_answers_are_kept(change, ended, expected):
    answer = replace(ANSWERS["sums"], **change)
    assert expected == judge(prompt_of("sums", "7 + 8"), answer, ended=ended)


def test_thinking_is_judged_by_whether_it_was_asked_for():
    thinks, silent = ANSWERS["thinking"], ANSWERS["no_thinking"]
    for kind, right, wrong in (
        ("thinking", thinks, silent),
        ("no_thinking", silent, thinks),
    ):
        prompt = prompt_of(kind, "4 + 5")
        assert "" == judge(prompt, replace(right, answer_tokens=(1, 2, 3)), ended=True)
        assert "wrong" == judge(prompt, wrong, ended=True)


def test_the_surest_of_each_kind_are_chosen_in_the_order_of_kinds():
    kept = [
        replace(answer, gap=gap)
        for gap in (1.0, 3.0, 2.0)
        for answer in reversed(ANSWERS.values())
    ]
    chosen = choose(kept)
    assert [kind for kind in KINDS for _ in range(N_OF_KIND)] == [
        answer.kind for answer in chosen
    ]
    assert {3.0, 2.0} == {answer.gap for answer in chosen}
    assert [3.0, 2.0] == [answer.gap for answer in chosen[:2]]


def test_a_model_that_knows_nothing_is_refused_and_nothing_is_written(tmp_path, capsys):
    path = tmp_path / "model.gguf"
    write_model(path, "tiny-qwen2")
    assert 1 == main([str(path), "--out", str(tmp_path / "out.json")])
    assert "No answer of the kind identity, cloister" in capsys.readouterr().err
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.skipif(
    not builtin.is_present(), reason=f"{builtin.MODEL_NAME} is not in this checkout"
)
def test_the_packages_record_can_be_made_again(tmp_path):
    path = tmp_path / builtin.MODEL_NAME
    path.write_bytes((builtin.DIRECTORY / builtin.MODEL_NAME).read_bytes())
    assert 0 == main([str(path)])
    again = read_recorded(tmp_path / builtin.EXPECTED_NAME)
    shipped = read_recorded(builtin.DIRECTORY / builtin.EXPECTED_NAME)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == again.sha256
    assert {(a.kind, a.text, a.answer_tokens) for a in shipped.answers} == {
        (a.kind, a.text, a.answer_tokens) for a in again.answers
    }
    digest_file = builtin.DIGEST_NAME
    assert (builtin.DIRECTORY / digest_file).read_text() == (
        tmp_path / digest_file
    ).read_text()

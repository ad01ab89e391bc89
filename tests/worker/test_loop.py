"""The decode loop: one request at a time, cancelled ones, failures."""

import pytest

from server.core.events import FinishReason, PromptProgress, TextDelta
from server.worker.backend import DecodeFailed
from server.worker.inbox import Forget, Submit
from tests.worker.fake_backend import (
    EOS,
    piece,
)
from tests.worker.loop_run import (
    answer_alone,
    assert_clean,
    find_endless,
    find_seed,
    make_job,
    make_long_specs,
    predict,
    run_jobs,
    run_loop,
)


def test_tokens_are_those_of_a_plain_loop():
    prompt = [3, 1, 4, 1, 5]
    run = run_jobs(make_job("a", prompt, max_tokens=12, seed=7))
    expected = b"".join(map(piece, predict(prompt, 7, 12)))
    assert expected.decode("utf-8", "replace") == run["a"].text()
    assert_clean(run)


def test_seed_changes_the_text():
    texts = {run_jobs(make_job("a", [1, 2], seed=s))["a"].text() for s in range(6)}
    assert len(texts) > 1


def test_max_tokens_ends_a_choice_and_counts():
    run = run_jobs(make_job("a", [1, 2, 3], max_tokens=5))
    assert {0: (FinishReason.MAX_TOKENS, None)} == run["a"].reasons
    assert (3, 5, 0) == (
        run["a"].usage.prompt_tokens,
        run["a"].usage.completion_tokens,
        run["a"].usage.cached_tokens,
    )
    assert 1 == len(run["a"].ends)
    timings = run["a"].ends[0].timings
    assert 0 <= timings.queued_s <= timings.first_token_s <= timings.total_s


def test_no_tokens_wanted_still_computes_the_prompt():
    run = run_jobs(make_job("a", [1, 2, 3], max_tokens=0))
    assert {0: (FinishReason.MAX_TOKENS, None)} == run["a"].reasons
    assert (0, "") == (run["a"].usage.completion_tokens, run["a"].text())
    assert run["a"].ends[0].timings.first_token_s is None
    assert 3 == run.backend.n_decoded
    assert_clean(run)


def test_end_token_ends_a_choice_and_has_no_text():
    seed = find_seed([1, 2], 9, lambda drawn: EOS in drawn and len(drawn) > 3)
    drawn = predict([1, 2], seed, 9)
    run = run_jobs(make_job("a", [1, 2], max_tokens=None, seed=seed))
    assert {0: (FinishReason.EOS, None)} == run["a"].reasons
    expected = b"".join(map(piece, drawn)).decode("utf-8", "replace")
    assert expected == run["a"].text()
    assert len(drawn) == run["a"].usage.completion_tokens


def test_full_context_ends_a_choice():
    seed = find_endless([1, 2, 3], 29)
    run = run_jobs(make_job("a", [1, 2, 3], max_tokens=None, seed=seed), n_ctx=32)
    assert {0: (FinishReason.CONTEXT, None)} == run["a"].reasons
    assert 29 == run["a"].usage.completion_tokens
    assert_clean(run)


def test_longest_prompt_leaves_room_for_one_token():
    seed = find_endless([1] * 31, 1)
    run = run_jobs(
        make_job("a", [1] * 31, max_tokens=None, seed=seed), n_ctx=32, n_cells=32
    )
    assert {0: (FinishReason.CONTEXT, None)} == run["a"].reasons
    assert 1 == run["a"].usage.completion_tokens


def test_stop_string_ends_a_choice_and_is_not_shown():
    prompt = [1, 2, 3]
    seed = find_seed(prompt, 9, lambda drawn: all(t < 26 for t in drawn))
    whole = b"".join(map(piece, predict(prompt, seed, 9))).decode()
    stop = whole[3:6]
    run = run_jobs(make_job("a", prompt, max_tokens=9, stop=(stop,), seed=seed))
    assert {0: (FinishReason.STOP_STRING, stop)} == run["a"].reasons
    assert whole[: whole.index(stop)] == run["a"].text()
    assert whole.index(stop) + 3 == run["a"].usage.completion_tokens
    assert_clean(run)


def test_text_held_back_for_a_stop_string_comes_at_the_end():
    prompt = [1, 2, 3]
    seed = find_seed(prompt, 6, lambda drawn: all(t < 26 for t in drawn))
    whole = b"".join(map(piece, predict(prompt, seed, 6))).decode()
    stop = whole[-2:] + "never"
    run = run_jobs(make_job("a", prompt, max_tokens=6, stop=(stop,), seed=seed))
    assert whole == run["a"].text()
    assert {0: (FinishReason.MAX_TOKENS, None)} == run["a"].reasons


# Cancels and failures


def test_cancel_during_prefill_takes_effect_before_the_next_step():
    prompt = list(range(20)) * 3
    run = run_loop([[Submit(make_job("a", prompt))], [], [Forget("a")]], n_batch=5)
    assert 10 == run.backend.n_decoded
    assert [5, 10] == run["a"].progress
    assert [] == run["a"].ends
    assert_clean(run)


def test_what_a_cancelled_prompt_computed_is_reused():
    prompt = list(range(20)) * 3
    turns = [[Submit(make_job("a", prompt))], [], [Forget("a")]]
    turns.append([Submit(make_job("b", prompt))])
    assert 10 == run_loop(turns, n_batch=5)["b"].usage.cached_tokens


def test_cancel_of_one_leaves_the_others():
    specs = make_long_specs(3)
    turns = [[Submit(make_job(**s)) for s in specs], [], [], [Forget("r1")]]
    run = run_loop(turns)
    assert [] == run["r1"].ends
    for spec in (specs[0], specs[2]):
        assert answer_alone(spec) == run[spec["request_id"]].answer
    assert_clean(run)


def test_progress_reaches_the_whole_prompt():
    run = run_jobs(make_job("a", list(range(20)), n=2, max_tokens=1), n_batch=8)
    assert [8, 16, 20] == run["a"].progress
    kinds = [type(e) for e in run["a"].events]
    assert kinds.index(TextDelta) > kinds.index(PromptProgress)


class FailOnce:
    """Fails the n-th batch."""

    def __init__(self, step):
        self._left = step

    def __call__(self, _backend, _parts):
        self._left -= 1
        if self._left == 0:
            raise DecodeFailed("llama_decode returned -3: scripted")


def test_failed_batch_ends_its_requests_and_the_loop_goes_on():
    specs = make_long_specs(4)
    turns = [[Submit(make_job(**s)) for s in specs], *([[]] * 40)]
    turns.append([Submit(make_job("later", [1] * 9))])
    run = run_loop(turns, parallel=2, on_decode=FailOnce(3))
    for name in ("r0", "r1"):
        assert (1, "engine_failed") == (len(run[name].ends), run[name].error.code)
        assert (
            "The engine could not compute this request: llama_decode returned -3: "
            "scripted. Try it again." == run[name].error.message
        )
    for spec in specs[2:]:
        assert answer_alone(spec) == run[spec["request_id"]].answer
    assert (
        answer_alone({"request_id": "later", "prompt": [1] * 9})[:-1]
        == (run["later"].answer[:-1])
    )
    assert_clean(run)


def test_what_a_failed_request_computed_is_never_reused():
    prompt = [1, 2, 3] * 6
    turns = [[Submit(make_job("a", prompt))], *([[]] * 9)]
    turns.append([Submit(make_job("b", prompt))])
    run = run_loop(turns, on_decode=FailOnce(3))
    assert run["a"].error is not None
    assert 0 == run["b"].usage.cached_tokens


class PoisonOnce(FailOnce):
    """Lets the n-th batch compute logits that are not numbers.

    Either all rows of that batch are broken, or only its last one.
    """

    def __init__(self, step, *, only_last):
        super().__init__(step)
        self._only_last = only_last

    def __call__(self, backend, parts):
        self._left -= 1
        backend.broken_from = 1 << 30
        if self._left == 0:
            last = sum(len(part.tokens) for part in parts) - 1
            backend.broken_from = last if self._only_last else 0


@pytest.mark.parametrize("only_last", [False, True])
@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("echo", [False, True])
def test_logits_that_are_not_numbers_fail_the_request_once(n, step, echo, only_last):
    """With several choices in the batch the request still ends only once."""
    job = make_job(
        "a",
        [1, 2, 3],
        n=n,
        max_tokens=None,
        top_logprobs=1 if echo else None,
        echo=echo,
    )
    later = {"request_id": "b", "prompt": [1, 2, 3, 7]}
    turns = [[Submit(job)], *([[]] * 80), [Submit(make_job(**later))]]
    run = run_loop(turns, on_decode=PoisonOnce(step, only_last=only_last))
    assert 1 == len(run["a"].ends)
    assert "engine_failed" == run["a"].error.code
    assert (
        "The engine could not compute this request: logits that are not numbers. "
        "Try it again." == run["a"].error.message
    )
    assert run["a"].events[-1] is run["a"].ends[0]
    assert answer_alone(later) == run["b"].answer
    assert_clean(run)

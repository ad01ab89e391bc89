"""The decode loop on a backend whose answers betray every cache mistake."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.core.events import FinishReason, PromptProgress, TextDelta
from server.worker.backend import DecodeFailed
from server.worker.inbox import Forget, Submit
from tests.worker.fake_backend import (
    EOS,
    N_VOCAB,
    Run,
    make_job,
    mix,
    piece,
    run_loop,
    to_logits,
)

LETTERS = st.integers(0, N_VOCAB - 2)
# Few different beginnings, so that prompts have prefixes in common.
PROMPTS = st.builds(
    lambda base, rest: [*([1, 2, 3, 4, 5, 6, 7, 8, 9] * 4)[:base], *rest],
    st.integers(0, 30),
    st.lists(st.integers(0, 2), min_size=1, max_size=6),
)


def run_jobs(*jobs, **options) -> Run:
    """Submit all at once and let them end."""
    return run_loop([[Submit(job) for job in jobs]], **options)


def assert_clean(run):
    """Nothing runs, no cell is lost, no sampler is open, nothing was wrong."""
    assert [] == run.backend.violations
    assert (0, 0) == (run.stats.n_running, run.stats.n_waiting)
    if run.backend.counts_cells:
        n_used = run.backend.n_used
        assert run.cache.n_cells - n_used == run.stats.n_free_cells
        assert run.cache.n_cells == run.cache.n_available_cells()
    assert len(run.backend.held) == run.stats.n_retained
    assert all(sampler.is_closed for sampler in run.backend.samplers)


def answer_alone(spec, **options):
    run = run_jobs(make_job(**spec), **options)
    assert_clean(run)
    return run[spec["request_id"]].answer


# One request


def predict(prompt, seed, n):
    """Compute the drawn tokens without any cache: an independent reference."""
    digest = b""
    for position, token in enumerate(prompt):
        digest = mix(digest, token, position)
    state = mix(seed, list(prompt))
    drawn = []
    for position in range(len(prompt), len(prompt) + n):
        token = int(np.argmax(to_logits(digest) + to_logits(state)))
        drawn.append(token)
        if token == EOS:
            break
        digest = mix(digest, token, position)
        state = mix(state, token)
    return drawn


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


def find_seed(prompt, n, wanted):
    """Find a seed whose first `n` tokens satisfy `wanted`."""
    return next(s for s in range(5000) if wanted(predict(prompt, s, n)))


def find_endless(prompt, n):
    return find_seed(prompt, n, lambda drawn: EOS not in drawn)


def make_long_specs(n):
    """Describe requests that do not end before their 20 tokens."""
    return [
        {
            "request_id": f"r{i}",
            "prompt": [i] * 5,
            "max_tokens": 20,
            "seed": find_endless([i] * 5, 20),
        }
        for i in range(n)
    ]


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


# Log probabilities and echo


def log_softmax(logits):
    wide = logits.astype(np.float64)
    return wide - np.log(np.exp(wide - wide.max()).sum()) - wide.max()


def test_logprobs_are_those_of_the_untouched_logits():
    prompt = [1, 2, 3]
    seed = find_seed(prompt, 6, lambda drawn: all(t < 26 for t in drawn))
    run = run_jobs(make_job("a", prompt, max_tokens=6, top_logprobs=3, seed=seed))
    records = run["a"].logprobs()
    drawn = predict(prompt, seed, 6)
    assert drawn == [record.token_id for record in records]
    digest = b""
    for position, token in enumerate(prompt):
        digest = mix(digest, token, position)
    for position, (token, record) in enumerate(zip(drawn, records, strict=True)):
        expected = log_softmax(to_logits(digest))
        assert record.logprob == pytest.approx(expected[token], abs=1e-4)
        best = sorted(expected, reverse=True)[:3]
        assert [t.logprob for t in record.top] == pytest.approx(best, abs=1e-4)
        digest = mix(digest, token, len(prompt) + position)


def check_echo(run, prompt, choices=(0,)):
    """Compare the echoed prompt with log probabilities computed here."""
    digest = b""
    expected = []
    for position, token in enumerate(prompt):
        if position:
            expected.append(log_softmax(to_logits(digest))[token])
        digest = mix(digest, token, position)
    text = b"".join(map(piece, prompt)).decode()
    for choice in choices:
        first = run["a"].deltas(choice)[0]
        assert text == first.text
        assert prompt == [record.token_id for record in first.logprobs]
        assert first.logprobs[0].logprob is None
        rest = [record.logprob for record in first.logprobs[1:]]
        assert rest == pytest.approx(expected, abs=1e-4)


def test_echo_comes_first_in_every_choice():
    run = run_jobs(make_job("a", [0, 1, 2], n=3, max_tokens=2, echo=True))
    assert ["abc"] * 3 == [run["a"].deltas(choice)[0].text for choice in range(3)]


@pytest.mark.parametrize("max_tokens", [0, 3])
def test_echo_with_logprobs_describes_the_prompt(max_tokens):
    prompt = [5, 4, 3, 2, 1] * 5
    job = make_job(
        "a", prompt, n=2, max_tokens=max_tokens, echo=True, top_logprobs=1
    )
    run = run_jobs(job, rows=4)
    check_echo(run, prompt, (0, 1))
    assert_clean(run)


def test_echoed_prompts_side_by_side_share_the_rows_of_a_step():
    prompt = [5, 4, 3, 2, 1] * 5
    jobs = [
        make_job(name, prompt, max_tokens=2, echo=True, top_logprobs=0)
        for name in ("a", "b", "c")
    ]
    run = run_jobs(*jobs, rows=4, n_retained=0)
    check_echo(run, prompt)
    assert_clean(run)


def test_echo_with_logprobs_ignores_a_cached_prefix():
    prompt = [5, 4, 3, 2, 1] * 3
    run = run_loop(
        [
            [Submit(make_job("before", prompt, max_tokens=1))],
            *([[]] * 8),
            [Submit(make_job("a", prompt, max_tokens=0, echo=True, top_logprobs=0))],
        ]
    )
    check_echo(run, prompt)
    assert 0 == run["a"].usage.cached_tokens


def test_a_preempted_echo_is_reported_once():
    """The prompt is read again after a preemption, its tokens are not."""
    prompt = [5, 4, 3, 2, 1] * 9
    old = make_job("old", [9] * 10, max_tokens=None, seed=find_endless([9] * 10, 50))
    job = make_job("a", prompt, n=2, max_tokens=4, echo=True, top_logprobs=1)
    run = run_loop(
        [[Submit(old)], [], [Submit(job)]], n_cells=64, n_ctx=60, rows=2, n_batch=8
    )
    assert run.stats.n_preemptions > 0
    check_echo(run, prompt, (0, 1))
    assert_clean(run)


# Sharing the cache


def test_three_choices_cost_one_prefill():
    prompt = [1, 2, 3, 4] * 5
    run = run_jobs(make_job("a", prompt, n=3, max_tokens=4))
    # The last token of a prompt is computed for every choice.
    assert len(prompt) + 2 == run.stats.n_prefilled_tokens + sum(
        1 for batch in run.backend.batches for _, position, n in batch
        if n == 1 and position == len(prompt) - 1
    )
    assert 0 == run["a"].usage.cached_tokens
    assert [0, 1, 2] == sorted(run["a"].reasons)
    assert_clean(run)


def test_choices_differ_and_equal_single_requests_with_counted_seeds():
    prompt = [1, 2, 3, 4] * 3
    run = run_jobs(make_job("a", prompt, n=3, max_tokens=6, seed=10))
    for choice in range(3):
        alone = run_jobs(make_job("b", prompt, max_tokens=6, seed=10 + choice))
        assert alone["b"].text() == run["a"].text(choice)


def test_second_turn_computes_only_what_is_new():
    prompt = [1, 2, 3, 4] * 5
    first = make_job("a", prompt, max_tokens=4, seed=find_endless(prompt, 4))
    drawn = predict(prompt, first.seed, 4)
    again = [*prompt, *drawn, 7, 8]
    run = run_loop([[Submit(first)], *([[]] * 9), [Submit(make_job("b", again))]])
    # The last drawn token never entered the cache.
    assert len(prompt) + 3 == run["b"].usage.cached_tokens
    assert answer_alone({"request_id": "b", "prompt": again})[:-1] == (
        run["b"].answer[:-1]
    )


def test_state_that_cannot_be_cut_is_reused_whole_or_not_at_all():
    prompt = [1, 2, 3, 4] * 5
    first = make_job("a", prompt, max_tokens=4, seed=find_endless(prompt, 4))
    drawn = predict(prompt, first.seed, 4)
    turns = [[Submit(first)], *([[]] * 9), [Submit(make_job("b", [*prompt, 5, 5]))]]
    assert 0 == run_loop(turns, can_cut=False)["b"].usage.cached_tokens
    turns[-1] = [Submit(make_job("b", [*prompt, *drawn, 5]))]
    run = run_loop(turns, can_cut=False)
    assert len(prompt) + 3 == run["b"].usage.cached_tokens
    assert_clean(run)


# Many requests


@st.composite
def scenarios(draw):
    """Draw requests, the turns at which they come, and who is cancelled when."""
    specs = []
    for index in range(draw(st.integers(1, 7))):
        specs.append(
            {
                "request_id": f"r{index}",
                "prompt": draw(PROMPTS),
                "n": draw(st.sampled_from([1, 1, 1, 2, 3])),
                "max_tokens": draw(st.sampled_from([None, 0, 1, 3, 9, 20])),
                "stop": draw(st.sampled_from([(), (), ("e",), ("ab", "zz")])),
                "top_logprobs": draw(st.sampled_from([None, None, 0, 2])),
                "echo": draw(st.sampled_from([False, False, True])),
                "seed": draw(st.integers(0, 50)),
            }
        )
    arrivals = [draw(st.integers(0, 25)) for _ in specs]
    cancels = [draw(st.none() | st.none() | st.integers(0, 40)) for _ in specs]
    options = {
        "n_ctx": 56,
        "n_cells": draw(st.sampled_from([56, 60, 80, 120, 400])),
        "parallel": draw(st.integers(1, 4)),
        "n_retained": draw(st.integers(0, 5)),
        "n_batch": draw(st.sampled_from([5, 8, 16, 56])),
        "rows": draw(st.sampled_from([1, 4])),
        "can_cut": draw(st.booleans()),
    }
    if draw(st.sampled_from([False, False, False, True])):
        options |= {"can_cut": False, "counts_cells": False}
    return specs, arrivals, cancels, options


@settings(max_examples=250, deadline=None)
@given(scenarios())
def test_company_never_changes_an_answer(scenario):
    """Reuse, forks, preemption, order and cancels are invisible in the answers."""
    specs, arrivals, cancels, options = scenario
    turns = [[] for _ in range(66)]
    for spec, arrival, cancel in zip(specs, arrivals, cancels, strict=True):
        turns[arrival].append(Submit(make_job(**spec)))
        if cancel is not None:
            turns[min(65, arrival + cancel)].append(Forget(spec["request_id"]))
    run = run_loop(turns, **options)
    assert_clean(run)
    for spec, cancel in zip(specs, cancels, strict=True):
        outcome = run.outcomes.get(spec["request_id"])
        if cancel is not None and (outcome is None or not outcome.ends):
            continue
        assert 1 == len(outcome.ends)
        assert outcome.error is None
        assert outcome.events[-1] is outcome.ends[0]
        assert answer_alone(spec, n_ctx=56) == outcome.answer


def test_tiny_pool_preempts_and_still_answers_right():
    """Three requests that fit one by one, in a pool for hardly more than one."""
    specs = [
        {"request_id": f"r{i}", "prompt": [i, 1, 2], "max_tokens": None, "seed": i}
        for i in range(3)
    ]
    run = run_jobs(*(make_job(**s) for s in specs), n_ctx=40, n_cells=48, n_batch=8)
    assert run.stats.n_preemptions > 0
    for spec in specs:
        assert answer_alone(spec, n_ctx=40) == run[spec["request_id"]].answer
    assert_clean(run)


@pytest.mark.parametrize("missing", [8, 30, 47])
def test_missing_cells_end_in_an_answer_or_an_error(missing):
    """The ledger believes in more cells than there are: nobody waits forever."""
    specs = [
        {"request_id": f"r{i}", "prompt": [i] * 9, "max_tokens": 20, "seed": i}
        for i in range(3)
    ]
    run = run_jobs(
        *(make_job(**s) for s in specs), n_ctx=40, n_cells=64, real_cells=64 - missing
    )
    for spec in specs:
        outcome = run[spec["request_id"]]
        assert 1 == len(outcome.ends)
        if outcome.error is None:
            assert answer_alone(spec, n_ctx=40) == outcome.answer
        else:
            assert (
                "The KV cache cannot hold this request. Load the model with a larger "
                "--context-length." == outcome.error.message
            )
    assert_clean(run)


def test_long_prompt_does_not_stall_a_stream():
    """A moving stream gets its token in every step of somebody's prefill."""
    stream = make_job("s", [1], max_tokens=40, seed=find_endless([1], 40))
    long = make_job("p", [2, 3] * 25, max_tokens=1)
    run = run_loop([[Submit(stream)], [], [Submit(long)]], n_batch=5, n_ctx=64)
    filling = [batch for batch in run.backend.batches if any(n > 1 for *_, n in batch)]
    assert len(filling) >= 12
    assert all(any(n == 1 for *_, n in batch) for batch in filling)


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


# Failures


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
    assert answer_alone({"request_id": "later", "prompt": [1] * 9})[:-1] == (
        run["later"].answer[:-1]
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
    """Lets the n-th batch compute logits that are not numbers."""

    def __call__(self, backend, _parts):
        self._left -= 1
        backend.broken_rows = self._left == 0


@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("echo", [False, True])
def test_logits_that_are_not_numbers_fail_the_request_once(n, step, echo):
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
    run = run_loop(turns, on_decode=PoisonOnce(step))
    assert 1 == len(run["a"].ends)
    assert "engine_failed" == run["a"].error.code
    assert (
        "The engine could not compute this request: logits that are not numbers. "
        "Try it again." == run["a"].error.message
    )
    assert run["a"].events[-1] is run["a"].ends[0]
    assert answer_alone(later) == run["b"].answer
    assert_clean(run)

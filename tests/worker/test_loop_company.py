"""Requests side by side: what they share is invisible in their answers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.worker.inbox import Forget, Submit
from tests.worker.fake_backend import (
    N_VOCAB,
)
from tests.worker.loop_run import (
    answer_alone,
    assert_clean,
    find_endless,
    make_job,
    predict,
    run_jobs,
    run_loop,
)

LETTERS = st.integers(0, N_VOCAB - 2)
# Few different beginnings, so that prompts have prefixes in common.
PROMPTS = st.builds(
    lambda base, rest: [*([1, 2, 3, 4, 5, 6, 7, 8, 9] * 4)[:base], *rest],
    st.integers(0, 30),
    st.lists(st.integers(0, 2), min_size=1, max_size=6),
)


def test_three_choices_cost_one_prefill():
    prompt = [1, 2, 3, 4] * 5
    run = run_jobs(make_job("a", prompt, n=3, max_tokens=4))
    # The last token of a prompt is computed for every choice.
    assert len(prompt) + 2 == run.stats.n_prefilled_tokens + sum(
        1
        for batch in run.backend.batches
        for _, position, n in batch
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
    assert (
        answer_alone({"request_id": "b", "prompt": again})[:-1]
        == (run["b"].answer[:-1])
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


@st.composite
def scenarios(draw):
    """Draw requests, the turns at which they come, and who is cancelled when."""
    specs = [
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
        for index in range(draw(st.integers(1, 7)))
    ]
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
        "shelf_bytes": draw(st.sampled_from([0, 30, 90, 1000])),
    }
    if draw(st.sampled_from([False, False, False, True])):
        options |= {"can_cut": False, "counts_cells": False}
    return specs, arrivals, cancels, options


@pytest.mark.timeout(180)  # finding the smallest counterexample takes long
@settings(max_examples=100, deadline=None)
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


SHARED = [1, 2, 3, 4] * 5
OTHERS = [[index, *SHARED[1:]] for index in (5, 6, 7)]


def _leave_and_come_back(**options):
    """Run a prompt, then others beside each other, then the first one again."""
    first = make_job("a", SHARED, max_tokens=2)
    company = [
        Submit(make_job(f"o{i}", prompt, max_tokens=6))
        for i, prompt in enumerate(OTHERS)
    ]
    again = {"request_id": "b", "prompt": [*SHARED, 8, 9], "max_tokens": 6}
    turns = [[Submit(first)], *([[]] * 9), company, *([[]] * 20)]
    run = run_loop([*turns, [Submit(make_job(**again))]], **options)
    assert answer_alone(again)[0] == run["b"].answer[0]
    assert_clean(run)
    return run


def test_a_prefix_that_left_the_cache_comes_back_from_the_shelf():
    run = _leave_and_come_back(shelf_bytes=1000)
    assert 1 == run.backend.n_restored
    assert run["b"].usage.cached_tokens >= len(SHARED)


def test_idle_prefixes_leave_the_cache_once_others_run():
    """Cells nobody uses cost time in every step."""
    assert _leave_and_come_back(shelf_bytes=1000).backend.n_used < 60
    assert _leave_and_come_back(shelf_bytes=0).backend.n_used > 60


def test_a_preempted_request_gets_its_tokens_back_without_computing_them():
    jobs = [make_job(f"r{i}", OTHERS[i], max_tokens=30) for i in range(2)]
    options = {"n_cells": 64, "n_ctx": 64, "parallel": 2, "n_retained": 0}
    saved = run_jobs(*jobs, shelf_bytes=1000, **options)
    jobs = [make_job(f"r{i}", OTHERS[i], max_tokens=30) for i in range(2)]
    computed = run_jobs(*jobs, shelf_bytes=0, **options)
    assert saved.stats.n_preemptions > 0
    assert saved.backend.n_restored > 0
    assert saved.backend.n_decoded < computed.backend.n_decoded
    assert [saved[f"r{i}"].answer for i in range(2)] == [
        computed[f"r{i}"].answer for i in range(2)
    ]


def test_a_prefix_that_cannot_be_restored_is_computed_again():
    run = _leave_and_come_back(shelf_bytes=1000, restore_fails=True)
    assert 0 == run.backend.n_restored
    assert [] == list(run.shelf)

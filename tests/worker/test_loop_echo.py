"""Log probabilities and echoed prompts, against numbers computed here."""

import numpy as np
import pytest

from server.worker.inbox import Submit
from tests.worker.fake_backend import (
    mix,
    piece,
    to_logits,
)
from tests.worker.loop_run import (
    assert_clean,
    find_endless,
    find_seed,
    make_job,
    predict,
    run_jobs,
    run_loop,
)


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
    job = make_job("a", prompt, n=2, max_tokens=max_tokens, echo=True, top_logprobs=1)
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

"""`server.engine.queue_limit`: who is turned away, and when there is room again."""

from contextlib import ExitStack

import pytest

from server.core.errors import QueueFull
from server.engine.queue_limit import QueueLimit


def test_so_many_run_and_so_many_wait_the_next_is_told():
    limit = QueueLimit(parallel=2, max_waiting=3)
    with ExitStack() as inside:
        for _ in range(5):
            inside.enter_context(limit.enter("a"))
        with pytest.raises(
            QueueFull, match=r"^3 requests wait for the model 'a'"
        ) as full:
            inside.enter_context(limit.enter("a"))
        info = full.value.to_info()
        assert (429, True) == (info.http_status, info.retryable)
        assert "--max-queue" in info.message
        inside.enter_context(limit.enter("b"))
    with ExitStack() as inside:
        for _ in range(5):
            inside.enter_context(limit.enter("a"))


def test_a_request_that_fails_leaves_its_place():
    limit = QueueLimit(parallel=1, max_waiting=0)
    for _ in range(3):
        with pytest.raises(ValueError, match="x"), limit.enter("a"):
            raise ValueError("x")
    assert {} == dict(limit._n_inside)


def test_without_a_limit_nobody_is_turned_away():
    limit = QueueLimit()
    with ExitStack() as inside:
        for _ in range(1000):
            inside.enter_context(limit.enter("a"))

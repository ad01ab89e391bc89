"""How often a hub is asked again."""

import pytest

from model_store.hub_errors import HubBusy, HubUnreachable, NotOnHub
from model_store.patience import Patience, Pauses


@pytest.fixture
def slept():
    return []


@pytest.fixture
def pauses(slept):
    patience = Patience(attempts=4, first_wait_s=1.0, most_wait_s=10.0)
    return Pauses(patience, sleep=slept.append)


def broken(wait_s=None):
    error = HubUnreachable("f", "it broke", "Try again.")
    error.wait_s = wait_s
    return error


def test_pauses_double_until_the_last_try(pauses, slept):
    for _ in range(3):
        pauses.wait(broken())
    with pytest.raises(HubUnreachable, match=r"It broke\. Try again\."):
        pauses.wait(broken())
    assert [1.0, 2.0, 4.0] == slept


def test_a_try_that_brought_something_begins_the_count_again(pauses, slept):
    for _ in range(20):
        pauses.wait(broken(), has_moved=True)
    assert [1.0] * 20 == slept


def test_the_pause_that_the_hub_asks_for_is_kept_or_refused(pauses, slept):
    pauses.wait(broken(wait_s=7.0))
    assert [7.0] == slept
    with pytest.raises(HubUnreachable):
        pauses.wait(broken(wait_s=10.5))


def test_what_will_not_pass_is_not_waited_for(pauses, slept):
    assert HubBusy.is_passing
    with pytest.raises(NotOnHub):
        pauses.wait(NotOnHub("f", "it is not there", "Look elsewhere."))
    assert [] == slept

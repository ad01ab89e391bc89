"""What is kept outside the KV cache."""

from hypothesis import given
from hypothesis import strategies as st

from server.worker.shelf import Shelf
from server.worker.tokens import make_tokens


def make_shelf(max_bytes=100, *, can_cut=True, state_bytes=0):
    return Shelf(
        max_bytes=max_bytes,
        token_bytes=1,
        state_bytes=state_bytes,
        can_cut=can_cut,
        min_tokens=2,
    )


def test_the_longest_common_prefix_is_found():
    shelf = make_shelf()
    shelf.put(make_tokens([1, 2, 9]))
    longest, _ = shelf.put(make_tokens([1, 2, 3, 4]))
    assert (longest, 3) == shelf.find(make_tokens([1, 2, 3, 7]), 10)
    assert (longest, 2) != shelf.find(make_tokens([5]), 10)
    assert (None, 0) == shelf.find(make_tokens([5]), 10)


def test_a_state_that_cannot_be_cut_is_found_whole_or_not_at_all():
    shelf = make_shelf(can_cut=False)
    key, _ = shelf.put(make_tokens([1, 2, 3]))
    assert (None, 0) == shelf.find(make_tokens([1, 2, 4]), 10)
    assert (None, 0) == shelf.find(make_tokens([1, 2, 3, 4]), 2)
    assert (key, 3) == shelf.find(make_tokens([1, 2, 3, 4]), 3)


def test_a_longer_entry_replaces_what_it_begins_with():
    shelf = make_shelf()
    short, _ = shelf.put(make_tokens([1, 2, 3]))
    long, forgotten = shelf.put(make_tokens([1, 2, 3, 4]))
    assert ((short,), [long]) == (forgotten, list(shelf))


def test_what_another_entry_begins_with_is_not_stored_again():
    shelf = make_shelf()
    shelf.put(make_tokens([1, 2, 3, 4]))
    assert (None, ()) == shelf.put(make_tokens([1, 2, 3]))


def test_the_longest_unused_goes_when_the_shelf_is_full():
    shelf = make_shelf(max_bytes=9)
    first, _ = shelf.put(make_tokens([1, 1, 1]))
    second, _ = shelf.put(make_tokens([2, 2, 2]))
    shelf.put(make_tokens([3, 3, 3]))
    shelf.use(first)
    _, forgotten = shelf.put(make_tokens([4, 4, 4]))
    assert (second,) == forgotten


def test_what_is_too_large_or_too_short_is_not_stored():
    shelf = make_shelf(max_bytes=3)
    assert (None, ()) == shelf.put(make_tokens([1, 2, 3, 4]))
    assert (None, ()) == shelf.put(make_tokens([1]))
    assert (None, ()) == make_shelf(max_bytes=3, state_bytes=2).put(make_tokens([1, 2]))


@given(st.lists(st.lists(st.integers(0, 2), max_size=8), max_size=20), st.booleans())
def test_the_shelf_never_holds_more_than_it_may(prompts, can_cut):
    shelf = make_shelf(max_bytes=20, can_cut=can_cut, state_bytes=1)
    known = set()
    for prompt in prompts:
        key, forgotten = shelf.put(make_tokens(prompt))
        known -= set(forgotten)
        known |= {key} - {None}
        assert known == set(shelf)
        assert sum(1 + len(shelf.use(each)) for each in list(shelf)) <= 20
    assert known == set(shelf.clear())
    assert 0 == len(shelf)

"""The ledger of the KV cache against a model that is as plain as can be."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from server.worker.kvcache import Copy, Drop, KvCache, Opened
from server.worker.tokens import make_tokens


def fill(cache, tokens, *, limit=None, close=False):
    """Open a sequence and record all of its tokens; return its id."""
    tokens = make_tokens(tokens)
    opened = cache.open(tokens, limit=len(tokens) - 1 if limit is None else limit)
    cache.extend(opened.seq_id, tokens[opened.n_cached :])
    if close:
        cache.close(opened.seq_id)
    return opened.seq_id


def make_cache(n_cells=20, n_seq=4, *, can_cut=True, counts_cells=True):
    return KvCache(
        n_cells=n_cells, n_seq=n_seq, can_cut=can_cut, counts_cells=counts_cells
    )


def test_first_sequence_starts_from_nothing():
    cache = make_cache()
    assert Opened(0, 0, ()) == cache.open(make_tokens([1, 2]), limit=1)
    assert (20, 0) == (cache.n_free_cells, cache.length(0))


def test_extending_takes_one_cell_for_each_token():
    cache = make_cache()
    seq_id = fill(cache, [1, 2, 3])
    assert (17, 3) == (cache.n_free_cells, cache.length(seq_id))


def test_a_live_prefix_is_shared_without_taking_cells():
    cache = make_cache()
    first = fill(cache, [1, 2, 3, 4])
    opened = cache.open(make_tokens([1, 2, 3, 9]), limit=3)
    assert Opened(1, 3, (Copy(first, 1, 3),)) == opened
    assert 16 == cache.n_free_cells


def test_the_last_token_of_a_prompt_is_never_reused():
    cache = make_cache()
    fill(cache, [1, 2, 3, 4], close=True)
    opened = cache.open(make_tokens([1, 2, 3, 4]), limit=3)
    assert Opened(1, 3, (Copy(0, 1, 3),)) == opened


def test_a_retained_sequence_that_is_used_up_is_taken_over():
    cache = make_cache()
    fill(cache, [1, 2, 3], close=True)
    assert Opened(0, 3, ()) == cache.open(make_tokens([1, 2, 3, 4]), limit=3)
    assert (0, 17) == (cache.n_retained, cache.n_free_cells)


def test_of_equal_prefixes_the_retained_whole_one_wins():
    cache = make_cache()
    fill(cache, [1, 2, 3, 7])
    kept = fill(cache, [1, 2, 3])
    fill(cache, [1, 2, 3, 8])
    cache.close(kept)
    assert (kept, 3) == cache.find_prefix(make_tokens([1, 2, 3, 4]), 3)


def test_the_longest_prefix_wins():
    cache = make_cache()
    fill(cache, [1, 2], close=True)
    longer = fill(cache, [1, 2, 3, 9])
    assert (longer, 3) == cache.find_prefix(make_tokens([1, 2, 3, 4]), 3)
    assert (None, 0) == cache.find_prefix(make_tokens([5]), 1)


def test_freeing_one_owner_keeps_shared_cells():
    cache = make_cache()
    first = fill(cache, [1, 2, 3, 4])
    second = fill(cache, [1, 2, 3, 5])
    assert 15 == cache.n_free_cells
    assert (Drop(first),) == cache.drop(first)
    assert 16 == cache.n_free_cells
    cache.drop(second)
    assert 20 == cache.n_free_cells


def test_closing_an_empty_sequence_drops_it():
    cache = make_cache()
    opened = cache.open(make_tokens([1]), limit=0)
    assert (Drop(opened.seq_id),) == cache.close(opened.seq_id)
    assert 0 == cache.n_retained


def test_eviction_takes_the_longest_unused_first_and_only_as_many_as_needed():
    cache = make_cache(n_cells=12)
    oldest, middle, newest = (fill(cache, [i] * 4) for i in (1, 2, 3))
    for seq_id in (middle, oldest, newest):
        cache.close(seq_id)
    assert (Drop(middle),) == cache.evict(3)
    assert 4 == cache.n_free_cells
    assert () == cache.evict(4)
    assert (Drop(oldest), Drop(newest)) == cache.evict(12)


def test_sharing_a_retained_sequence_counts_as_use():
    cache = make_cache(n_cells=12)
    first = fill(cache, [1, 1, 1], close=True)
    second = fill(cache, [2, 2, 2], close=True)
    fill(cache, [1, 1, 9])
    assert (Drop(second),) == cache.evict(7)
    assert (Drop(first),) == cache.evict(9)


def test_live_sequences_are_never_evicted():
    cache = make_cache(n_cells=4)
    fill(cache, [1, 2, 3, 4])
    assert () == cache.evict(1)


def test_without_a_free_id_the_oldest_retained_sequence_gives_its_own():
    cache = make_cache(n_seq=2)
    fill(cache, [1, 1], close=True)
    fill(cache, [2, 2], close=True)
    assert Opened(0, 0, (Drop(0),)) == cache.open(make_tokens([3, 3]), limit=1)


def test_the_source_of_a_prefix_is_not_the_one_that_goes():
    cache = make_cache(n_seq=2)
    fill(cache, [1, 1, 1], close=True)
    fill(cache, [2, 2, 2], close=True)
    opened = cache.open(make_tokens([1, 1, 7]), limit=2)
    assert Opened(1, 2, (Drop(1), Copy(0, 1, 2))) == opened


def test_the_source_goes_if_nothing_else_can():
    cache = make_cache(n_seq=2)
    fill(cache, [2, 2, 2])
    fill(cache, [1, 1, 1], close=True)
    assert Opened(1, 0, (Drop(1),)) == cache.open(make_tokens([1, 1, 7]), limit=2)


def test_no_id_is_left_when_all_are_live():
    cache = make_cache(n_seq=2)
    fill(cache, [1, 2])
    fill(cache, [1, 3])
    assert cache.open(make_tokens([1, 2, 3]), limit=2) is None


def test_available_cells_leave_out_what_is_live_or_spared():
    cache = make_cache()
    fill(cache, [1, 2, 3])
    kept = fill(cache, [1, 2, 4, 5], close=True)
    assert (17, 15) == (cache.n_available_cells(), cache.n_available_cells((kept,)))


def test_a_state_that_cannot_be_cut_is_shared_only_as_a_whole():
    cache = make_cache(can_cut=False)
    fill(cache, [1, 2, 3])
    assert (None, 0) == cache.find_prefix(make_tokens([1, 2, 9]), 2)
    assert (None, 0) == cache.find_prefix(make_tokens([1, 2, 3]), 2)
    opened = cache.open(make_tokens([1, 2, 3, 4]), limit=3)
    assert Opened(1, 3, (Copy(0, 1, 3),)) == opened


def test_a_shorter_whole_state_wins_over_a_longer_one_that_would_be_cut():
    cache = make_cache(can_cut=False)
    short = fill(cache, [1, 2])
    fill(cache, [1, 2, 3, 9])
    assert (short, 2) == cache.find_prefix(make_tokens([1, 2, 3, 4]), 3)


def test_a_state_of_one_size_takes_no_cells():
    cache = make_cache(n_cells=4, can_cut=False, counts_cells=False)
    seq_id = fill(cache, [1] * 50)
    assert (4, 4, 50) == (
        cache.n_free_cells,
        cache.n_available_cells(),
        cache.length(seq_id),
    )
    cache.close(seq_id)
    assert Opened(seq_id, 50, ()) == cache.open(make_tokens([1] * 60), limit=59)
    assert (Drop(seq_id),) == cache.drop(seq_id)


def test_more_tokens_than_cells_is_an_error():
    cache = make_cache(n_cells=2)
    opened = cache.open(make_tokens([1, 2, 3]), limit=2)
    with pytest.raises(IndexError):
        cache.extend(opened.seq_id, make_tokens([1, 2, 3]))


class Plain:
    """One sequence of the plain model; `cells` are objects, shared or not."""

    def __init__(self, tokens=(), cells=()):
        self.tokens = list(tokens)
        self.cells = list(cells)
        self.is_live = True


def count_common(left, right):
    n = 0
    while n < min(len(left), len(right)) and left[n] == right[n]:
        n += 1
    return n


TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=9)


class Ledger(RuleBasedStateMachine):
    """Drives the ledger and the plain model side by side.

    The model is changed only by the operations that the ledger returned, as
    llama.cpp would be, so a missing or wrong one shows at once.
    """

    n_cells = 24
    n_seq = 4

    @initialize(can_cut=st.booleans(), counts=st.booleans())
    def begin(self, can_cut, counts):
        self.can_cut = can_cut
        self.counts = counts
        self.cache = make_cache(
            self.n_cells, self.n_seq, can_cut=can_cut, counts_cells=counts
        )
        self.held: dict[int, Plain] = {}
        # Retained ids, the longest unused first.
        self.order: list[int] = []

    def carry_out(self, ops):
        for op in ops:
            match op:
                case Drop(seq_id):
                    del self.held[seq_id]
                    if seq_id in self.order:
                        self.order.remove(seq_id)
                case Copy(src, dst, n_tokens):
                    source = self.held[src]
                    assert dst not in self.held
                    assert n_tokens <= len(source.tokens)
                    assert self.can_cut or n_tokens == len(source.tokens)
                    self.held[dst] = Plain(
                        source.tokens[:n_tokens], source.cells[:n_tokens]
                    )

    def used(self, ids=None):
        if not self.counts:
            return set()
        chosen = self.held if ids is None else ids
        return {cell for i in chosen for cell in self.held[i].cells}

    def live(self):
        return sorted(i for i, held in self.held.items() if held.is_live)

    def best(self, tokens, limit):
        """Find how many tokens can be reused at best."""
        lengths = [0]
        for held in self.held.values():
            n = min(count_common(held.tokens, tokens), limit)
            if self.can_cut or n == len(held.tokens):
                lengths.append(n)
        return max(lengths)

    @rule(tokens=TOKENS)
    def open(self, tokens):
        limit = len(tokens) - 1
        best = self.best(tokens, limit)
        had_free_id = len(self.held) < self.n_seq
        before = dict(self.held)
        order = list(self.order)
        opened = self.cache.open(make_tokens(tokens), limit=limit)
        if opened is None:
            assert self.n_seq == len(self.live())
            return
        self.carry_out(opened.ops)
        seq_id = opened.seq_id
        if seq_id in self.held and not self.held[seq_id].is_live:
            # Taken over: without any operation and used up whole.
            assert () == opened.ops
            assert opened.n_cached == len(self.held[seq_id].tokens)
            self.order.remove(seq_id)
        self.held.setdefault(seq_id, Plain()).is_live = True
        assert tokens[: opened.n_cached] == self.held[seq_id].tokens
        if had_free_id or () == opened.ops:
            assert best == opened.n_cached
        else:
            dropped = opened.ops[0].seq_id
            sources = [op.src for op in opened.ops if isinstance(op, Copy)]
            assert not before[dropped].is_live
            assert dropped == next(i for i in order if i not in sources)
            # The best source itself had to go, or it was used.
            assert opened.n_cached in (best, 0)
        for op in opened.ops:
            if isinstance(op, Copy) and op.src in self.order:
                self.order.remove(op.src)
                self.order.append(op.src)

    @precondition(lambda self: self.live())
    @rule(data=st.data(), tokens=TOKENS)
    def extend(self, data, tokens):
        seq_id = data.draw(st.sampled_from(self.live()))
        if self.counts:
            self.carry_out(self.cache.evict(len(tokens)))
            tokens = tokens[: self.cache.n_free_cells]
        self.cache.extend(seq_id, make_tokens(tokens))
        self.held[seq_id].tokens += tokens
        self.held[seq_id].cells += [object() for _ in tokens]

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def close(self, data):
        seq_id = data.draw(st.sampled_from(self.live()))
        ops = self.cache.close(seq_id)
        assert (() if self.held[seq_id].tokens else (Drop(seq_id),)) == ops
        self.held[seq_id].is_live = False
        self.order.append(seq_id)
        self.carry_out(ops)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def drop(self, data):
        seq_id = data.draw(st.sampled_from(sorted(self.held)))
        ops = self.cache.drop(seq_id)
        assert (Drop(seq_id),) == ops
        self.carry_out(ops)

    @rule(n_cells=st.integers(0, 24))
    def evict(self, n_cells):
        order = list(self.order)
        ops = self.cache.evict(n_cells)
        assert [Drop(i) for i in order[: len(ops)]] == list(ops)
        for op in ops:
            # Each one that went was still wanted.
            assert self.n_cells - len(self.used()) < n_cells
            self.carry_out([op])
        assert self.n_cells - len(self.used()) >= n_cells or not self.order

    @invariant()
    def agrees(self):
        if not hasattr(self, "cache"):
            return
        assert self.n_cells - len(self.used()) == self.cache.n_free_cells
        assert len(self.order) == self.cache.n_retained
        for seq_id, held in self.held.items():
            assert len(held.tokens) == self.cache.length(seq_id)
            found, n = self.cache.find_prefix(make_tokens(held.tokens), 99)
            assert len(held.tokens) == n
            assert not held.tokens or held.tokens == self.held[found].tokens[:n]
        live = self.live()
        assert self.n_cells - len(self.used(live)) == self.cache.n_available_cells()
        for spare in self.order:
            expected = self.n_cells - len(self.used([*live, spare]))
            assert expected == self.cache.n_available_cells((spare,))


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

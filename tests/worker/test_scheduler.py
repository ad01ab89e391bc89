"""Who gets how many tokens of a step."""

from hypothesis import assume, given
from hypothesis import strategies as st

from server.worker.scheduler import (
    CHUNK_TOKENS,
    DECODING_STEP_S,
    LONGEST_STEP_S,
    MIN_CHUNK_TOKENS,
    QUIET_STEP_S,
    Feed,
    StepClock,
    fit_step,
    pick_victim,
    plan_step,
    queue_rank,
)

PENDING = st.lists(st.integers(1, 3000), min_size=1, max_size=12)
CHUNK = st.integers(0, 512)


@given(PENDING, CHUNK)
def test_every_decoding_sequence_gets_its_token(pending, chunk):
    fed = {feed.index: feed.n_tokens for feed in plan_step(pending, chunk)}
    assert all(fed[i] == 1 for i, n in enumerate(pending) if n == 1)


@given(PENDING, CHUNK)
def test_prefill_stays_within_the_chunk_and_uses_it_up(pending, chunk):
    feeds = plan_step(pending, chunk)
    fed = sum(feed.n_tokens for feed in feeds if pending[feed.index] > 1)
    wanted = sum(n for n in pending if n > 1)
    assert min(chunk, wanted) == fed


@given(PENDING, CHUNK)
def test_feeds_are_in_order_and_never_empty_or_more_than_pending(pending, chunk):
    feeds = plan_step(pending, chunk)
    assert sorted({feed.index for feed in feeds}) == [feed.index for feed in feeds]
    assert all(1 <= feed.n_tokens <= pending[feed.index] for feed in feeds)


@given(PENDING, CHUNK)
def test_the_oldest_prompt_gets_at_least_a_quarter(pending, chunk):
    prompts = [i for i, n in enumerate(pending) if n > 1]
    assume(prompts)
    fed = {feed.index: feed.n_tokens for feed in plan_step(pending, chunk)}
    oldest = prompts[0]
    assert fed.get(oldest, 0) >= min(pending[oldest], chunk // 4)


def test_the_shortest_prompt_gets_what_the_oldest_leaves():
    assert [Feed(0, 16), Feed(2, 30), Feed(1, 18)] == sorted(
        plan_step([900, 100, 30], 64), key=lambda feed: {0: 0, 2: 1, 1: 2}[feed.index]
    )


def test_one_prompt_alone_gets_the_whole_chunk():
    assert [Feed(0, 1), Feed(1, 64)] == plan_step([1, 900], 64)


@given(PENDING, st.integers(4, 64), st.integers(1, 20))
def test_nothing_starves_behind_a_stream_of_short_prompts(pending, chunk, short):
    """The oldest prompt ends in bounded time though new ones come each step."""
    assume(pending[0] > 1)
    oldest = pending[0]
    n_steps = 0
    while oldest > 1:
        feeds = plan_step([oldest, *pending[1:], short + 1], chunk)
        oldest -= sum(feed.n_tokens for feed in feeds if feed.index == 0)
        n_steps += 1
    assert n_steps <= -(-pending[0] // (chunk // 4))


# StepClock


def learned(decode_s, token_s, *, max_tokens=512):
    """Make a clock that has seen many steps of these costs."""
    clock = StepClock(max_tokens)
    for _ in range(50):
        if decode_s:
            clock.observe(1, 0, decode_s)
        clock.observe(0, 64, 64 * token_s)
    return clock


def test_a_new_clock_begins_small():
    assert 64 == StepClock(512).chunk_tokens(0)
    assert 62 == StepClock(512).chunk_tokens(2)


def test_a_chunk_fills_the_time_that_a_step_may_take():
    # 4 ms a token, 50 ms to decode: 550 of 600 ms are left for 137 tokens.
    # With the decoding token the step is a multiple of the unit.
    assert 127 == learned(0.05, 0.004).chunk_tokens(1)
    # 375 fit into a quiet step of 1.5 s, and the batch bounds it.
    assert 384 == learned(0.05, 0.004).chunk_tokens(0)
    assert 511 == learned(0.05, 0.001).chunk_tokens(1)


def test_a_slow_machine_gets_one_unit_until_that_stops_the_streams():
    # A unit takes 1.6 s beside decoding: more than wanted, still worth it.
    assert CHUNK_TOKENS - 1 == learned(0.3, 0.02).chunk_tokens(1)
    # 6.4 s would be too long: 34 tokens fit into 2 s.
    assert 34 == learned(0.3, 0.05).chunk_tokens(1)
    assert MIN_CHUNK_TOKENS == learned(1.0, 1.0).chunk_tokens(1)


def test_the_clock_follows_a_change():
    clock = learned(0.05, 0.001)
    before = clock.chunk_tokens(1)
    for _ in range(30):
        clock.observe(1, 64, 0.05 + 64 * 0.002)
    assert before > clock.chunk_tokens(1) == 255


def test_one_hiccup_of_the_machine_counts_little():
    clock = learned(0.05, 0.004)
    clock.observe(0, 64, 60.0)
    assert 0.004 < clock.prefill_token_s <= 0.004 * 1.31


def test_ragged_ends_of_prompts_teach_nothing():
    clock = learned(0.05, 0.001)
    before = clock.prefill_token_s
    clock.observe(1, CHUNK_TOKENS - 2, 9.0)
    assert before == clock.prefill_token_s


STEPS = st.lists(
    st.tuples(
        st.integers(0, 8), st.integers(0, 512), st.floats(1e-6, 100, allow_nan=False)
    ),
    max_size=30,
)


@given(STEPS, st.integers(0, 16), st.integers(32, 512))
def test_chunks_stay_in_bounds_whatever_was_measured(steps, n_decode, max_tokens):
    clock = StepClock(max_tokens)
    for step in steps:
        clock.observe(*step)
    chunk = clock.chunk_tokens(n_decode)
    assert min(MIN_CHUNK_TOKENS, max_tokens - n_decode) <= chunk
    assert chunk <= max_tokens - n_decode
    assert (
        (chunk + n_decode) % CHUNK_TOKENS == 0
        or chunk < CHUNK_TOKENS
        or chunk == max_tokens - n_decode
    )


@given(st.floats(1e-4, 2), st.floats(1e-6, 0.1), st.integers(1, 8))
def test_a_step_takes_no_longer_than_is_wanted(decode_s, token_s, n_decode):
    clock = learned(decode_s, token_s)
    chunk = clock.chunk_tokens(n_decode)
    assume(chunk > MIN_CHUNK_TOKENS)
    # Chunks are rounded to the nearest unit, and one unit may take longer.
    half = CHUNK_TOKENS / 2 * token_s
    assert decode_s + chunk * token_s <= 1.01 * max(
        DECODING_STEP_S + half, LONGEST_STEP_S
    )
    assert clock.chunk_tokens(0) * token_s <= 1.01 * max(
        QUIET_STEP_S + half, LONGEST_STEP_S, MIN_CHUNK_TOKENS * token_s
    )


@given(st.integers(0, 600))
def test_a_batch_full_of_decoding_leaves_no_room(n_decode):
    chunk = StepClock(512).chunk_tokens(n_decode)
    assert 0 <= chunk <= max(0, 512 - n_decode)


@given(PENDING, CHUNK, st.integers(0, 600))
def test_a_step_is_cut_down_to_the_free_cells_decoding_first(pending, chunk, n_cells):
    planned = plan_step(pending, chunk)
    fitting = {feed.index: feed.n_tokens for feed in fit_step(planned, n_cells)}
    total = sum(feed.n_tokens for feed in planned)
    assert min(n_cells, total) == sum(fitting.values())
    decoding = [i for i, n in enumerate(pending) if n == 1]
    assert all(i in fitting for i in decoding[:n_cells])
    assert all(
        n <= feed.n_tokens
        for feed in planned
        if (n := fitting.get(feed.index)) is not None
    )


# Queue and preemption


def test_sixteen_choices_do_not_shut_others_out():
    """A request that came after one of 16 choices runs second."""
    greedy = [(choice, 1) for choice in range(16)]
    others = [(0, 2), (0, 3), (1, 3)]
    ranked = sorted([*greedy, *others], key=lambda s: queue_rank(*s, preempted=False))
    assert [(0, 1), (0, 2), (0, 3), (1, 1), (1, 3), (2, 1)] == ranked[:6]


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(1, 9)), min_size=1))
def test_a_preempted_sequence_goes_first(waiting):
    worst = (15, 9)
    first = min(queue_rank(*each, preempted=False) for each in waiting)
    assert queue_rank(*worst, preempted=True) < first


@given(st.lists(st.integers(0, 3), max_size=8))
def test_the_youngest_that_holds_cells_is_preempted_never_the_oldest(cells):
    victim = pick_victim(cells)
    holders = [i for i, n in enumerate(cells) if n and i > 0]
    assert (holders[-1] if holders else None) == victim

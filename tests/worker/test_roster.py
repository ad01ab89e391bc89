"""Who runs, who waits, and what is left of those who are gone."""

from server.worker.kvcache import KvCache
from server.worker.roster import Roster
from server.worker.tokens import make_tokens
from tests.worker.fake_backend import FakeBackend, piece
from tests.worker.loop_run import make_job


def make_roster(*, n_cells=64, parallel=2, n_retained=2, **backend_options):
    n_seq = parallel + n_retained
    backend = FakeBackend(n_cells=n_cells, n_seq=n_seq, n_batch=16, **backend_options)
    cache = KvCache(
        n_cells=n_cells,
        n_seq=n_seq,
        can_cut=backend.can_cut,
        counts_cells=backend.counts_cells,
    )
    return Roster(backend, cache, parallel, piece)


def names(sequences):
    return [(s.job.request.id, s.choice) for s in sequences]


def compute(roster, sequence, n=None):
    """Pretend that a step computed tokens of a running sequence."""
    begin = sequence.n_past
    n = sequence.n_pending if n is None else n
    roster.extend(sequence, sequence.tokens[begin : begin + n])


def test_no_more_run_than_may():
    roster = make_roster(parallel=2)
    for name in "abc":
        roster.add(make_job(name, [1, 2]))
    roster.admit()
    assert [("a", 0), ("b", 0)] == names(roster.running)
    assert [("c", 0)] == names(roster.waiting)
    assert not roster.is_empty


def test_other_choices_wait_for_the_leader():
    roster = make_roster(parallel=3)
    job = make_job("a", [1, 2], n=2)
    roster.add(job)
    roster.admit()
    assert [("a", 0)] == names(roster.running)
    job.leader_ready = True
    roster.admit()
    assert [("a", 0), ("a", 1)] == names(roster.running)


def test_the_first_choice_of_a_later_request_comes_before_further_choices():
    roster = make_roster(parallel=1)
    greedy = make_job("greedy", [1, 2], n=16)
    greedy.leader_ready = True
    roster.add(greedy)
    roster.add(make_job("late", [3, 4]))
    order = []
    for _ in range(4):
        roster.admit()
        order += names(roster.running)
        roster.finish(roster.running[0])
    assert [("greedy", 0), ("late", 0), ("greedy", 1), ("greedy", 2)] == order


def test_running_ones_are_ordered_by_arrival():
    roster = make_roster(parallel=3)
    job = make_job("a", [1], n=2)
    roster.add(job)
    roster.add(make_job("b", [2]))
    roster.admit()
    job.leader_ready = True
    roster.admit()
    assert [("a", 0), ("a", 1), ("b", 0)] == names(roster.running)


def test_a_prompt_waits_until_it_fits_beside_what_runs():
    roster = make_roster(n_cells=20)
    roster.add(make_job("a", [1] * 10))
    roster.add(make_job("b", [2] * 9))
    roster.admit()
    assert [("a", 0)] == names(roster.running)
    compute(roster, roster.running[0])
    roster.finish(roster.running[0])
    roster.admit()
    assert [("b", 0)] == names(roster.running)


def test_a_shared_prefix_needs_no_room():
    roster = make_roster(n_cells=20)
    roster.add(make_job("a", [1] * 10))
    roster.admit()
    compute(roster, roster.running[0])
    roster.add(make_job("b", [1] * 9 + [2] * 5))
    roster.admit()
    assert [("a", 0), ("b", 0)] == names(roster.running)
    assert 9 == roster.running[1].n_past


def test_what_is_finished_stays_and_what_is_discarded_goes():
    roster = make_roster()
    for name, token in (("a", 1), ("b", 2)):
        roster.add(make_job(name, [token] * 5))
    roster.admit()
    for sequence in roster.running:
        compute(roster, sequence)
    roster.forget("a")
    assert (1, 54) == (roster.cache.n_retained, roster.cache.n_free_cells)
    roster.discard("b")
    assert (1, 59) == (roster.cache.n_retained, roster.cache.n_free_cells)
    assert roster.is_empty
    assert roster.cache.find_prefix(make_tokens([1] * 6), 5)[1] == 5
    assert roster.cache.find_prefix(make_tokens([2] * 6), 5) == (None, 0)


def test_forgetting_takes_waiting_choices_too():
    roster = make_roster(parallel=1)
    roster.add(make_job("a", [1], n=3))
    roster.add(make_job("b", [1]))
    roster.admit()
    roster.forget("a")
    assert ([], [("b", 0)]) == (names(roster.running), names(roster.waiting))


def test_the_youngest_is_preempted_and_comes_back_first():
    roster = make_roster(parallel=2)
    for name, token in (("a", 1), ("b", 2), ("c", 3)):
        roster.add(make_job(name, [token] * 5))
    roster.admit()
    for sequence in roster.running:
        compute(roster, sequence)
    assert roster.preempt()
    assert (1, [("a", 0)]) == (roster.n_preemptions, names(roster.running))
    assert (0, 59) == (roster.cache.n_retained, roster.cache.n_free_cells)
    roster.admit()
    assert [("a", 0), ("b", 0)] == names(roster.running)
    assert 0 == roster.running[1].n_past


def test_the_last_one_is_never_preempted():
    roster = make_roster()
    roster.add(make_job("a", [1] * 5))
    roster.admit()
    compute(roster, roster.running[0])
    assert not roster.preempt()


def test_room_is_made_from_retained_prefixes_only():
    roster = make_roster(n_cells=20)
    roster.add(make_job("a", [1] * 8))
    roster.admit()
    compute(roster, roster.running[0])
    roster.finish(roster.running[0])
    roster.add(make_job("b", [2] * 8))
    roster.admit()
    compute(roster, roster.running[0])
    assert roster.make_room(4)
    assert 1 == roster.cache.n_retained
    assert roster.make_room(12)
    assert 0 == roster.cache.n_retained
    assert not roster.make_room(13)


def test_a_state_of_one_size_always_has_room():
    roster = make_roster(n_cells=4, can_cut=False, counts_cells=False)
    assert roster.make_room(1000)


def test_the_sampler_survives_preemption_and_is_freed_at_the_end():
    roster = make_roster()
    for name in "ab":
        roster.add(make_job(name, [1, 2, 3]))
    roster.admit()
    second = roster.running[1]
    compute(roster, second)
    sampler = second.sampler
    roster.preempt()
    roster.admit()
    assert sampler is second.sampler
    assert not sampler.is_closed
    roster.finish(second)
    assert sampler.is_closed


def test_the_largest_seed_wraps_around():
    """llama.cpp reads 2**32 - 1 as a wish for a random seed."""
    roster = make_roster(parallel=2)
    seeds = []
    backend = roster._backend
    made = backend.make_sampler

    def watch(sampling, seed, prompt):
        seeds.append(seed)
        return made(sampling, seed, prompt)

    backend.make_sampler = watch
    job = make_job("a", [1], n=2, seed=2**32 - 2)
    job.leader_ready = True
    roster.add(job)
    roster.admit()
    assert [2**32 - 2, 0] == seeds

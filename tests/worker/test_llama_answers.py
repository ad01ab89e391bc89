"""Loop and backend over real native code, against a bare llama.cpp loop."""

import numpy as np
import pytest

from server.core.events import Finished, TextDelta
from server.ipc.messages import Stats
from server.worker.kvcache import Drop
from tests.worker.native_engine import Bare, Engine, ask, assert_same, drawn_by

GENERATORS = ("tiny-llama", "tiny-qwen2", "tiny-gemma3", "tiny-mamba", "tiny-jamba")


@pytest.fixture(scope="module", params=GENERATORS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def bare(native, model_path, kind):
    bare = Bare(native.llama, model_path(kind))
    yield bare
    bare.close()


@pytest.fixture(scope="module")
def backend(native, model_path, kind):
    backend = native.load(model_path(kind), n_ctx=200, n_cells=400)
    yield backend
    backend.close()


@pytest.fixture
def engine(backend):
    for seq_id in range(backend.n_seq):
        backend.apply([Drop(seq_id)])
    engine = Engine(backend, n_ctx=200, n_cells=400, parallel=4)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def prompts(bare):
    """Prompts of ordinary tokens; most begin alike, some differ early."""
    numbers = np.random.default_rng(3).integers(270, bare.n_vocab - 10, size=400)
    tokens = [int(token) for token in numbers]
    shared = tokens[:60]
    return [
        [*shared, *tokens[100:110]],
        [*shared, *tokens[110:150]],
        [*shared[:30], *tokens[150:170]],
        tokens[200:300],
        tokens[300:303],
    ]


def test_one_request_equals_the_bare_loop(engine, bare, prompts):
    for index, prompt in enumerate(prompts):
        events = engine.run(ask(f"r{index}", prompt))
        assert_same(bare, prompt, drawn_by(events[f"r{index}"]))


def test_requests_side_by_side_equal_the_bare_loop(engine, bare, prompts):
    events = engine.run(*(ask(f"r{i}", prompt) for i, prompt in enumerate(prompts)))
    for index, prompt in enumerate(prompts):
        assert_same(bare, prompt, drawn_by(events[f"r{index}"]))


def test_choices_of_one_prompt_equal_the_bare_loop(engine, bare, prompts):
    events = engine.run(ask("a", prompts[1], n=3))["a"]
    for choice in range(3):
        assert_same(bare, prompts[1], drawn_by(events, choice))


def test_a_second_turn_equals_the_bare_loop(engine, bare, backend, prompts):
    """The next turn of a conversation begins with all of the last one."""
    prompt = prompts[0]
    drawn = drawn_by(engine.run(ask("a", prompt))["a"])
    again = [*prompt, *drawn, *prompts[4]]
    events = engine.run(ask("b", again))["b"]
    assert_same(bare, again, drawn_by(events))
    # The last drawn token was never computed, unless the model ended before.
    assert events[-1].usage.cached_tokens >= len(prompt) + len(drawn) - 1
    cut = [*prompt[:40], *prompts[4]]
    events = engine.run(ask("c", cut))["c"]
    assert_same(bare, cut, drawn_by(events))
    assert (40 if backend.can_cut else 0) == events[-1].usage.cached_tokens


def test_preempted_requests_equal_the_bare_loop(
    native, model_path, bare, prompts, kind
):
    """A pool for hardly more than one request computes things twice, but right."""
    backend = native.load(model_path(kind), n_ctx=200, n_cells=200)
    engine = Engine(backend, n_ctx=200, n_cells=200, parallel=4)
    try:
        requests = [
            ask(f"r{i}", prompts[3][i * 20 :][:35], max_tokens=40) for i in range(4)
        ]
        events = engine.run(*requests)
        for request in requests:
            tokens = list(request.prompt.tokens)
            assert_same(bare, tokens, drawn_by(events[request.id]), 40)
        if backend.counts_cells:
            assert engine.inspect().n_preemptions > 0
    finally:
        engine.close()
        backend.close()


def test_prompt_logprobs_of_several_requests_fit_into_one_step(engine, prompts):
    """Echoed prompts want a row of logits for each token; rows are limited."""
    requests = [
        ask(f"r{i}", prompts[3][i * 10 :][:60], max_tokens=1, echo=True)
        for i in range(4)
    ]
    # Without text there is no echo, but its log probabilities are computed.
    events = engine.run(*requests)
    for request in requests:
        assert isinstance(events[request.id][-1], Finished), events[request.id][-1]


def test_all_cells_are_accounted_for_at_the_end(engine, backend, prompts):
    engine.run(*(ask(f"r{i}", prompt, n=2) for i, prompt in enumerate(prompts)))
    stats = engine.inspect()
    assert isinstance(stats, Stats)
    assert (0, 0) == (stats.n_running, stats.n_waiting)
    if backend.counts_cells:
        assert 0 < stats.n_free_cells < stats.n_cells
    assert stats.n_retained > 0


def test_kinds_are_told_apart(backend, kind):
    recurrent = kind == "tiny-mamba"
    hybrid = kind == "tiny-jamba"
    assert (not (recurrent or hybrid), not recurrent) == (
        backend.can_cut,
        backend.counts_cells,
    )


def test_a_text_longer_than_the_window_can_be_cut_anywhere(native, model_path):
    """Sliding-window layers must still have what a shorter prefix needs."""
    path = model_path("tiny-gemma3")
    bare = Bare(native.llama, path)
    backend = native.load(path, n_ctx=2000)
    engine = Engine(backend, n_ctx=2000, n_cells=2000, parallel=4)
    try:
        numbers = np.random.default_rng(5).integers(270, bare.n_vocab - 10, size=1600)
        long = [int(token) for token in numbers]
        engine.run(ask("a", long, max_tokens=2))
        cut = [*long[:300], *long[900:910]]
        events = engine.run(ask("b", cut))["b"]
        assert 300 == events[-1].usage.cached_tokens
        assert_same(bare, cut, drawn_by(events), n_ctx=2000)
    finally:
        engine.close()
        backend.close()
        bare.close()


def test_a_trained_model_tells_the_same_story(native, shared_models):
    path = shared_models / "stories260K.gguf"
    bare = Bare(native.llama, path)
    backend = native.load(path, n_ctx=200, n_cells=800)
    engine = Engine(backend, n_ctx=200, n_cells=800, parallel=4)
    try:
        prompt = list(backend.vocabulary.tokenize("Once upon a time", add_special=True))
        requests = [ask("a", prompt, max_tokens=120)]
        requests += [ask(f"r{i}", [*prompt, 300 + i], max_tokens=60) for i in range(5)]
        events = engine.run(*requests)
        for request in requests:
            tokens = list(request.prompt.tokens)
            drawn = drawn_by(events[request.id])
            assert_same(bare, tokens, drawn, request.max_tokens)
        text = "".join(e.text for e in events["a"] if isinstance(e, TextDelta))
        assert "there was a little girl" in text
    finally:
        engine.close()
        backend.close()
        bare.close()

"""Loop and backend over real native code, against a bare llama.cpp loop."""

import ctypes
import queue
import threading

import numpy as np
import pytest
from gguf import GGUFReader

from server.core.errors import ModelLoadFailed
from server.core.events import Failed, Finished, TextDelta
from server.core.requests import Embed, Generate, Sampling, TokenPrompt
from server.ipc.messages import Embedded, Events, Stats
from server.worker.backend import CacheFull, DecodeFailed, Part
from server.worker.embedding import EmbeddingLoop, EmbedJob
from server.worker.inbox import Ask, Quit, Submit
from server.worker.kvcache import Copy, Drop, KvCache
from server.worker.llama import PROMPT_LOGPROB_ROWS
from server.worker.loop import Limits, Loop
from server.worker.sampling import SamplingPool
from server.worker.sequence import Job
from server.worker.tokens import make_tokens

GENERATORS = ("tiny-llama", "tiny-qwen2", "tiny-gemma3", "tiny-mamba", "tiny-jamba")
NEAR_TIE = 1e-3
GREEDY = Sampling(temperature=0.0, repeat_penalty=1.0)


class Bare:
    """llama.cpp and nothing around it: one sequence, one token after another."""

    def __init__(self, llama, path):
        self.llama = llama
        params = llama.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama.llama_model_load_from_file(str(path).encode(), params)
        self.vocab = llama.llama_model_get_vocab(self.model)
        self.n_vocab = llama.llama_vocab_n_tokens(self.vocab)

    def greedy(self, prompt, n):
        """Return tokens with the lead of each over the second best."""
        llama = self.llama
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_threads = 256, 256, 1
        context = llama.llama_init_from_model(self.model, params)
        tokens = (ctypes.c_int32 * len(prompt))(*prompt)
        batch = llama.llama_batch_get_one(tokens, len(prompt))
        drawn = []
        for _ in range(n):
            assert 0 == llama.llama_decode(context, batch)
            logits = np.ctypeslib.as_array(
                llama.llama_get_logits_ith(context, -1), shape=(self.n_vocab,)
            )
            second, best = np.partition(logits, -2)[-2:]
            token = int(logits.argmax())
            drawn.append((token, float(best - second)))
            if llama.llama_vocab_is_eog(self.vocab, token):
                break
            one = (ctypes.c_int32 * 1)(token)
            batch = llama.llama_batch_get_one(one, 1)
        llama.llama_free(context)
        return drawn

    def close(self):
        self.llama.llama_model_free(self.model)


class Engine:
    """A real loop in a thread, with the tokens that each choice drew."""

    def __init__(self, backend, *, n_ctx, n_cells, parallel):
        self._reports = queue.SimpleQueue()
        self.loop = Loop(
            backend,
            KvCache(
                n_cells=n_cells,
                n_seq=backend.n_seq,
                can_cut=backend.can_cut,
                counts_cells=backend.counts_cells,
            ),
            Limits(n_ctx, backend.n_batch, parallel, PROMPT_LOGPROB_ROWS),
            piece=backend.vocabulary.piece,
            is_end=backend.vocabulary.is_end,
            report=self._reports.put,
            pool=SamplingPool(1, backend.n_vocab),
        )
        self._thread = threading.Thread(target=self.loop.run)
        self._thread.start()

    def run(self, *requests):
        """Run requests at once; return the events of each by its id."""
        for request in requests:
            self.loop.inbox.put(
                Submit(Job(request, make_tokens(list(request.prompt.tokens)), 1, 0.0))
            )
        events = {request.id: [] for request in requests}
        n_open = len(requests)
        while n_open:
            report = self._reports.get(timeout=30)
            for item in report.items:
                events[item.request_id].append(item.event)
                n_open -= isinstance(item.event, Finished | Failed)
        return events

    def inspect(self):
        self.loop.inbox.put(Ask())
        return self._reports.get(timeout=30)

    def close(self):
        self.loop.inbox.put(Quit())
        self._thread.join(30)
        assert not self._thread.is_alive()


def ask(name, prompt, *, n=1, max_tokens=24, **options):
    """Make a greedy request that reports its tokens as log probabilities."""
    return Generate(
        id=name,
        model="test",
        prompt=TokenPrompt(tuple(prompt)),
        n=n,
        max_tokens=max_tokens,
        top_logprobs=2,
        sampling=GREEDY,
        **options,
    )


def drawn_by(events, choice=0):
    assert isinstance(events[-1], Finished), events[-1]
    return [
        record.token_id
        for event in events
        if isinstance(event, TextDelta) and event.choice == choice
        for record in event.logprobs
    ]


def assert_same(bare, prompt, drawn, n=24):
    """Compare up to the first near tie, where rounding may decide."""
    expected = bare.greedy(prompt, n)
    for index, (token, lead) in enumerate(expected):
        if lead < NEAR_TIE:
            return
        if bare.llama.llama_vocab_is_eog(bare.vocab, token):
            assert index == len(drawn)
            return
        assert (index, token) == (index, drawn[index])
    assert len(expected) == len(drawn)


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


def test_preempted_requests_equal_the_bare_loop(native, model_path, bare, prompts, kind):
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


# The backend by itself


@pytest.fixture(scope="module")
def llama_backend(native, model_path):
    backend = native.load(model_path("tiny-llama"), n_ctx=64)
    yield backend
    backend.close()


def compute(backend, seq_id, tokens, position=0):
    rows = backend.decode([Part(seq_id, make_tokens(tokens), position, 1)])
    return backend.logits(rows[0][-1]).copy()


def test_outputs_are_counted_from_the_end(llama_backend):
    llama_backend.apply([Drop(0), Drop(1), Drop(2)])
    parts = [
        Part(0, make_tokens([1, 300, 301]), 0, 0),
        Part(1, make_tokens([1, 300, 301]), 0, 1),
        Part(2, make_tokens([1, 300, 301]), 0, 3),
    ]
    rows = llama_backend.decode(parts)
    assert [[], [5], [6, 7, 8]] == rows
    last = llama_backend.logits(8).copy()
    assert np.allclose(llama_backend.logits(5), last, atol=1e-4)
    with pytest.raises(DecodeFailed, match="row 0 of the batch has no logits"):
        llama_backend.logits(0)


def test_a_shared_prefix_computes_the_same(llama_backend):
    llama_backend.apply([Drop(0), Drop(1)])
    tokens = [1, 300, 310, 320, 330]
    whole = compute(llama_backend, 0, tokens)
    llama_backend.apply([Copy(0, 1, 3)])
    assert np.allclose(whole, compute(llama_backend, 1, tokens[3:], 3), atol=1e-4)
    llama_backend.apply([Drop(1)])
    other = compute(llama_backend, 1, [1, 300, 311, 320, 330])
    assert not np.allclose(whole, other, atol=1e-2)


def test_a_full_cache_is_told_and_changes_nothing(native, model_path):
    backend = native.load(model_path("tiny-llama"), n_ctx=256)
    try:
        before = compute(backend, 0, [1, *range(300, 420)])
        compute(backend, 1, [1, *range(300, 420)])
        with pytest.raises(CacheFull):
            compute(backend, 2, [1, *range(300, 420)])
        backend.apply([Drop(1)])
        after = compute(backend, 2, [1, *range(300, 420)])
        assert np.allclose(before, after, atol=1e-4)
    finally:
        backend.close()


def test_a_wrong_position_fails_with_the_reason(llama_backend):
    llama_backend.apply([Drop(0)])
    compute(llama_backend, 0, [1, 300])
    with pytest.raises(DecodeFailed, match="llama_decode returned -1"):
        compute(llama_backend, 0, [301], position=1)


# Loading


def test_progress_runs_to_the_end(native, model_path):
    seen = []
    native.load(model_path("tiny-llama"), on_progress=seen.append).close()
    assert seen == sorted(seen)
    assert 1.0 == seen[-1]


def test_shards_load_as_one(native, model_path, tmp_path):
    from scripts.make_model import write_model

    shards = write_model(tmp_path / "split.gguf", "tiny-llama", n_shards=3)
    whole = native.load(model_path("tiny-llama"))
    split = native.load(shards[0])
    try:
        tokens = [1, 300, 310]
        assert np.array_equal(compute(whole, 0, tokens), compute(split, 0, tokens))
    finally:
        whole.close()
        split.close()


def cut(data):
    return data[: len(data) // 2]


def flip_magic(data):
    return b"GGUG" + data[4:]


def flip_count(data):
    return data[:8] + b"\xff" * 8 + data[16:]


def no_bytes(_data):
    return b""


@pytest.mark.parametrize("harm", [cut, flip_magic, flip_count, no_bytes])
def test_a_broken_file_is_refused_with_its_name(native, model_path, tmp_path, harm):
    path = tmp_path / "broken.gguf"
    path.write_bytes(harm(model_path("tiny-llama").read_bytes()))
    with pytest.raises(ModelLoadFailed) as caught:
        native.load(path)
    message = caught.value.message
    assert message.startswith(f"The model file {path} cannot be loaded: ")
    assert message.endswith(
        "Check the file against its published SHA-256, or get it again."
    )
    assert "llama.cpp refused it (" in message


def test_a_missing_file_is_refused(native, tmp_path):
    with pytest.raises(ModelLoadFailed, match=r"absent\.gguf cannot be loaded"):
        native.load(tmp_path / "absent.gguf")


def test_numbers_that_are_none_fail_the_request_not_the_loop(
    native, model_path, tmp_path
):
    """Weights of NaN load without complaint; drawing from them must not."""
    path = tmp_path / "nan.gguf"
    data = bytearray(model_path("tiny-llama").read_bytes())
    for tensor in GGUFReader(model_path("tiny-llama")).tensors:
        if tensor.name == "output.weight":
            begin, size = tensor.data_offset, tensor.n_bytes
            data[begin : begin + size] = np.full(size // 4, np.nan, "<f4").tobytes()
    path.write_bytes(data)
    backend = native.load(path, n_ctx=64)
    engine = Engine(backend, n_ctx=64, n_cells=64, parallel=2)
    try:
        for name in ("a", "b"):
            last = engine.run(ask(name, [1, 300], n=2))[name][-1]
            assert (
                "The engine could not compute this request: the model computed logits "
                "that are not numbers. Try it again." == last.error.message
            )
    finally:
        engine.close()
        backend.close()


# Embeddings


@pytest.fixture(scope="module")
def bert(native, model_path):
    backend = native.load(model_path("tiny-bert"), n_ctx=128, embedding=True)
    yield backend
    backend.close()


TEXTS = (
    "the river runs past the old mill",
    "the river runs past the new mill",
    "what did she say",
    "ice",
    "the miller waits for the water to rise and the wheel turns",
)


def tokenize(backend, text):
    return backend.vocabulary.tokenize(text, add_special=True)


def test_embeddings_side_by_side_equal_one_by_one(bert):
    inputs = [tokenize(bert, text) for text in TEXTS]
    together = bert.embed(inputs)
    alone = np.concatenate([bert.embed([tokens]) for tokens in inputs])
    assert (len(TEXTS), bert.n_embd) == together.shape
    assert np.allclose(together, alone, atol=1e-4)
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    likeness = together @ together.T
    assert likeness[0, 1] > likeness[0, 2]


@pytest.mark.parametrize("n_texts", [1, 7, 150])
def test_embedding_loop_keeps_order_over_many_batches(bert, n_texts):
    """More texts than one batch holds come back in their order."""
    reports = queue.SimpleQueue()
    loop = EmbeddingLoop(
        bert,
        n_batch=bert.n_batch,
        n_seq=bert.n_seq,
        instance_id="test",
        report=reports.put,
    )
    texts = [TEXTS[i % len(TEXTS)] for i in range(n_texts)]
    inputs = [tokenize(bert, text) for text in texts]
    for name in ("a", "b"):
        loop.inbox.put(Submit(EmbedJob(Embed(name, "test", tuple(texts)), inputs)))
    thread = threading.Thread(target=loop.run)
    thread.start()
    expected = bert_rows = None
    for name in ("a", "b"):
        report = reports.get(timeout=30)
        assert isinstance(report, Embedded)
        assert name == report.request_id
        rows = np.frombuffer(report.result.vectors, "<f4").reshape(n_texts, -1)
        bert_rows = rows
        assert sum(map(len, inputs)) == report.result.prompt_tokens
    loop.inbox.put(Quit())
    thread.join(30)
    expected = np.concatenate([bert.embed([tokens]) for tokens in inputs[:5]])
    for i, row in enumerate(bert_rows):
        assert np.allclose(row, expected[i % len(TEXTS)], atol=1e-4)


def test_a_real_model_ranks_a_paraphrase_first(native, real_models):
    path = real_models / "all-minilm-l6-v2-q8_0.gguf"
    backend = native.load(path, n_ctx=256, embedding=True)
    texts = (
        "A man is eating food.",
        "Somebody is having a meal.",
        "The stock market fell sharply today.",
    )
    vectors = backend.embed([tokenize(backend, text) for text in texts])
    backend.close()
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_a_trained_model_tells_the_same_story(native, real_models):
    path = real_models / "stories260K.gguf"
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

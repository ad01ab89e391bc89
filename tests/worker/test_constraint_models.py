"""Real models under a constraint write what validates."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from server.text.schema import relax
from server.text.schema_fallback import settle, write_check
from server.worker.bindings import NativeLog, load_bindings
from server.worker.constraint import Constrainer, build_tokenizer
from tests.schema_families import list_schemas
from tests.worker import constraint_walk as walks
from tests.worker.test_constraint import NOT_FOR_PYTHON, validate

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("CLOISTER_TEST_MODELS", ROOT.parent / "shared/models"))
MODELS = {
    "stories260K": SHARED / "stories260K.gguf",
    "tiny-qwen2-vocab": SHARED / "tiny-qwen2-vocab.gguf",
    "novice": ROOT / "model_store/builtin/novice.gguf",
}
LONG = os.environ.get("CLOISTER_TEST_LONG") == "1"
SCHEMAS = list_schemas() if LONG else list_schemas()[::30]
N_CTX = 512
N_FREE = 60
"""Tokens after which the answer is led to its end."""

pytestmark = [pytest.mark.model, pytest.mark.timeout(3_000 if LONG else 120)]


class Answerer:
    """A model, one sequence, one token after another, under a constraint."""

    def __init__(self, path):
        self.llama = llama = load_bindings()
        self.log = NativeLog(llama, verbose=False)
        params = llama.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama.llama_model_load_from_file(str(path).encode(), params)
        self.vocab = llama.llama_model_get_vocab(self.model)
        self.n_vocab = llama.llama_vocab_n_tokens(self.vocab)
        self.tokenizer = build_tokenizer(llama, self.vocab)
        self.constrainer = Constrainer(lambda: self.tokenizer)
        context = llama.llama_context_default_params()
        context.n_ctx = context.n_batch = N_CTX
        context.n_threads = 1
        self.context = llama.llama_init_from_model(self.model, context)
        closers = (b'"', b"}", b"]", b'"}', b'"]', b"}}")
        found = {self.piece(token): token for token in range(self.n_vocab)}
        self.closers = [found[text] for text in closers if text in found]

    def piece(self, token):
        return self.tokenizer.decode_bytes([token])

    def answer(self, grammar, *, seed=None):
        """Write an answer, greedily or at random; None where it does not end."""
        llama = self.llama
        rng = np.random.default_rng(seed)
        data = True
        llama.llama_memory_clear(llama.llama_get_memory(self.context), data)
        constraint = self.constrainer.compile(grammar)
        written, feed = [], [max(llama.llama_vocab_bos(self.vocab), 0)]
        while len(written) + len(feed) < N_CTX:
            logits = self.decode(feed)
            if seed is not None:
                logits += rng.gumbel(size=logits.size).astype(np.float32)
            if len(written) > N_FREE:
                logits[self.closers] += 1_000
                logits[self.tokenizer.eos_tokens] += 2_000
            constraint.apply(logits)
            token = int(logits.argmax())
            assert np.isfinite(logits[token])
            if token in self.tokenizer.eos_tokens:
                assert constraint.is_accepting
                return self.tokenizer.decode_bytes(written)
            assert constraint.accept(token)
            feed = [token]
            while forced := constraint.forced():
                assert constraint.replay(forced)
                feed += forced
            written += feed
            if constraint.is_complete:
                return self.tokenizer.decode_bytes(written)
        return None

    def decode(self, tokens):
        """Return a copy of the last row of logits."""
        llama = self.llama
        array = (llama.llama_token * len(tokens))(*tokens)
        assert 0 == llama.llama_decode(
            self.context, llama.llama_batch_get_one(array, len(tokens))
        )
        row = llama.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(row, shape=(self.n_vocab,)).copy()

    def close(self):
        self.llama.llama_free(self.context)
        self.llama.llama_model_free(self.model)


@pytest.fixture(scope="module", params=MODELS)
def answerer(request):
    path = MODELS[request.param]
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    try:
        load_bindings().llama_backend_init()
    except ImportError as error:
        pytest.skip(str(error))
    answerer = Answerer(path)
    yield answerer
    answerer.close()


@pytest.mark.parametrize(("name", "schema"), SCHEMAS, ids=[name for name, _ in SCHEMAS])
def test_answers_validate(answerer, name, schema):
    relaxed = relax(schema, strict=False, param="p")
    written, warnings = settle(
        relaxed, answerer.constrainer.check, strict=False, param="p"
    )
    grammar = write_check(written)
    for seed in (None, 1):
        text = answerer.answer(grammar, seed=seed)
        # Some answers find no end: numbers, and texts that must hold something.
        if text is None:
            continue
        value = json.loads(text, parse_constant=pytest.fail)
        if not any(part in name for part in NOT_FOR_PYTHON):
            validate(schema, warnings, value)


def test_most_answers_end(answerer):
    ended = 0
    for _, schema in SCHEMAS[:10]:
        relaxed = relax(schema, strict=False, param="p")
        grammar = write_check(
            settle(relaxed, answerer.constrainer.check, strict=False, param="p")[0]
        )
        ended += answerer.answer(grammar) is not None
    assert ended >= 8


def test_forced_tokens_are_those_of_the_models_own_tokenizer(answerer):
    constraint = answerer.constrainer.compile('start: "Once upon a time" /[.!]/')
    forced = constraint.forced()
    text = answerer.tokenizer.decode_bytes(forced)
    assert "Once upon a time".startswith(text.decode())
    assert len(forced) < len(text)
    assert forced == answerer.tokenizer.tokenize_str("Once upon a time")[: len(forced)]


def test_control_tokens_are_never_text(answerer):
    constraint = answerer.constrainer.compile("start: /(?s:.)+/")
    allowed = constraint.mask()
    for token in answerer.tokenizer.eos_tokens:
        assert not allowed[token]
    assert allowed.sum() > 200


def test_the_walks_close_what_they_open():
    assert {b'"', b"}", b"]"} == {bytes([code]) for code in walks._CLOSERS}

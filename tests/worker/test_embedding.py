"""Embeddings: texts of many requests in one batch."""

import queue
import threading

import numpy as np
import pytest

from server.core.requests import Embed
from server.ipc.messages import Embedded
from server.worker.embedding import EmbeddingLoop, EmbedJob
from server.worker.inbox import Quit, Submit


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
    answers = [reports.get(timeout=30) for _ in range(2)]
    loop.inbox.put(Quit())
    thread.join(30)
    expected = np.concatenate([bert.embed([tokens]) for tokens in inputs])
    for name, answer in zip(("a", "b"), answers, strict=True):
        assert isinstance(answer, Embedded)
        assert (name, sum(map(len, inputs))) == (
            answer.request_id,
            answer.result.prompt_tokens,
        )
        rows = np.frombuffer(answer.result.vectors, "<f4").reshape(n_texts, -1)
        # From 64 tokens on llama.cpp's flash attention rounds more coarsely.
        assert np.allclose(expected, rows, atol=2e-5)
        for i, row in enumerate(rows[1:], start=1):
            assert np.abs(row - rows[i - 1]).max() > 1e-2


def test_a_real_model_ranks_a_paraphrase_first(native, shared_models):
    path = shared_models / "all-minilm-l6-v2-q8_0.gguf"
    backend = native.load(path, n_ctx=256, embedding=True)
    texts = (
        "A man is eating food.",
        "Somebody is having a meal.",
        "The stock market fell sharply today.",
    )
    vectors = backend.embed([tokenize(backend, text) for text in texts])
    backend.close()
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2

"""A real loop over llama.cpp, and llama.cpp with nothing around it."""

import ctypes
import queue
import threading

import numpy as np

from server.core.events import Failed, Finished, TextDelta
from server.core.requests import Generate, Sampling, TokenPrompt
from server.core.sampling import settle_sampling
from server.worker.inbox import Ask, Quit, Submit
from server.worker.kvcache import KvCache
from server.worker.llama import PROMPT_LOGPROB_ROWS
from server.worker.loop import Limits, Loop
from server.worker.sequence import Job
from server.worker.tokens import make_tokens

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

    def greedy(self, prompt, n, *, n_ctx=256):
        """Return tokens with the lead of each over the second best."""
        llama = self.llama
        params = llama.llama_context_default_params()
        params.n_ctx = params.n_batch = n_ctx
        params.n_threads = 1
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
        )
        self._thread = threading.Thread(target=self.loop.run)
        self._thread.start()

    def run(self, *requests):
        """Run requests at once; return the events of each by its id."""
        for request in requests:
            self.loop.inbox.put(Submit(_make_job(request)))
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


def _make_job(request):
    settings = settle_sampling(request.sampling, {})
    return Job(request, make_tokens(list(request.prompt.tokens)), settings, 1, 0.0)


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


def assert_same(bare, prompt, drawn, n=24, *, n_ctx=256):
    """Compare up to the first near tie, where rounding may decide."""
    expected = bare.greedy(prompt, n, n_ctx=n_ctx)
    for index, (token, lead) in enumerate(expected):
        if lead < NEAR_TIE:
            return
        if bare.llama.llama_vocab_is_eog(bare.vocab, token):
            assert index == len(drawn)
            return
        assert (index, token) == (index, drawn[index])
    assert len(expected) == len(drawn)

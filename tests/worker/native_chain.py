"""llama.cpp's own samplers on given logits, as an oracle for ours."""

import ctypes

import numpy as np

from server.core.sampling import DEFAULT_ORDER
from server.worker.sampling import ChainSampler
from server.worker.tokens import make_tokens

_CANDIDATE = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
_MIROSTAT_M = 100


def text_of(token):
    return b"<%d>" % token


class NativeChain:
    """The chain that llama-server would build."""

    def __init__(self, llama, settings, seed, n_vocab):
        self.llama = llama
        self.chain = llama.llama_sampler_chain_init(
            llama.llama_sampler_chain_default_params()
        )
        for sampler in self._build(settings, seed, n_vocab):
            llama.llama_sampler_chain_add(self.chain, sampler)

    def _build(self, s, seed, n_vocab):
        llama = self.llama
        if s.mirostat:
            yield llama.llama_sampler_init_temp(s.temperature)
            if s.mirostat == 1:
                yield llama.llama_sampler_init_mirostat(
                    n_vocab, seed, s.mirostat_tau, s.mirostat_eta, _MIROSTAT_M
                )
            else:
                yield llama.llama_sampler_init_mirostat_v2(
                    seed, s.mirostat_tau, s.mirostat_eta
                )
            return
        make = {
            "penalties": lambda: llama.llama_sampler_init_penalties(
                n_vocab,
                s.repeat_last_n,
                s.repeat_penalty,
                s.frequency_penalty,
                s.presence_penalty,
            ),
            "top_n_sigma": lambda: llama.llama_sampler_init_top_n_sigma(s.top_n_sigma),
            "top_k": lambda: llama.llama_sampler_init_top_k(s.top_k),
            "typ_p": lambda: llama.llama_sampler_init_typical(s.typical_p, 1),
            "top_p": lambda: llama.llama_sampler_init_top_p(s.top_p, 1),
            "min_p": lambda: llama.llama_sampler_init_min_p(s.min_p, 1),
            "xtc": lambda: llama.llama_sampler_init_xtc(
                s.xtc_probability, s.xtc_threshold, 1, seed
            ),
            "temperature": lambda: llama.llama_sampler_init_temp_ext(
                s.temperature, s.dynatemp_range, s.dynatemp_exponent
            ),
        }
        for name in DEFAULT_ORDER if s.samplers is None else s.samplers:
            if name in make:
                yield make[name]()
        if s.adaptive_target >= 0:
            yield llama.llama_sampler_init_adaptive_p(
                s.adaptive_target, s.adaptive_decay, seed
            )
        else:
            yield llama.llama_sampler_init_dist(seed)

    def sample(self, logits):
        llama = self.llama
        candidates = np.empty(logits.size, dtype=_CANDIDATE)
        candidates["id"] = np.arange(logits.size)
        candidates["logit"] = logits
        candidates["p"] = 0.0
        array = llama.llama_token_data_array()
        array.data = ctypes.cast(candidates.ctypes.data, llama.llama_token_data_p)
        array.size = logits.size
        array.selected = -1
        array.sorted = False
        llama.llama_sampler_apply(self.chain, ctypes.byref(array))
        # XTC moves the beginning.
        token = int(array.data[array.selected].id)
        self.accept(token)
        return token

    def accept(self, token):
        self.llama.llama_sampler_accept(self.chain, token)

    def close(self):
        self.llama.llama_sampler_free(self.chain)


def make_sampler(settings, *, seed=1, prompt=(), piece=text_of):
    return ChainSampler(settings, seed=seed, prompt=make_tokens(prompt), piece=piece)


def make_logits(n_vocab, seed, spread=3.0):
    """Make logits that fall as a model's do: few high ones, a long tail."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=n_vocab) * spread
    logits[rng.integers(0, n_vocab, 8)] += 2 * spread
    return logits.astype(np.float32)

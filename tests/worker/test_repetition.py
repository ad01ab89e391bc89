"""DRY, against a plain reference and llama.cpp's own."""

import ctypes

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.core.sampling import SamplerSettings
from server.worker.repetition import MAX_PENALTY, Repetition, measure_repeats
from server.worker.tokens import make_tokens

LETTERS = "abcdefgh\n.:"
N_VOCAB = len(LETTERS)


def piece(token):
    return LETTERS[token].encode()


def tokens_of(text):
    return [LETTERS.index(letter) for letter in text]


def make(prompt="", answer="", **options):
    settings = SamplerSettings(
        **{"dry_multiplier": 1.0, "dry_base": 2.0, "dry_penalty_last_n": -1} | options
    )
    repetition = Repetition(settings, make_tokens(tokens_of(prompt)), piece)
    for token in tokens_of(answer):
        repetition.accept(token)
    return repetition


def losses(repetition):
    logits = np.zeros(N_VOCAB, dtype=np.float32)
    repetition.apply(logits)
    return {LETTERS[i]: -float(logits[i]) for i in np.flatnonzero(logits)}


def reference(text, *, allowed=2, last_n=-1, breakers="\n:", base=2.0):
    """Find the longest repeats by comparing everything with everything."""
    window = text if last_n < 0 else text[max(len(text) - last_n, 0) :]
    n = len(window)
    limit = n - 1 - max((window.rfind(b) for b in breakers), default=-1)
    if n <= allowed or limit < allowed:
        return {}
    longest = {}
    for end in range(1, n):
        length = 0
        while (
            length < min(end, limit)
            and window[end - 1 - length] == window[n - 1 - length]
        ):
            length += 1
        if length >= allowed and window[end] not in breakers:
            longest[window[end]] = max(longest.get(window[end], 0), length)
    return {letter: base ** (length - allowed) for letter, length in longest.items()}


TEXTS = st.text(LETTERS, max_size=40) | st.text("ab", max_size=60)


@settings(deadline=None)
@given(TEXTS, TEXTS, st.integers(0, 4), st.integers(1, 50) | st.just(-1))
@example("abcabcabc", "", 2, 5)
@example("", "ab" * 200, 2, 20)
def test_penalties_equal_a_plain_reference(prompt, answer, allowed, last_n):
    repetition = make(
        prompt, answer, dry_allowed_length=allowed, dry_penalty_last_n=last_n
    )
    expected = reference(
        prompt + answer, allowed=allowed, last_n=last_n, breakers="\n:"
    )
    # `"` and `*` are breakers too, but no text here holds them.
    capped = {letter: min(loss, MAX_PENALTY) for letter, loss in expected.items()}
    assert capped == pytest.approx(losses(repetition), rel=1e-5)


@settings(deadline=None)
@given(TEXTS)
def test_repeats_are_measured_as_one_would_by_eye(text):
    expected = []
    for end in range(len(text) - 1):
        length = 0
        while length <= end and text[end - length] == text[len(text) - 1 - length]:
            length += 1
        expected.append(length)
    assert ([*expected, 0] if text else []) == measure_repeats(text).tolist()


def test_the_example_of_the_theory():
    """After `abc`, first `c` followed, then `y` after `bc`, then `b` after `c`."""
    assert {"d": 2.0} == losses(make("abcd", "efabc"))
    assert {"d": 4.0} == losses(make("abcd", "efabc", dry_multiplier=2.0))
    assert {} == losses(make("abcd", "efabc", dry_allowed_length=4))
    assert {"d": 1.0} == losses(make("abcd", "efabc", dry_allowed_length=3))


def test_no_repetition_is_followed_across_a_breaker():
    assert {"e": 4.0} == losses(make("abcde", "fabcd"))
    assert {"e": 1.0} == losses(make("ab\ncde", "fab\ncd"))
    assert {"e": 8.0} == losses(make("ab\ncde", "fab\ncd", dry_sequence_breakers=()))


def test_a_breaker_may_lie_across_tokens():
    assert {"e": 1.0} == losses(make("abcde", "abcd", dry_sequence_breakers=("ab",)))
    assert {"e": 4.0} == losses(make("abcde", "abcd", dry_sequence_breakers=("ae",)))


def test_a_breaker_counts_once_and_not_with_every_token_after_it():
    """The bytes that are kept for the next token still hold it."""
    long = ("x" * 20, "\n")
    assert {"e": 1.0} == losses(make("a\ncde", "f\ncd", dry_sequence_breakers=long))


def test_a_breaker_itself_is_never_made_unlikely():
    assert {} == losses(make("abc\n", "dabc"))


def test_only_the_last_tokens_are_looked_at():
    assert {"c": 1.0} == losses(make("abcdefgh", "ab", dry_penalty_last_n=10))
    assert {} == losses(make("abcdefgh", "ab", dry_penalty_last_n=9))


def test_a_penalty_has_an_end():
    text = "ab" * 300
    assert {"a": MAX_PENALTY} == losses(make(text, dry_base=100.0))
    assert {"a": 1.0} == losses(make(text, dry_base=1.0))
    assert MAX_PENALTY == pytest.approx(losses(make(text, dry_base=1.05))["a"])


def test_a_forbidden_token_stays_forbidden_and_no_other_gets_so():
    logits = np.zeros(N_VOCAB, dtype=np.float32)
    logits[LETTERS.index("a")] = -np.inf
    make("ab" * 300).apply(logits)
    assert -np.inf == logits[LETTERS.index("a")]
    make("ab" * 300 + "a").apply(logits)
    assert 1 == np.isinf(logits).sum()


def test_some_candidates_are_changed_where_they_stand():
    logits = np.zeros(3, dtype=np.float32)
    make("abcd", "efabc").apply(logits, np.array(tokens_of("gda")))
    assert [0, -2, 0] == logits.tolist()


class NativeDry:
    """llama.cpp's own, over a model's vocabulary."""

    def __init__(self, llama, model, settings):
        breakers = [text.encode() for text in settings.dry_sequence_breakers]
        self.llama = llama
        self.sampler = llama.llama_sampler_init_dry(
            llama.llama_model_get_vocab(model),
            settings.dry_multiplier,
            settings.dry_base,
            settings.dry_allowed_length,
            settings.dry_penalty_last_n,
            (ctypes.c_char_p * len(breakers))(*breakers),
            len(breakers),
        )

    def accept(self, token):
        self.llama.llama_sampler_accept(self.sampler, token)

    def apply(self, logits):
        llama = self.llama
        fields = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
        candidates = np.zeros(logits.size, dtype=fields)
        candidates["id"] = np.arange(logits.size)
        candidates["logit"] = logits
        array = llama.llama_token_data_array()
        array.data = ctypes.cast(candidates.ctypes.data, llama.llama_token_data_p)
        array.size = logits.size
        llama.llama_sampler_apply(self.sampler, ctypes.byref(array))
        return candidates["logit"].copy()

    def close(self):
        self.llama.llama_sampler_free(self.sampler)


@pytest.mark.parametrize("breaks", [(), (305,), (305, 310, 321)])
def test_a_long_text_is_treated_as_llama_cpp_does(drawing_engine, native, breaks):
    """Breakers within tokens; those across tokens are ours alone."""
    backend = drawing_engine.backend
    piece = backend.vocabulary.piece
    settings = SamplerSettings(
        dry_multiplier=0.8,
        dry_base=1.3,
        dry_penalty_last_n=100,
        dry_sequence_breakers=tuple(piece(token).decode() for token in breaks),
    )
    ours = Repetition(settings, make_tokens(), piece)
    theirs = NativeDry(native.llama, backend._model, settings)
    rng = np.random.default_rng(4)
    text = rng.integers(300, 330, 40).tolist()
    few = rng.integers(300, 306, 80).tolist()
    n_changed = 0
    for token in text + text[5:25] + text[:30] + few:
        ours.accept(token)
        theirs.accept(token)
        logits = np.zeros(backend.n_vocab, dtype=np.float32)
        expected = theirs.apply(logits)
        ours.apply(logits)
        assert expected.tolist() == pytest.approx(logits.tolist(), rel=1e-4)
        n_changed += bool(logits.any())
    assert n_changed > 20
    theirs.close()

"""Masks over the next token, by llguidance.

A grammar is compiled once and copied for every answer that follows it. An
answer's `Constraint` is used by one thread at a time, in this order:

    prepare()      may run in another thread while the model decodes
    apply(logits)  takes what `prepare` found, before a token is drawn
    accept(token)  moves on; or replay(tokens) for several

Costs at 150,000 tokens: the mask itself 0.1 to 1 ms, which llguidance computes
without the interpreter lock; turning its bits into numbers to add, 0.2 ms;
adding them to the logits, 0.04 ms. Only the last is in the decode loop's way.

What is not trusted here is the grammar: it comes from a client. Limits on
fuel, items and states make the compiler and each step give up early, and what
gives up becomes an error of that one request. An answer is never continued
without its constraint.

llguidance and the tokenizer are loaded with the first constraint.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from server.core.errors import EngineFailed, InvalidRequest
from server.worker.backend import Logits
from server.worker.constraint_matcher import build_matcher, explain, find_broken_text

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

MAX_GRAMMAR_BYTES = 4 * 1024 * 1024
"""The longest grammar, with all schemas of a request inside."""

MAX_CACHED_GRAMMARS = 32
MAX_CACHED_BYTES = 8 * 1024 * 1024
"""Bounds of what is kept compiled, the second in bytes of grammar text."""

MAX_CHECKED = 512
"""How many verdicts on schemas are remembered."""

FREE_S = 3.0
FREE_S_PER_TOKEN = 0.05
"""Processor time that an answer's constraint may take, and more for each token.

Ambiguous grammars cost the square or cube of the answer's length, and no limit
of llguidance's stops that.
"""

_WORD_BITS = 32
_FORBIDDEN = np.float32(-np.inf)


class Constrainer:
    """Compiles grammars for one model's vocabulary; safe for all threads.

    Args:
        make_tokenizer: Builds llguidance's view of the vocabulary, called once
            with the first grammar (about a second at 150,000 tokens).
    """

    def __init__(self, make_tokenizer: "Callable[[], LLTokenizer]") -> None:
        self._make_tokenizer = make_tokenizer
        self._tokenizer: LLTokenizer | None = None
        self._building = threading.Lock()
        self._cache: OrderedDict[str, LLMatcher] = OrderedDict()
        self._cached_bytes = 0
        self._verdicts: OrderedDict[str, str | None] = OrderedDict()
        self._caching = threading.Lock()

    @property
    def is_ready(self) -> bool:
        """Whether the tokenizer has been built."""
        return self._tokenizer is not None

    def warm(self) -> None:
        """Build the tokenizer now, in the calling thread."""
        self._get_tokenizer()

    def compile(self, grammar: str, *, param: str | None = None) -> "Constraint":
        """Make a constraint that starts at the grammar's beginning.

        Args:
            grammar: Lark as llguidance reads it.
            param: The request's field that an error names.

        Raises:
            InvalidRequest: The grammar is wrong or too large.
        """
        size = len(grammar)
        if size > MAX_GRAMMAR_BYTES:
            raise InvalidRequest(
                f"The grammar of this request has {size} characters, but at most "
                f"{MAX_GRAMMAR_BYTES} are allowed. Use fewer or smaller schemas.",
                param=param,
            )
        reason = find_broken_text(grammar)
        if reason is not None:
            raise InvalidRequest(reason, param=param)
        tokenizer = self._get_tokenizer()
        with self._caching:
            fresh = self._cache.get(grammar)
            if fresh is not None:
                self._cache.move_to_end(grammar)
        if fresh is None:
            fresh = build_matcher(tokenizer, grammar)
            if fresh.is_error():
                raise InvalidRequest(
                    f"The grammar cannot be used: {explain(fresh.get_error())}. "
                    "Correct or simplify it.",
                    param=param,
                )
            self._remember(grammar, fresh)
        return Constraint(
            fresh.deep_copy(), tokenizer.vocab_size, frozenset(tokenizer.eos_tokens)
        )

    def check(self, grammar: str) -> str | None:
        """Tell why a grammar does not compile; None where it does.

        Verdicts are remembered.
        """
        tokenizer = self._get_tokenizer()
        with self._caching:
            if grammar in self._verdicts:
                self._verdicts.move_to_end(grammar)
                return self._verdicts[grammar]
        verdict = find_broken_text(grammar)
        if verdict is None:
            matcher = build_matcher(tokenizer, grammar)
            verdict = explain(matcher.get_error()) if matcher.is_error() else None
        with self._caching:
            self._verdicts[grammar] = verdict
            if len(self._verdicts) > MAX_CHECKED:
                self._verdicts.popitem(last=False)
        return verdict

    def _get_tokenizer(self) -> "LLTokenizer":
        with self._building:
            if self._tokenizer is None:
                self._tokenizer = self._make_tokenizer()
            return self._tokenizer

    def _remember(self, grammar: str, matcher: "LLMatcher") -> None:
        with self._caching:
            if grammar not in self._cache:
                self._cached_bytes += len(grammar)
            self._cache[grammar] = matcher
            while len(self._cache) > 1 and (
                len(self._cache) > MAX_CACHED_GRAMMARS
                or self._cached_bytes > MAX_CACHED_BYTES
            ):
                dropped, _ = self._cache.popitem(last=False)
                self._cached_bytes -= len(dropped)


class Constraint:
    """What may come next in one answer; see the head of the file.

    Args:
        matcher: A matcher of its own.
        n_vocab: Length of the masks; logits may be longer.
        ends: Tokens that end an answer.
    """

    def __init__(
        self, matcher: "LLMatcher", n_vocab: int, ends: frozenset[int]
    ) -> None:
        self._matcher: LLMatcher | None = matcher
        self._n_vocab = n_vocab
        self._ends = ends
        n_words = -(-n_vocab // _WORD_BITS)
        self._bits = np.zeros(n_words * 4, dtype=np.uint8)
        self._bias: npt.NDArray[np.float32] | None = None
        self._has_mask = False
        self._spent_s = 0.0
        self._n_tokens = 0

    @property
    def is_complete(self) -> bool:
        """Whether nothing more can follow; the answer is whole."""
        return self._get_matcher().is_stopped()

    @property
    def is_accepting(self) -> bool:
        """Whether the answer may end here."""
        return self._get_matcher().is_accepting()

    def prepare(self) -> None:
        """Compute the mask of the next token; nothing where it is computed.

        Raises:
            EngineFailed: The grammar got too complex on the way.
        """
        if self._has_mask:
            return
        matcher = self._get_matcher()
        started_s = time.thread_time()
        matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        self._check(matcher, started_s)
        if self._bias is None:
            self._bias = np.empty(self._n_vocab, dtype=np.float32)
        allowed = np.unpackbits(self._bits, count=self._n_vocab, bitorder="little")
        self._bias.fill(0.0)
        np.copyto(self._bias, _FORBIDDEN, where=allowed == 0)
        self._has_mask = True

    def mask(self) -> npt.NDArray[np.bool_]:
        """Return which tokens may come next, `[n_vocab] bool`.

        Raises:
            EngineFailed: The grammar got too complex on the way.
        """
        self.prepare()
        bits = np.unpackbits(self._bits, count=self._n_vocab, bitorder="little")
        return bits.view(np.bool_)

    def apply(self, logits: Logits) -> None:
        """Set the logits of all tokens that must not come to minus infinity.

        Args:
            logits: `[n_vocab] float32`, changed in place.

        Raises:
            EngineFailed: The grammar got too complex on the way.
        """
        self.prepare()
        assert self._bias is not None  # noqa: S101 - set by prepare
        n = min(self._n_vocab, logits.size)
        logits[:n] += self._bias[:n]
        logits[n:] = _FORBIDDEN

    def accept(self, token: int) -> bool:
        """Move on by a token; False where it must not come, and nothing changes.

        Raises:
            EngineFailed: The grammar got too complex on the way.
        """
        return self.replay((token,))

    def replay(self, tokens: Sequence[int]) -> bool:
        """Move on by tokens; False where one must not come.

        Those before it are kept.

        Raises:
            EngineFailed: The grammar got too complex on the way.
        """
        matcher = self._get_matcher()
        self._has_mask = False
        if any(not 0 <= token < self._n_vocab for token in tokens):
            return False
        started_s = time.thread_time()
        n_taken = matcher.try_consume_tokens(list(tokens))
        self._n_tokens += n_taken
        self._check(matcher, started_s)
        return n_taken == len(tokens)

    def forced(self) -> list[int]:
        """List the tokens of which it is certain that they come next.

        They are not accepted by this; an end of generation is not among them.

        Raises:
            EngineFailed: The grammar got too complex on the way.
        """
        matcher = self._get_matcher()
        if matcher.is_stopped():
            return []
        started_s = time.thread_time()
        tokens = matcher.compute_ff_tokens()
        self._check(matcher, started_s)
        return [token for token in tokens if token not in self._ends]

    def copy(self) -> "Constraint":
        """Return another one at the same place; both go on by themselves."""
        twin = Constraint(self._get_matcher().deep_copy(), self._n_vocab, self._ends)
        twin._spent_s, twin._n_tokens = self._spent_s, self._n_tokens
        return twin

    def close(self) -> None:
        """Free the matcher; the constraint must not be used afterwards."""
        self._matcher = None
        self._bias = None

    def _get_matcher(self) -> "LLMatcher":
        if self._matcher is None:
            raise EngineFailed("This constraint was closed and is still in use.")
        return self._matcher

    def _check(self, matcher: "LLMatcher", started_s: float) -> None:
        """Look at what a step left behind, and at what it cost."""
        self._spent_s += time.thread_time() - started_s
        if self._spent_s > FREE_S + FREE_S_PER_TOKEN * self._n_tokens:
            raise EngineFailed(
                f"The constraint on the answer took {self._spent_s:.1f} s for "
                f"{self._n_tokens} tokens, which is more than the answer is worth. "
                "Simplify the schema or grammar."
            )
        if matcher.is_error():
            raise EngineFailed(
                f"The constraint on the answer failed: {explain(matcher.get_error())}. "
                "Simplify the schema or grammar."
            )


def build_tokenizer(llama: Any, vocab: Any) -> "LLTokenizer":  # noqa: ANN401
    """Show a vocabulary of llama.cpp to llguidance.

    Control tokens are marked, so that no text in a grammar stands for them.
    Takes about a second at 150,000 tokens.

    Args:
        llama: The bindings.
        vocab: A `llama_vocab *` that outlives the result.

    Raises:
        EngineFailed: The vocabulary cannot be used for constraints.

    Source: llama.h, llama_token_to_piece, llama_vocab_is_eog, llama_tokenize.
    """
    import ctypes  # noqa: PLC0415 - with llguidance, when wanted

    from llguidance import LLTokenizer  # noqa: PLC0415

    pieces, ends = _read_vocabulary(llama, vocab)
    if not ends:
        raise EngineFailed(
            "This model names no token that ends an answer, so answers cannot be "
            "constrained. Repair the model's metadata (tokenizer.ggml.eos_token_id)."
        )
    try:
        return LLTokenizer.from_llamacpp(  # type: ignore[attr-defined,no-any-return]
            tokens=pieces,
            vocab_ptr=ctypes.cast(vocab, ctypes.c_void_p).value,
            tokenize_fptr=ctypes.cast(llama.llama_tokenize, ctypes.c_void_p).value,
            eos_token=ends,
        )
    except ValueError as error:
        raise EngineFailed(
            f"The model's vocabulary cannot be constrained: {error}."
        ) from error


def _read_vocabulary(llama: Any, vocab: Any) -> tuple[list[bytes], list[int]]:  # noqa: ANN401
    """Read the bytes of all tokens, control tokens behind 0xFF, and the ends.

    Source: llguidance, docs/special_tokens.md.
    """
    import ctypes  # noqa: PLC0415

    capacity = 256
    buffer = ctypes.create_string_buffer(capacity)
    pieces: list[bytes] = []
    ends: list[int] = []

    def read(token: int, *, special: bool) -> bytes:
        nonlocal buffer, capacity
        while True:
            n = llama.llama_token_to_piece(vocab, token, buffer, capacity, 0, special)
            if n >= 0:
                return buffer.raw[:n]
            capacity = -n
            buffer = ctypes.create_string_buffer(capacity)

    eos = llama.llama_vocab_eos(vocab)
    for token in range(llama.llama_vocab_n_tokens(vocab)):
        # Empty for control tokens, so most tokens take one call.
        piece = read(token, special=False)
        if not piece or token == eos:
            piece = read(token, special=True)
            # llama.cpp makes every end of generation that it finds a control
            # token, but for the one that the file itself names.
            attributes = llama.llama_vocab_get_attr(vocab, token)
            if token == eos or attributes & _ATTR_SPECIAL:
                piece = b"\xff" + piece
                if llama.llama_vocab_is_eog(vocab, token):
                    ends.append(token)
        pieces.append(piece)
    return pieces, ends


_ATTR_SPECIAL = (1 << 0) | (1 << 3)
"""Unknown and control tokens; Source: llama.h, enum llama_token_attr."""

"""Text to tokens and back, by llama.cpp's own tokenizer.

All calls only read the model's vocabulary, which llama.cpp documents as
thread-safe, so both threads of a worker use one `Vocabulary`. It must not be
used after the model is freed.
"""

import ctypes
from typing import TYPE_CHECKING, Any

from server.worker.constraint import build_tokenizer
from server.worker.tokens import Tokens, make_tokens

if TYPE_CHECKING:
    from llguidance import LLTokenizer

_ATTR_UNKNOWN = 1 << 0  # Source: llama.h, enum llama_token_attr
_ATTR_CONTROL = 1 << 3
_VOCAB_NONE = 0  # Source: llama.h, enum llama_vocab_type
_PIECE_BYTES = 64


class Vocabulary:
    """The vocabulary of one loaded model.

    Args:
        llama: The bindings.
        model: A `llama_model *` that outlives this object.
    """

    def __init__(self, llama: Any, model: Any) -> None:  # noqa: ANN401
        self._llama = llama
        self._vocab = llama.llama_model_get_vocab(model)
        self._pieces: dict[int, bytes] = {}
        self._control: dict[str, int] | None = None
        self.has_tokens = llama.llama_vocab_type(self._vocab) != _VOCAB_NONE
        self.n_tokens = int(llama.llama_vocab_n_tokens(self._vocab))
        self.bos = self._special(llama.llama_vocab_bos)
        self.eos = self._special(llama.llama_vocab_eos)
        self.adds_bos = bool(llama.llama_vocab_get_add_bos(self._vocab))
        self.fim_prefix = self._special(llama.llama_vocab_fim_pre)
        self.fim_suffix = self._special(llama.llama_vocab_fim_suf)
        self.fim_middle = self._special(llama.llama_vocab_fim_mid)

    def tokenize(
        self, text: str, *, add_special: bool = False, parse_special: bool = False
    ) -> Tokens:
        """Turn text into token ids.

        Args:
            text: Any text; characters that UTF-8 cannot hold are replaced.
            add_special: Add the tokens that the model wants at the ends.
            parse_special: Read the texts of control tokens as those tokens.

        Source: llama.h, llama_tokenize.
        """
        data = text.encode("utf-8", "replace")
        capacity = len(data) + 8
        while True:
            buffer = (ctypes.c_int32 * capacity)()
            n = self._llama.llama_tokenize(
                self._vocab,
                data,
                len(data),
                buffer,
                capacity,
                add_special,
                parse_special,
            )
            if n >= 0:
                return make_tokens(buffer[:n])
            if -n <= capacity:
                msg = "llama_tokenize failed: the text is too long"
                raise OverflowError(msg)
            capacity = -n

    def piece(self, token: int) -> bytes:
        """Return the bytes a token stands for; control tokens are empty.

        The bytes may be part of a character.
        """
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._read_piece(token, special=False)
        return known

    def spelling(self, token: int) -> bytes:
        """Return the bytes a token stands for, control tokens by name."""
        return self._read_piece(token, special=True)

    def text(self, token: int | None) -> str:
        """Write a token as a template would, control tokens by name."""
        if token is None:
            return ""
        return self.spelling(token).decode("utf-8", "replace")

    def is_end(self, token: int) -> bool:
        """Tell whether a token ends generation."""
        return bool(self._llama.llama_vocab_is_eog(self._vocab, token))

    def control_tokens(self) -> dict[str, int]:
        """Map the texts that `parse_special` reads as control tokens to their ids.

        Takes about 0.2 s for 150,000 tokens the first time.
        """
        if self._control is None:
            attr = self._llama.llama_vocab_get_attr
            texts = {
                self.text(token): token
                for token in reversed(range(self.n_tokens))
                if attr(self._vocab, token) & (_ATTR_CONTROL | _ATTR_UNKNOWN)
            }
            texts.pop("", None)
            self._control = texts
        return self._control

    def constrain(self) -> "LLTokenizer":
        """Show the vocabulary to llguidance; takes about 1 s at 150,000 tokens.

        Raises:
            EngineFailed: It names no token that ends an answer.
        """
        return build_tokenizer(self._llama, self._vocab)

    def _special(self, read: Any) -> int | None:  # noqa: ANN401
        token = int(read(self._vocab))
        return token if token >= 0 else None

    def _read_piece(self, token: int, *, special: bool) -> bytes:
        size = _PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(size)
            n = self._llama.llama_token_to_piece(
                self._vocab, token, buffer, size, 0, special
            )
            if n >= 0:
                return buffer.raw[:n]
            size = -n

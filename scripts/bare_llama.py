"""llama.cpp with nothing around it: load, tokenize, fill a batch, decode.

This is the yardstick of the measurements and the probe of the made-up models.
It calls the same C functions that a server must call and does no more: no
queue, no stop strings, no text. Import it only in a process of its own.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import llama_cpp
import numpy as np
from numpy.typing import NDArray

MAX_PIECE_BYTES = 256


# A C callback must live as long as llama.cpp may call it: for good.
_DROP_LOG = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)
# Flags of C calls, by the names of their parameters.
_ADD_SPECIAL = _DATA_TOO = True
_NOT_SPECIAL = False


@dataclass(frozen=True)
class Span:
    """Tokens of one sequence for the next decode, at consecutive positions.

    Logits are wanted for the last one if `wants_logits`.
    """

    sequence: int
    first_position: int
    tokens: Sequence[int]
    wants_logits: bool = True


class BareLlama:
    """A model and a context; closed by `close` or by leaving `with`."""

    def __init__(
        self,
        path: Path,
        *,
        n_ctx: int,
        n_sequences: int = 1,
        n_batch: int = 512,
        n_threads: int = 2,
        embeddings: bool = False,
    ) -> None:
        llama_cpp.llama_log_set(_DROP_LOG, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise RuntimeError(f"llama.cpp could not load {path}.")
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = n_ctx
        settings.n_batch = settings.n_ubatch = n_batch
        settings.n_seq_max = n_sequences
        settings.n_threads = settings.n_threads_batch = n_threads
        settings.kv_unified = True
        settings.embeddings = embeddings
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        if not self.context:
            raise RuntimeError(f"llama.cpp could not make a context for {path}.")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.n_vocab = int(llama_cpp.llama_vocab_n_tokens(self.vocab))
        self.n_batch = n_batch
        self._batch = llama_cpp.llama_batch_init(n_batch, 0, 1)
        self._columns = self._view_columns()

    def _view_columns(self) -> dict[str, NDArray[Any]]:
        """View the batch's arrays as numpy; filling them by ctypes is slow."""
        batch, shape = self._batch, (self.n_batch,)
        columns = {
            name: np.ctypeslib.as_array(getattr(batch, name), shape=shape)
            for name in ("token", "pos", "n_seq_id", "logits")
        }
        # Each seq_id is a pointer to an array of one, allocated separately.
        columns["n_seq_id"][:] = 1
        return columns

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Split text into tokens, with a beginning token where one is usual."""
        raw = text.encode()
        room = len(raw) + 8
        tokens = (llama_cpp.llama_token * room)()
        n = llama_cpp.llama_tokenize(
            self.vocab, raw, len(raw), tokens, room, _ADD_SPECIAL, special
        )
        if n < 0:
            raise RuntimeError(f"{-n} tokens do not fit into {room}.")
        return list(tokens[:n])

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token; control tokens have none."""
        room = ctypes.create_string_buffer(MAX_PIECE_BYTES)
        n = llama_cpp.llama_token_to_piece(
            self.vocab, token, room, MAX_PIECE_BYTES, 0, _NOT_SPECIAL
        )
        return room.raw[: max(n, 0)]

    def end_tokens(self) -> list[int]:
        """List the tokens that end a generation."""
        return [
            token
            for token in range(self.n_vocab)
            if llama_cpp.llama_vocab_is_eog(self.vocab, token)
        ]

    def decode(self, spans: Sequence[Span]) -> list[int]:
        """Decode one batch.

        Returns:
            The row of each span's last token, for `logits` and samplers.

        Raises:
            RuntimeError: llama.cpp refused the batch.
        """
        rows: list[int] = []
        n = 0
        columns = self._columns
        for span in spans:
            end = n + len(span.tokens)
            columns["token"][n:end] = span.tokens
            first = span.first_position
            columns["pos"][n:end] = np.arange(first, first + len(span.tokens))
            columns["logits"][n:end] = 0
            columns["logits"][end - 1] = span.wants_logits
            for i in range(n, end):
                self._batch.seq_id[i][0] = span.sequence
            rows.append(end - 1)
            n = end
        self._batch.n_tokens = n
        status = llama_cpp.llama_decode(self.context, self._batch)
        if status != 0:
            raise RuntimeError(f"llama_decode of {n} tokens failed: status {status}.")
        return rows

    def logits(self, row: int) -> NDArray[np.float32]:
        """View the logits of a row, `[n_vocab] float32`; gone at the next decode."""
        pointer = llama_cpp.llama_get_logits_ith(self.context, row)
        return np.ctypeslib.as_array(pointer, shape=(self.n_vocab,))

    def forget(self, sequence: int) -> None:
        """Drop a sequence from the memory; -1 means all of them."""
        if sequence < 0:
            llama_cpp.llama_memory_clear(self.memory, _DATA_TOO)
        else:
            llama_cpp.llama_memory_seq_rm(self.memory, sequence, -1, -1)

    def close(self) -> None:
        """Free everything native."""
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Chain:
    """A sampler chain with the defaults that servers use; freed by `close`."""

    def __init__(self, seed: int, *, temperature: float = 0.8) -> None:
        params = llama_cpp.llama_sampler_chain_default_params()
        self._chain = llama_cpp.llama_sampler_chain_init(params)
        for sampler in (
            llama_cpp.llama_sampler_init_top_k(40),
            llama_cpp.llama_sampler_init_top_p(0.95, 1),
            llama_cpp.llama_sampler_init_min_p(0.05, 1),
            llama_cpp.llama_sampler_init_temp(temperature),
            llama_cpp.llama_sampler_init_dist(seed),
        ):
            # The chain owns its samplers and frees them with itself.
            llama_cpp.llama_sampler_chain_add(self._chain, sampler)

    def sample(self, llama: BareLlama, row: int) -> int:
        """Draw the next token from a row of logits."""
        return int(llama_cpp.llama_sampler_sample(self._chain, llama.context, row))

    def close(self) -> None:
        """Free the chain and its samplers."""
        llama_cpp.llama_sampler_free(self._chain)

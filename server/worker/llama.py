"""The backend over llama.cpp: model, context, batches, KV cache.

Ownership: `LlamaBackend` owns one `llama_model *` and one `llama_context *`
from `load` until `close`, and the arrays its batches point into. Everything
but `vocabulary` belongs to one thread, the loop's; llama.cpp computes on its
own threads inside `llama_decode`, during which ctypes has released the
interpreter lock.
"""

import ctypes
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from server.core.errors import ModelLoadFailed
from server.core.sampling import SamplerSettings
from server.ipc.messages import Load
from server.worker.backend import CacheFull, DecodeFailed, Logits, NotNumbers, Part
from server.worker.bindings import NativeLog
from server.worker.kvcache import (
    CacheOp,
    Copy,
    Cut,
    Drop,
    Forget,
    Restore,
    Save,
)
from server.worker.sampling import ChainSampler
from server.worker.tokens import Tokens
from server.worker.vocabulary import Vocabulary

BATCH_TOKENS = 512
"""Most tokens of one step. Prefill is compute-bound well below this, and the
compute buffers grow with it."""

RETAINED_SEQUENCES = 16
"""Finished sequences that may stay as reusable prefixes."""

MAX_SEQUENCES = 256
"""Source: llama-cparams.h, LLAMA_MAX_SEQ."""

PROMPT_LOGPROB_ROWS = 32
"""Most logit rows of one step that are wanted for a prompt's own tokens."""

_FLASH_ATTENTION_OFF = 0  # Source: llama.h, enum llama_flash_attn_type
_POOLING_NONE = 0  # Source: llama.h, enum llama_pooling_type
_POOLING_MEAN = 1


class LlamaBackend:
    """A loaded model with its context; see `server.worker.backend`."""

    def __init__(self, llama: Any, log: NativeLog, load: Load) -> None:  # noqa: ANN401
        self._llama = llama
        self._log = log
        self._load = load
        self._model: Any = None
        self._context: Any = None
        self._memory: Any = None
        self._saved: dict[int, Any] = {}
        self.vocabulary: Vocabulary

    @classmethod
    def load(
        cls,
        llama: Any,  # noqa: ANN401
        log: NativeLog,
        load: Load,
        on_progress: Callable[[float], None],
    ) -> "LlamaBackend":
        """Load the model and create its context.

        Args:
            llama: The bindings.
            log: Where llama.cpp says why it refuses.
            load: What to load and how.
            on_progress: Called with 0.0 to 1.0 while weights are read.

        Raises:
            ModelLoadFailed: llama.cpp refused the file or the context.
        """
        backend = cls(llama, log, load)
        log.clear()
        backend._load_model(on_progress)
        backend.vocabulary = Vocabulary(llama, backend._model)
        if not backend.vocabulary.has_tokens:
            raise backend._failure("it has no vocabulary")
        backend._create_context()
        return backend

    def close(self) -> None:
        """Free context and model."""
        if self._context is not None:
            self._llama.llama_free(self._context)
            self._context = None
        if self._model is not None:
            self._llama.llama_model_free(self._model)
            self._model = None

    @property
    def n_ctx(self) -> int:
        """Most tokens one request may use."""
        return self._load.n_ctx

    def chat_template(self) -> str | None:
        """Read the model's own chat template, if it has one."""
        source = self._llama.llama_model_chat_template(self._model, None)
        return source.decode("utf-8", "replace") if source else None

    def apply(self, ops: Sequence[CacheOp]) -> None:
        """Carry out operations on the KV cache, in order."""
        for op in ops:
            match op:
                case Copy(src, dst, n_tokens):
                    # A state that cannot be cut is shared whole: end -1.
                    end = n_tokens if self.can_cut else -1
                    self._llama.llama_memory_seq_cp(self._memory, src, dst, 0, end)
                case Drop(seq_id):
                    self._llama.llama_memory_seq_rm(self._memory, seq_id, -1, -1)
                case Cut(seq_id, n_tokens):
                    self._llama.llama_memory_seq_rm(self._memory, seq_id, n_tokens, -1)
                case Save(seq_id, key):
                    self._saved[key] = self._save(seq_id)
                case Restore(key, seq_id):
                    self._restore(key, seq_id)
                case Forget(key):
                    del self._saved[key]

    def _save(self, seq_id: int) -> Any:  # noqa: ANN401
        """Copy a sequence's state into memory that Python owns.

        Source: llama.h, llama_state_seq_get_data.
        """
        size = self._llama.llama_state_seq_get_size(self._context, seq_id)
        state = (ctypes.c_uint8 * size)()
        self._llama.llama_state_seq_get_data(self._context, state, size, seq_id)
        return state

    def _restore(self, key: int, seq_id: int) -> None:
        """Copy a saved state back.

        Raises:
            DecodeFailed: llama.cpp did not take it.
        """
        state = self._saved[key]
        n_read = self._llama.llama_state_seq_set_data(
            self._context, state, len(state), seq_id
        )
        if n_read == 0:
            msg = f"a saved prefix of {len(state)} bytes could not be restored"
            raise DecodeFailed(msg)

    def decode(self, parts: Sequence[Part]) -> list[list[int]]:
        """Compute a batch; see `server.worker.backend.Backend.decode`."""
        rows, n = self._batch.fill(parts)
        code = self._llama.llama_decode(self._context, self._batch.struct(n))
        if code == 1:
            raise CacheFull
        if code != 0:
            msg = f"llama_decode returned {code}: {self._log.complaints()}"
            raise DecodeFailed(msg)
        return rows

    def logits(self, row: int) -> Logits:
        """View a row of the last batch, `[n_vocab] float32`.

        Raises:
            DecodeFailed: The row has no logits, or they are not numbers.
        """
        pointer = self._llama.llama_get_logits_ith(self._context, row)
        if not pointer:
            msg = f"row {row} of the batch has no logits"
            raise DecodeFailed(msg)
        logits: Logits = np.ctypeslib.as_array(pointer, shape=(self.n_vocab,))
        # The maximum is NaN if any logit is; drawing from such would abort.
        if not np.isfinite(logits.max()):
            msg = "the model computed logits that are not numbers"
            raise NotNumbers(msg)
        return logits

    def make_sampler(
        self, sampling: SamplerSettings, seed: int, prompt: Tokens
    ) -> ChainSampler:
        """Create a sampler that has seen a prompt."""
        piece = self.vocabulary.piece
        return ChainSampler(sampling, seed=seed, prompt=prompt, piece=piece)

    def embed(self, inputs: Sequence[Tokens]) -> npt.NDArray[np.float32]:
        """Embed inputs that fit into one batch, one sequence each."""
        parts = [Part(i, tokens, 0, len(tokens)) for i, tokens in enumerate(inputs)]
        _, n = self._batch.fill(parts)
        if self._memory:
            self._llama.llama_memory_clear(self._memory, True)  # noqa: FBT003
        code = self._llama.llama_decode(self._context, self._batch.struct(n))
        if code != 0:
            msg = f"llama_decode returned {code}: {self._log.complaints()}"
            raise DecodeFailed(msg)
        vectors = np.empty((len(inputs), self.n_embd), dtype=np.float32)
        for i in range(len(inputs)):
            pointer = self._llama.llama_get_embeddings_seq(self._context, i)
            if not pointer:
                msg = f"llama.cpp gave no embedding for input {i}"
                raise DecodeFailed(msg)
            vectors[i] = np.ctypeslib.as_array(pointer, shape=(self.n_embd,))
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(norms).all():
            msg = "the model computed embeddings that are not numbers"
            raise NotNumbers(msg)
        unit: npt.NDArray[np.float32] = vectors / np.maximum(norms, np.float32(1e-12))
        return unit

    def _load_model(self, on_progress: Callable[[float], None]) -> None:
        llama = self._llama
        params = llama.llama_model_default_params()
        layers = self._load.n_gpu_layers
        params.n_gpu_layers = -1 if layers is None else layers

        def report(done: float, _user: object) -> bool:
            on_progress(done)
            return True

        # Referenced by `params` only as a raw pointer: keep it until the end.
        callback = llama.llama_progress_callback(report)
        params.progress_callback = callback
        paths = self._load.paths
        if len(paths) == 1:
            self._model = llama.llama_model_load_from_file(paths[0], params)
        else:
            array_type = ctypes.c_char_p * len(paths)
            self._model = llama.llama_model_load_from_splits(
                array_type(*paths), len(paths), params
            )
        if not self._model:
            self._model = None
            raise self._failure("llama.cpp refused it")
        self._describe_model()

    def _describe_model(self) -> None:
        llama, model = self._llama, self._model
        if llama.llama_model_has_encoder(model) and llama.llama_model_has_decoder(
            model
        ):
            raise self._failure("encoder-decoder models are not supported")
        recurrent = bool(llama.llama_model_is_recurrent(model))
        hybrid = bool(llama.llama_model_is_hybrid(model))
        self.can_cut = not (recurrent or hybrid)
        self.counts_cells = not recurrent
        # A saved state leaves out what the window of its last token does not
        # reach, so a part of it would be wrong. Source: llama-kv-cache.cpp,
        # state_write.
        self.saves_whole_state = int(llama.llama_model_n_swa(model)) == 0
        self.n_embd = int(llama.llama_model_n_embd_out(model))
        self.n_vocab = int(
            llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
        )

    def _create_context(self) -> None:
        llama, load = self._llama, self._load
        params = llama.llama_context_default_params()
        params.n_threads = params.n_threads_batch = load.n_threads
        params.kv_unified = True
        # A full-size cache for sliding-window layers: sequences can then be
        # cut and shared anywhere, at the price of memory.
        params.swa_full = True
        params.no_perf = True
        if load.embedding:
            # With it, a text's vector would depend on its company in the batch:
            # from 64 tokens on, other kernels round more coarsely.
            params.flash_attn_type = _FLASH_ATTENTION_OFF
            self.n_seq = min(MAX_SEQUENCES, max(load.parallel, 64))
            params.n_ctx = params.n_batch = params.n_ubatch = load.n_ctx
            params.embeddings = True
        else:
            retained = RETAINED_SEQUENCES if self.can_cut else load.parallel
            self.n_seq = min(MAX_SEQUENCES, load.parallel + retained)
            params.n_ctx = load.n_cells
            params.n_batch = params.n_ubatch = min(BATCH_TOKENS, load.n_cells)
            params.n_outputs_max = self.n_seq + PROMPT_LOGPROB_ROWS
        params.n_seq_max = self.n_seq
        self._context = llama.llama_init_from_model(self._model, params)
        if not self._context:
            self._context = None
            raise self._failure(f"no context of {load.n_cells} tokens could be created")
        if load.embedding and self._pooling() == _POOLING_NONE:
            llama.llama_free(self._context)
            params.pooling_type = _POOLING_MEAN
            self._context = llama.llama_init_from_model(self._model, params)
        self._memory = llama.llama_get_memory(self._context)
        self.n_batch = int(llama.llama_n_batch(self._context))
        self._batch = _Batch(llama, self.n_batch)

    def _pooling(self) -> int:
        return int(self._llama.llama_pooling_type(self._context))

    def _failure(self, what: str) -> ModelLoadFailed:
        self.close()
        why = self._log.complaints()
        detail = f" ({why})" if why else ""
        path = os.fsdecode(self._load.paths[0])
        return ModelLoadFailed(
            f"The model file {path} cannot be loaded: {what}{detail}. Check "
            "the file against its published SHA-256, or get it again.",
            param="model",
        )


class _Batch:
    """A `llama_batch` over arrays that Python owns.

    Filling numpy arrays is some hundred times faster than setting the fields
    of each token through ctypes.
    """

    def __init__(self, llama: Any, n_tokens: int) -> None:  # noqa: ANN401
        self._token = np.zeros(n_tokens, dtype=np.int32)
        self._pos = np.zeros(n_tokens, dtype=np.int32)
        self._n_seq_id = np.ones(n_tokens, dtype=np.int32)
        self._seq_id = np.zeros(n_tokens, dtype=np.int32)
        self._output = np.zeros(n_tokens, dtype=np.int8)
        # seq_id is an array of pointers; each points at one id of `_seq_id`.
        first = self._seq_id.ctypes.data
        item = self._seq_id.itemsize
        self._seq_pointers = np.arange(n_tokens, dtype=np.uintp) * item + first
        self._struct = llama.llama_batch()
        kinds = dict(self._struct._fields_)
        for name, values in (
            ("token", self._token),
            ("pos", self._pos),
            ("n_seq_id", self._n_seq_id),
            ("seq_id", self._seq_pointers),
            ("logits", self._output),
        ):
            setattr(self._struct, name, ctypes.cast(values.ctypes.data, kinds[name]))

    def fill(self, parts: Sequence[Part]) -> tuple[list[list[int]], int]:
        """Write parts one after another.

        Returns:
            For each part the rows of its outputs, and the number of tokens.
        """
        rows = []
        start = 0
        for part in parts:
            n = len(part.tokens)
            end = start + n
            self._token[start:end] = part.tokens
            self._pos[start:end] = np.arange(part.position, part.position + n)
            self._seq_id[start:end] = part.seq_id
            self._output[start:end] = 0
            self._output[end - part.outputs : end] = 1
            rows.append(list(range(end - part.outputs, end)))
            start = end
        return rows, start

    def struct(self, n_tokens: int) -> Any:  # noqa: ANN401
        """Return the C struct over the first `n_tokens`; valid while self lives."""
        self._struct.n_tokens = n_tokens
        return self._struct

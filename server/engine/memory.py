"""How much memory a model will take, and which sizes fit: pure arithmetic.

The estimate is made from the GGUF header alone, before anything is loaded:

    weights  bytes of all tensors
    KV       for each token in the cache and each layer: heads of that layer
             x (key length + value length) x 2 bytes (16-bit floats)
    state    for each sequence of a recurrent model, its state in 32-bit floats
    working  activations of one step, logits, and the process itself

It errs on the high side by some percent; it is there to say no before the
machine starts to swap, not to fill the last byte.
"""

from dataclasses import dataclass
from pathlib import Path

import psutil

from model_store.summary import GgufSummary
from server.core.errors import InsufficientMemory

GIB = 1024**3
AUTO_N_CTX = 16_384
"""Context length chosen where the user names none, if model and memory allow."""

MIN_AUTO_N_CTX = 2_048
"""Least context length chosen without being asked for."""

EMBEDDING_N_CTX = 4_096
"""The same for embedding models, whose whole context is one batch."""

FALLBACK_N_CTX = 4_096
"""For files that do not say what they were trained with."""

POOL_SHARE = 0.6
"""Share of the free memory that a KV pool for several full contexts may
bring the total to. Below it, parallel requests share what one context needs."""

MAX_SHELF_BYTES = 2 * GIB
"""Most memory of a model for finished prefixes outside the KV cache."""

SHELF_SHARE = 0.25
"""Share of what is still free that those may take."""

_KV_ELEMENT_BYTES = 2
_STATE_ELEMENT_BYTES = 4
_MIN_TOKEN_SHIFTS = 2  # RWKV 6 and 7; files of the first kinds do not say
_KDA_CONV = 3
_LOGIT_ROWS = 64
_STEP_TOKENS = 512
_PROCESS_BYTES = 96 * 1024**2
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes that a loaded model takes."""

    weights_bytes: int
    kv_bytes: int
    working_bytes: int

    @property
    def total_bytes(self) -> int:
        """The sum."""
        return self.weights_bytes + self.kv_bytes + self.working_bytes


@dataclass(frozen=True, slots=True)
class Sizes:
    """What to load a model with; see `server.ipc.messages.Load`."""

    n_ctx: int
    n_cells: int
    shelf_bytes: int
    estimate: Estimate


def estimate_memory(
    summary: GgufSummary, *, n_cells: int, n_sequences: int, step_tokens: int
) -> Estimate:
    """Estimate a model's memory from its header.

    Args:
        summary: The header's facts.
        n_cells: Tokens that the KV cache holds.
        n_sequences: Sequences that a recurrent state is kept for.
        step_tokens: Most tokens of one batch.
    """
    token_bytes, state_bytes = measure_sequence(summary)
    activations = step_tokens * summary.n_embd * 16 * 4
    logits = _LOGIT_ROWS * summary.n_vocab * 4
    return Estimate(
        weights_bytes=summary.tensor_bytes,
        kv_bytes=token_bytes * n_cells + state_bytes * n_sequences,
        working_bytes=activations + logits + _PROCESS_BYTES,
    )


def measure_sequence(summary: GgufSummary) -> tuple[int, int]:
    """Measure what a sequence takes: bytes for each token, and bytes at all."""
    element = summary.key_length + summary.value_length
    token_bytes = sum(summary.n_head_kv) * element * _KV_ELEMENT_BYTES
    if not summary.is_recurrent:
        return token_bytes, 0
    elements = _count_state_elements(summary)
    return token_bytes, summary.n_layer * elements * _STATE_ELEMENT_BYTES


def _count_state_elements(summary: GgufSummary) -> int:
    """Count what one recurrent layer keeps of one sequence.

    Source: llama_hparams::n_embd_r and n_embd_s of llama.cpp.
    """
    state, n_embd, n_head = summary.recurrent, summary.n_embd, max(summary.n_head)
    if state.wkv_head_size:
        shifts = max(state.token_shift_count, _MIN_TOKEN_SHIFTS)
        return n_embd * (shifts + state.wkv_head_size)
    if state.shortconv_l_cache:
        return n_embd * (state.shortconv_l_cache - 1)
    n_conv = max(0, state.conv_kernel - 1)
    if state.kda_head_dim:
        inner = n_head * state.kda_head_dim
        return inner * (3 * (n_conv or _KDA_CONV) + state.kda_head_dim)
    if not state.state_size:
        # Linear attention keeps a square for each head.
        return n_head * summary.key_length**2
    channels = state.inner_size + 2 * state.group_count * state.state_size
    return state.state_size * state.inner_size + n_conv * channels


def choose_sizes(
    summary: GgufSummary,
    *,
    name: str,
    n_ctx: int | None,
    parallel: int,
    available_bytes: int,
) -> Sizes:
    """Choose context and KV pool for a model.

    A context length that the user named is kept or refused, never lowered in
    silence, but for models with learned positions: they have none beyond those
    they were trained with, and llama.cpp aborts the process on one. Where none is
    named, the largest of the model's own, halved until it fits. The pool holds
    as many full contexts as requests run in parallel if that stays within
    `POOL_SHARE` of the memory, otherwise fewer, at least one.

    Args:
        summary: The model's header.
        name: What to call the model in an error.
        n_ctx: Context length in tokens that the user asked for; None chooses.
        parallel: Requests computed at once.
        available_bytes: Memory that may be used.

    Raises:
        InsufficientMemory: Not even one context fits; the text has the numbers.
    """

    def estimate(n_cells: int) -> Estimate:
        return estimate_memory(
            summary,
            n_cells=n_cells,
            n_sequences=2 * parallel,
            step_tokens=n_cells if summary.is_embedding else _STEP_TOKENS,
        )

    chosen = n_ctx or _auto_n_ctx(summary)
    if summary.has_learned_positions and summary.n_ctx_train:
        chosen = min(chosen, summary.n_ctx_train)
    if n_ctx is None:
        while (
            chosen > MIN_AUTO_N_CTX and estimate(chosen).total_bytes > available_bytes
        ):
            chosen = max(MIN_AUTO_N_CTX, chosen // 2)
    needed = estimate(chosen)
    if needed.total_bytes > available_bytes:
        raise _refuse(name, chosen, needed, available_bytes)
    n_cells = chosen
    if not summary.is_embedding:
        for copies in range(parallel, 1, -1):
            total = estimate(chosen * copies).total_bytes
            if total <= available_bytes * POOL_SHARE:
                n_cells = chosen * copies
                break
    needed = estimate(n_cells)
    spare_bytes = int((available_bytes - needed.total_bytes) * SHELF_SHARE)
    return Sizes(chosen, n_cells, min(MAX_SHELF_BYTES, spare_bytes), needed)


def read_available_bytes() -> int:
    """Read how much memory this process and its workers may still take.

    The lesser of what the kernel calls available and what the container's
    limit leaves.

    Source: cgroup v2 files memory.max and memory.current (kernel docs,
    admin-guide/cgroup-v2).
    """
    amounts = [int(psutil.virtual_memory().available)]
    try:
        most = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        most = "max"
        used = 0
    if most.isdigit():
        amounts.append(max(0, int(most) - used))
    return min(amounts)


def _auto_n_ctx(summary: GgufSummary) -> int:
    most = EMBEDDING_N_CTX if summary.is_embedding else AUTO_N_CTX
    return min(summary.n_ctx_train or FALLBACK_N_CTX, most)


def _refuse(
    name: str, n_ctx: int, needed: Estimate, available_bytes: int
) -> InsufficientMemory:
    def gib(n_bytes: int) -> str:
        return f"{n_bytes / GIB:.2f} GiB"

    return InsufficientMemory(
        f"The model '{name}' needs about {gib(needed.total_bytes)} (weights "
        f"{gib(needed.weights_bytes)}, KV cache {gib(needed.kv_bytes)} for {n_ctx} "
        f"tokens, working memory {gib(needed.working_bytes)}), but only "
        f"{gib(available_bytes)} are free. Unload other models, choose a smaller "
        "--context-length or a smaller quantisation.",
        param="model",
    )

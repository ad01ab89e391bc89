"""What a model will need in memory, told before it is loaded."""

from dataclasses import dataclass

from model_store.sizes import format_bytes
from model_store.summary import GgufSummary
from server.config import Settings
from server.core.errors import InsufficientMemory
from server.engine.memory import MIN_AUTO_N_CTX, choose_sizes, read_available_bytes

_ANY_AMOUNT_BYTES = 2**62


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """An estimate from the header.

    Where the model `fits`, it is for what `serve` would choose now; otherwise
    for the least that could be loaded. `n_ctx` is in tokens; `n_cells` are the
    tokens that the KV cache holds for all requests together.
    """

    fits: bool
    n_ctx: int
    n_cells: int
    weights_bytes: int
    kv_bytes: int
    working_bytes: int
    total_bytes: int
    available_bytes: int

    def tell(self) -> str:
        """Write it in one line."""
        verdict = "fits" if self.fits else "does not fit"
        parts = (
            f"weights {format_bytes(self.weights_bytes)}, KV cache "
            f"{format_bytes(self.kv_bytes)}, working {format_bytes(self.working_bytes)}"
        )
        return (
            f"about {format_bytes(self.total_bytes)} for a context of {self.n_ctx} "
            f"tokens ({parts}); {verdict} into the "
            f"{format_bytes(self.available_bytes)} that are free"
        )


def estimate_need(
    summary: GgufSummary,
    name: str,
    settings: Settings,
    *,
    available_bytes: int | None = None,
) -> MemoryNeed:
    """Estimate what a model needs with these settings.

    Args:
        summary: The model's header.
        name: What to call the model in an error.
        settings: Context length, requests in parallel and memory limit.
        available_bytes: Memory that may be used; None asks the machine.
    """
    if available_bytes is None:
        available_bytes = read_available_bytes()
    if settings.memory_limit_bytes is not None:
        available_bytes = min(available_bytes, settings.memory_limit_bytes)
    fits = True
    try:
        sizes = choose_sizes(
            summary,
            name=name,
            n_ctx=settings.context_length,
            parallel=settings.parallel,
            available_bytes=available_bytes,
        )
    except InsufficientMemory:
        fits = False
        sizes = choose_sizes(
            summary,
            name=name,
            n_ctx=settings.context_length or MIN_AUTO_N_CTX,
            parallel=1,
            available_bytes=_ANY_AMOUNT_BYTES,
        )
    return MemoryNeed(
        fits=fits,
        n_ctx=sizes.n_ctx,
        n_cells=sizes.n_cells,
        weights_bytes=sizes.estimate.weights_bytes,
        kv_bytes=sizes.estimate.kv_bytes,
        working_bytes=sizes.estimate.working_bytes,
        total_bytes=sizes.estimate.total_bytes,
        available_bytes=available_bytes,
    )

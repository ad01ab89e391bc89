"""What the loop needs of an engine: the seam between policy and llama.cpp.

Everything behind this protocol belongs to the loop's thread alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from server.core.sampling import SamplerSettings
from server.worker.kvcache import CacheOp
from server.worker.tokens import Tokens

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens of one sequence in a batch, at consecutive positions.

    `outputs` says how many logit rows are wanted, counted from the end: 0,
    1 for the last token, or all of them.
    """

    seq_id: int
    tokens: Tokens
    position: int
    outputs: int


class CacheFull(Exception):
    """llama.cpp found no cells for a batch; nothing was changed."""


class DecodeFailed(Exception):
    """llama.cpp refused a batch; the sequences in it are unusable.

    `hint` says what a user can do.
    """

    hint: ClassVar[str] = "Try it again."


class NotNumbers(DecodeFailed):
    """The model computed NaN or infinity: its weights are not what they should be."""

    hint = (
        "If it happens again, the model's file is damaged: compare its SHA-256 with "
        "the published one."
    )


class Sampler(Protocol):
    """Draws the tokens of one sequence and remembers what it drew."""

    def sample(self, logits: Logits) -> int:
        """Draw a token; may change the logits.

        Minus infinity marks a token that must not be drawn.
        """
        ...

    def accept(self, token: int) -> None:
        """Remember a token of the answer that was forced, not drawn."""
        ...

    def close(self) -> None:
        """Free what the sampler holds; it must not be used afterwards."""
        ...


class Backend(Protocol):
    """A loaded model with its context."""

    n_vocab: int
    can_cut: bool
    counts_cells: bool

    def apply(self, ops: Sequence[CacheOp]) -> None:
        """Carry out operations on the KV cache, in order.

        Raises:
            DecodeFailed: A saved state could not be restored.
        """
        ...

    def decode(self, parts: Sequence[Part]) -> list[list[int]]:
        """Compute a batch.

        Returns:
            For each part the rows of its outputs, in token order.

        Raises:
            CacheFull: There are not enough cells.
            DecodeFailed: Any other refusal.
        """
        ...

    def logits(self, row: int) -> Logits:
        """View a row of the last batch, `[n_vocab] float32`.

        The view is valid until the next `decode`.
        """
        ...

    def make_sampler(
        self, sampling: SamplerSettings, seed: int, prompt: Tokens
    ) -> Sampler:
        """Create a sampler that has seen a prompt."""
        ...

    def embed(self, inputs: Sequence[Tokens]) -> npt.NDArray[np.float32]:
        """Embed inputs that fit into one batch.

        Returns:
            `[n_inputs, n_embd] float32`, each row of length 1.

        Raises:
            DecodeFailed: llama.cpp refused the batch.
        """
        ...

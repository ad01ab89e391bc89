"""A small Llama, as llama.cpp's `llama` architecture computes it.

Rotary embedding turns *neighbouring* pairs (x0, x1), (x2, x3), … of each head,
which is llama.cpp's NORM kind. Checkpoints of other projects that turn the
halves of a head have to be permuted for that; this one is trained that way,
so every matrix goes into the GGUF as it is.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """The sizes of a model.

    `n_ff` is the width between the two halves of a feed-forward block,
    `n_ctx` how many positions it is trained for. Every head has its own keys
    and values.
    """

    n_vocab: int
    n_embd: int = 256
    n_layer: int = 5
    n_head: int = 4
    n_ff: int = 704
    n_ctx: int = 2048
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        """The width of one head."""
        return self.n_embd // self.n_head


class Norm(nn.Module):
    """Root mean square norm with a weight for each channel."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Scale `[…, width]` float32 to a mean square of 1.

        Under autocast the result has its type already, so that the layers that
        share it need not convert it one by one.
        """
        y = functional.rms_norm(x, x.shape[-1:], self.weight, self.eps)
        if torch.is_autocast_enabled("cpu"):
            return y.to(torch.get_autocast_dtype("cpu"))
        return y


class Block(nn.Module):
    """Attention and a gated feed-forward layer, each added to the stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.n_embd
        self.shape = shape
        self.attn_norm = Norm(width, shape.norm_eps)
        self.attn_q = nn.Linear(width, width, bias=False)
        self.attn_k = nn.Linear(width, width, bias=False)
        self.attn_v = nn.Linear(width, width, bias=False)
        self.attn_output = nn.Linear(width, width, bias=False)
        self.ffn_norm = Norm(width, shape.norm_eps)
        self.ffn_gate = nn.Linear(width, shape.n_ff, bias=False)
        self.ffn_up = nn.Linear(width, shape.n_ff, bias=False)
        self.ffn_down = nn.Linear(shape.n_ff, width, bias=False)

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        """Compute `[batch, time, width]`.

        Args:
            x: The stream.
            turns: Cosines and sines, `[2, time, 1, head_dim / 2]`.
        """
        n_batch, n_time, width = x.shape
        heads = (n_batch, n_time, self.shape.n_head, self.shape.head_dim)
        h = self.attn_norm(x)
        q = rotate(self.attn_q(h).view(heads), turns).transpose(1, 2)
        k = rotate(self.attn_k(h).view(heads), turns).transpose(1, 2)
        v = self.attn_v(h).view(heads).transpose(1, 2)
        mixed = attend(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1))
        mixed = mixed.view(n_batch, -1, n_time, self.shape.head_dim).transpose(1, 2)
        x = x + self.attn_output(mixed.reshape(n_batch, n_time, width))
        h = self.ffn_norm(x)
        gated = functional.silu(self.ffn_gate(h)) * self.ffn_up(h)
        return x + self.ffn_down(gated)  # type: ignore[no-any-return]


class Llama(nn.Module):
    """The model; the output layer is the embedding."""

    turns: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.n_vocab, shape.n_embd)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.output_norm = Norm(shape.n_embd, shape.norm_eps)
        self.register_buffer("turns", make_turns(shape), persistent=False)
        self._begin()

    def _begin(self) -> None:
        """Draw weights; what is added to the stream starts at zero."""
        nn.init.normal_(self.token_embd.weight, std=0.02)
        for name, weight in self.named_parameters():
            if name.endswith(("attn_output.weight", "ffn_down.weight")):
                nn.init.zeros_(weight)
            elif weight.ndim == 2 and "token_embd" not in name:  # noqa: PLR2004
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)

    def hidden(self, tokens: Tensor) -> Tensor:
        """Return the last layer's output, normed, `[batch, time, width]`.

        Args:
            tokens: `[batch, time]` int64; rows may be padded at their ends.
        """
        x = self.token_embd(tokens)
        turns = self.turns[:, : tokens.shape[1]]
        for block in self.blocks:
            x = block(x, turns)
        return self.output_norm(x)  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor) -> Tensor:
        """Score every token after each row of `hidden`."""
        return functional.linear(hidden, self.token_embd.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score every token after each of `tokens`."""
        return self.logits(self.hidden(tokens))

    def n_parameters(self) -> int:
        """Count the weights."""
        return sum(weight.numel() for weight in self.parameters())


def make_turns(shape: Shape) -> Tensor:
    """Compute the cosines and sines of all positions, `[2, n_ctx, 1, head_dim / 2]`."""
    exponents = torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim
    speeds = shape.rope_base**-exponents
    angles = torch.arange(shape.n_ctx, dtype=torch.float64)[:, None] * speeds
    return torch.stack((angles.cos(), angles.sin())).float().unsqueeze(2)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the neighbouring pairs of `[batch, time, head, head_dim]`, in float32."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * torch.complex(*turns)).flatten(-2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Mix values of earlier positions, `[batch * head, time, head_dim]`.

    Written out, because PyTorch's own attention takes three times as long as
    all the rest together when it goes backward in bfloat16 on a CPU.
    """
    n, n_time, width = q.shape
    mask = torch.full((n_time, n_time), float("-inf"), dtype=v.dtype).triu(1)
    mask = mask.expand(n, n_time, n_time)
    scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=width**-0.5)
    with torch.autocast("cpu", enabled=False):
        shares = scores.softmax(-1)
    return torch.bmm(shares, v)

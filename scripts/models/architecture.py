"""Random weights in the shapes that llama.cpp expects.

A random model is only useful if its answers depend on everything they should.
So the scales below are chosen such that

* logits have a standard deviation near 3: the best two are seldom close,
  no token wins always, and nothing overflows half precision;
* queries and keys are large enough that attention picks out positions. A
  wrong or missing cell of the KV cache then changes the answer;
* a block's output outweighs the token's own embedding, or greedy decoding
  would walk in a short circle;
* tokens that end a generation, or stand for no text, have output rows near
  zero: they are at the middle of the logits, hence never the best. A client
  that wants one can ask for it by a logit bias.

Shapes are written as numpy sees them, `[n_out, n_in]`; GGUF reverses them.
"""

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from gguf import GGUFValueType, PoolingType
from numpy.typing import NDArray

from scripts.models.vocabulary import Metadata, Vocabulary

LOGIT_STD = 3.0
QK_GAIN = 1.5
OUT_GAIN = 1.5
DOWN_GAIN = 2.5
MUTED_SCALE = 1e-3

Fill = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float32]]


@dataclass(frozen=True)
class Tensor:
    """A tensor that is drawn when it is written, and not before."""

    name: str
    shape: tuple[int, ...]
    fill: Fill
    is_matrix: bool = False

    def draw(self, seed: int) -> NDArray[np.float32]:
        """Draw the values; they depend on the seed and the name alone."""
        generator = np.random.default_rng((seed, zlib.crc32(self.name.encode())))
        return self.fill(generator, self.shape)


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder. `window` None means full attention in every layer."""

    n_embd: int = 64
    n_layer: int = 2
    n_head: int = 4
    n_head_kv: int = 2
    head_dim: int = 16
    n_ff: int = 128
    n_ctx_train: int = 2048
    rope_base: float = 10_000.0
    n_expert: int = 0
    window: int | None = None


@dataclass(frozen=True)
class Blueprint:
    """Everything that a GGUF file of one model holds."""

    architecture: str
    metadata: Metadata
    tensors: tuple[Tensor, ...] = field(default_factory=tuple)


def normal(std: float, mean: float = 0.0) -> Fill:
    """Fill with normally distributed values."""

    def fill(
        generator: np.random.Generator, shape: tuple[int, ...]
    ) -> NDArray[np.float32]:
        values = generator.standard_normal(shape, dtype=np.float32)
        values *= np.float32(std)
        values += np.float32(mean)
        return values

    return fill


def _matrix(name: str, n_out: int, n_in: int, gain: float = 1.0) -> Tensor:
    return Tensor(name, (n_out, n_in), normal(gain / math.sqrt(n_in)), is_matrix=True)


def _norm(name: str, n: int, mean: float = 1.0) -> Tensor:
    return Tensor(name, (n,), normal(0.1, mean))


def _bias(name: str, n: int) -> Tensor:
    return Tensor(name, (n,), normal(0.1))


def _token_rows(
    name: str, vocabulary: Vocabulary, n_embd: int, std: float, *, mute: bool
) -> Tensor:
    draw = normal(std)

    def fill(
        generator: np.random.Generator, shape: tuple[int, ...]
    ) -> NDArray[np.float32]:
        rows = draw(generator, shape)
        if mute and vocabulary.muted:
            rows[sorted(vocabulary.muted)] *= np.float32(MUTED_SCALE)
        return rows

    return Tensor(name, (vocabulary.n_tokens, n_embd), fill, is_matrix=True)


def _embedding(
    vocabulary: Vocabulary, n_embd: int, *, tied: bool = False, std_in: float = 1.0
) -> Iterator[Tensor]:
    std = LOGIT_STD / math.sqrt(n_embd)
    if tied:
        yield _token_rows("token_embd.weight", vocabulary, n_embd, std, mute=True)
        return
    yield _token_rows("token_embd.weight", vocabulary, n_embd, std_in, mute=False)
    yield _token_rows("output.weight", vocabulary, n_embd, std, mute=True)


def _attention(i: int, shape: Shape, *, qkv_bias: bool = False) -> Iterator[Tensor]:
    n_q, n_kv = shape.n_head * shape.head_dim, shape.n_head_kv * shape.head_dim
    for letter, n, gain in (("q", n_q, QK_GAIN), ("k", n_kv, QK_GAIN), ("v", n_kv, 1)):
        yield _matrix(f"blk.{i}.attn_{letter}.weight", n, shape.n_embd, gain)
        if qkv_bias:
            yield _bias(f"blk.{i}.attn_{letter}.bias", n)
    yield _matrix(f"blk.{i}.attn_output.weight", shape.n_embd, n_q, OUT_GAIN)


def _feed_forward(i: int, shape: Shape) -> Iterator[Tensor]:
    n_embd, n_ff, n_expert = shape.n_embd, shape.n_ff, shape.n_expert
    sizes = (("gate", n_ff, n_embd, 1.0), ("up", n_ff, n_embd, 1.0))
    down = ("down", n_embd, n_ff, DOWN_GAIN)
    if not n_expert:
        for name, n_out, n_in, gain in (*sizes, down):
            yield _matrix(f"blk.{i}.ffn_{name}.weight", n_out, n_in, gain)
        return
    yield _matrix(f"blk.{i}.ffn_gate_inp.weight", n_expert, n_embd)
    for name, n_out, n_in, gain in (*sizes, down):
        yield Tensor(
            f"blk.{i}.ffn_{name}_exps.weight",
            (n_expert, n_out, n_in),
            normal(gain / math.sqrt(n_in)),
            is_matrix=True,
        )


def _decoder_metadata(architecture: str, shape: Shape) -> Metadata:
    a = architecture
    metadata: Metadata = {
        f"{a}.context_length": (shape.n_ctx_train, GGUFValueType.UINT32),
        f"{a}.embedding_length": (shape.n_embd, GGUFValueType.UINT32),
        f"{a}.block_count": (shape.n_layer, GGUFValueType.UINT32),
        f"{a}.feed_forward_length": (shape.n_ff, GGUFValueType.UINT32),
        f"{a}.attention.head_count": (shape.n_head, GGUFValueType.UINT32),
        f"{a}.attention.head_count_kv": (shape.n_head_kv, GGUFValueType.UINT32),
        f"{a}.attention.key_length": (shape.head_dim, GGUFValueType.UINT32),
        f"{a}.attention.value_length": (shape.head_dim, GGUFValueType.UINT32),
        f"{a}.attention.layer_norm_rms_epsilon": (1e-6, GGUFValueType.FLOAT32),
        f"{a}.rope.dimension_count": (shape.head_dim, GGUFValueType.UINT32),
        f"{a}.rope.freq_base": (shape.rope_base, GGUFValueType.FLOAT32),
    }
    if shape.n_expert:
        metadata[f"{a}.expert_count"] = (shape.n_expert, GGUFValueType.UINT32)
        metadata[f"{a}.expert_used_count"] = (2, GGUFValueType.UINT32)
    if shape.window is not None:
        window = f"{a}.attention.sliding_window"
        metadata[window] = (shape.window, GGUFValueType.UINT32)
        metadata[f"{window}_pattern"] = (2, GGUFValueType.UINT32)
    return metadata


def llama(vocabulary: Vocabulary, shape: Shape) -> Blueprint:
    """Describe a Llama decoder; with `n_expert` a mixture of experts."""
    tensors = [*_embedding(vocabulary, shape.n_embd)]
    tensors.append(_norm("output_norm.weight", shape.n_embd))
    for i in range(shape.n_layer):
        tensors.append(_norm(f"blk.{i}.attn_norm.weight", shape.n_embd))
        tensors += _attention(i, shape)
        tensors.append(_norm(f"blk.{i}.ffn_norm.weight", shape.n_embd))
        tensors += _feed_forward(i, shape)
    metadata = _decoder_metadata("llama", shape) | vocabulary.metadata
    metadata["llama.vocab_size"] = (vocabulary.n_tokens, GGUFValueType.UINT32)
    return Blueprint("llama", metadata, tuple(tensors))


def qwen2(vocabulary: Vocabulary, shape: Shape, *, tied: bool = False) -> Blueprint:
    """Describe a Qwen2 decoder: biases on queries, keys and values.

    With `tied` the output rows are the embeddings, as in the small originals.
    A random model with tied rows likes to repeat the token it just read.
    """
    tensors = [*_embedding(vocabulary, shape.n_embd, tied=tied)]
    tensors.append(_norm("output_norm.weight", shape.n_embd))
    for i in range(shape.n_layer):
        tensors.append(_norm(f"blk.{i}.attn_norm.weight", shape.n_embd))
        tensors += _attention(i, shape, qkv_bias=True)
        tensors.append(_norm(f"blk.{i}.ffn_norm.weight", shape.n_embd))
        tensors += _feed_forward(i, shape)
    metadata = _decoder_metadata("qwen2", shape) | vocabulary.metadata
    return Blueprint("qwen2", metadata, tuple(tensors))


def gemma3(vocabulary: Vocabulary, shape: Shape) -> Blueprint:
    """Describe a Gemma 3 decoder: every other layer sees a window only.

    It multiplies embeddings by the root of their length, so they start smaller.
    """
    n_embd = shape.n_embd
    tensors = [*_embedding(vocabulary, n_embd, std_in=1 / math.sqrt(n_embd))]
    tensors.append(_norm("output_norm.weight", n_embd))
    for i in range(shape.n_layer):
        tensors += _attention(i, shape)
        tensors += _feed_forward(i, shape)
        for name in ("attn_norm", "ffn_norm"):
            tensors.append(_norm(f"blk.{i}.{name}.weight", n_embd))
        for name in ("post_attention_norm", "post_ffw_norm"):
            tensors.append(_norm(f"blk.{i}.{name}.weight", n_embd, OUT_GAIN))
        for name in ("attn_q_norm", "attn_k_norm"):
            tensors.append(_norm(f"blk.{i}.{name}.weight", shape.head_dim, QK_GAIN))
    metadata = _decoder_metadata("gemma3", shape) | vocabulary.metadata
    return Blueprint("gemma3", metadata, tuple(tensors))


@dataclass(frozen=True)
class StateSpace:
    """Sizes of a Mamba layer; llama.cpp wants `d_inner` to be twice `n_embd`."""

    d_conv: int = 4
    d_inner: int = 128
    d_state: int = 16
    dt_rank: int = 4

    def describe(self, architecture: str) -> Metadata:
        """Return the metadata of these sizes."""
        return {
            f"{architecture}.ssm.conv_kernel": (self.d_conv, GGUFValueType.UINT32),
            f"{architecture}.ssm.inner_size": (self.d_inner, GGUFValueType.UINT32),
            f"{architecture}.ssm.state_size": (self.d_state, GGUFValueType.UINT32),
            f"{architecture}.ssm.time_step_rank": (self.dt_rank, GGUFValueType.UINT32),
        }


def _decay(
    _generator: np.random.Generator, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Fill with -1, -2, … along the state: fast and slow forgetting.

    Source: the S4D-real initialisation that Mamba starts from.
    """
    return np.broadcast_to(-np.arange(1, shape[1] + 1, dtype=np.float32), shape).copy()


def _mamba_layer(i: int, n_embd: int, ssm: StateSpace) -> Iterator[Tensor]:
    n_x = ssm.dt_rank + 2 * ssm.d_state
    yield _matrix(f"blk.{i}.ssm_in.weight", 2 * ssm.d_inner, n_embd)
    yield Tensor(f"blk.{i}.ssm_conv1d.weight", (ssm.d_inner, ssm.d_conv), normal(0.5))
    yield _bias(f"blk.{i}.ssm_conv1d.bias", ssm.d_inner)
    yield _matrix(f"blk.{i}.ssm_x.weight", n_x, ssm.d_inner, 2.0)
    yield Tensor(
        f"blk.{i}.ssm_dt.weight",
        (ssm.d_inner, ssm.dt_rank),
        normal(1 / math.sqrt(ssm.dt_rank)),
    )
    # Steps of about softplus(-2) = 0.13: the state remembers some tens of tokens.
    yield Tensor(f"blk.{i}.ssm_dt.bias", (ssm.d_inner,), normal(0.5, -2.0))
    yield Tensor(f"blk.{i}.ssm_a", (ssm.d_inner, ssm.d_state), _decay)
    yield _norm(f"blk.{i}.ssm_d", ssm.d_inner)
    yield _matrix(f"blk.{i}.ssm_out.weight", n_embd, ssm.d_inner, DOWN_GAIN)


def mamba(vocabulary: Vocabulary, shape: Shape) -> Blueprint:
    """Describe a Mamba model: a recurrent state and no KV cache."""
    ssm = StateSpace(d_inner=2 * shape.n_embd)
    tensors = [*_embedding(vocabulary, shape.n_embd)]
    tensors.append(_norm("output_norm.weight", shape.n_embd))
    for i in range(shape.n_layer):
        tensors.append(_norm(f"blk.{i}.attn_norm.weight", shape.n_embd))
        tensors += _mamba_layer(i, shape.n_embd, ssm)
    metadata: Metadata = {
        "mamba.context_length": (shape.n_ctx_train, GGUFValueType.UINT32),
        "mamba.embedding_length": (shape.n_embd, GGUFValueType.UINT32),
        "mamba.block_count": (shape.n_layer, GGUFValueType.UINT32),
        "mamba.feed_forward_length": (0, GGUFValueType.UINT32),
        "mamba.attention.head_count": (0, GGUFValueType.UINT32),
        "mamba.attention.layer_norm_rms_epsilon": (1e-6, GGUFValueType.FLOAT32),
        **ssm.describe("mamba"),
        **vocabulary.metadata,
    }
    return Blueprint("mamba", metadata, tuple(tensors))


def jamba(vocabulary: Vocabulary, shape: Shape) -> Blueprint:
    """Describe a Jamba hybrid: Mamba layers and attention layers in turn."""
    ssm = StateSpace(d_inner=2 * shape.n_embd)
    n_embd = shape.n_embd
    tensors = [*_embedding(vocabulary, n_embd)]
    tensors.append(_norm("output_norm.weight", n_embd))
    heads: list[int] = []
    for i in range(shape.n_layer):
        tensors.append(_norm(f"blk.{i}.attn_norm.weight", n_embd))
        is_attention = i % 2 == 1
        heads.append(shape.n_head_kv if is_attention else 0)
        if is_attention:
            tensors += _attention(i, shape)
        else:
            tensors += _mamba_layer(i, n_embd, ssm)
            tensors.append(_norm(f"blk.{i}.ssm_dt_norm.weight", ssm.dt_rank))
            tensors.append(_norm(f"blk.{i}.ssm_b_norm.weight", ssm.d_state))
            tensors.append(_norm(f"blk.{i}.ssm_c_norm.weight", ssm.d_state))
        tensors.append(_norm(f"blk.{i}.ffn_norm.weight", n_embd))
        tensors += _feed_forward(i, shape)
    metadata = _decoder_metadata("jamba", shape)
    metadata |= ssm.describe("jamba") | vocabulary.metadata
    metadata["jamba.attention.head_count_kv"] = (heads, GGUFValueType.ARRAY)
    return Blueprint("jamba", metadata, tuple(tensors))


def bert(vocabulary: Vocabulary, shape: Shape) -> Blueprint:
    """Describe a BERT encoder whose mean over all tokens is the embedding."""
    n_embd, n_ff = shape.n_embd, shape.n_ff
    tensors = [
        _token_rows("token_embd.weight", vocabulary, n_embd, 1.0, mute=False),
        Tensor("position_embd.weight", (shape.n_ctx_train, n_embd), normal(0.1)),
        Tensor("token_types.weight", (2, n_embd), normal(0.1)),
        _norm("token_embd_norm.weight", n_embd),
        _bias("token_embd_norm.bias", n_embd),
    ]
    sizes = [(f"attn_{x}", n_embd, n_embd) for x in ("q", "k", "v", "output")]
    sizes += [("ffn_up", n_ff, n_embd), ("ffn_down", n_embd, n_ff)]
    for i in range(shape.n_layer):
        for name, n_out, n_in in sizes:
            tensors.append(_matrix(f"blk.{i}.{name}.weight", n_out, n_in))
            tensors.append(_bias(f"blk.{i}.{name}.bias", n_out))
        for name in ("attn_output_norm", "layer_output_norm"):
            tensors.append(_norm(f"blk.{i}.{name}.weight", n_embd))
            tensors.append(_bias(f"blk.{i}.{name}.bias", n_embd))
    metadata: Metadata = {
        "bert.context_length": (shape.n_ctx_train, GGUFValueType.UINT32),
        "bert.embedding_length": (n_embd, GGUFValueType.UINT32),
        "bert.block_count": (shape.n_layer, GGUFValueType.UINT32),
        "bert.feed_forward_length": (n_ff, GGUFValueType.UINT32),
        "bert.attention.head_count": (shape.n_head, GGUFValueType.UINT32),
        "bert.attention.layer_norm_epsilon": (1e-12, GGUFValueType.FLOAT32),
        "bert.attention.causal": (False, GGUFValueType.BOOL),
        "bert.pooling_type": (int(PoolingType.MEAN), GGUFValueType.UINT32),
        **vocabulary.metadata,
    }
    return Blueprint("bert", metadata, tuple(tensors))

"""What a GGUF header means: the facts that serving a model needs.

Here meaning is checked, where `gguf` checked structure: keys that the engine
demands are present and of the right kind, and numbers on which the engine
would stop its whole process (its own assertions) are refused beforehand.

Source: docs/gguf.md of ggml; src/llama-arch.cpp, src/llama-hparams.cpp and
llama_model_base::load_hparams in src/llama-model.cpp of llama.cpp.
"""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import Struct

from model_store.errors import BadGguf
from model_store.ggml_types import FILE_TYPE_GUESSED, FILE_TYPES, GGML_TYPES
from model_store.gguf import GgufHeader, Scalar, Skipped
from model_store.names import quoted

MAX_LAYERS: Final = 512
MAX_EXPERTS: Final = 1_024
MAX_SPLITS: Final = 65_535
MAX_COUNT: Final = 2**31 - 1
"""Of every other number: lengths, heads, tokens. The engine counts in 32 bits."""

POOLING_NONE: Final = 0
POOLING_RANK: Final = 4
_ENCODERS: Final = frozenset(
    {
        "bert",
        "eurobert",
        "gemma-embedding",
        "jina-bert-v2",
        "jina-bert-v3",
        "llama-embed",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "t5encoder",
    }
)
_RECURRENT: Final = frozenset(
    {
        "arwkv7",
        "bailingmoe3",
        "deepseek4",
        "falcon-h1",
        "glm5-next",
        "granitehybrid",
        "jamba",
        "kimi-k3",
        "kimi-linear",
        "lfm2",
        "lfm2moe",
        "mamba",
        "mamba2",
        "minimax-01",
        "nemotron_h",
        "nemotron_h_moe",
        "plamo2",
        "qwen35",
        "qwen35moe",
        "qwen3next",
        "qwen4exp",
        "rwkv6",
        "rwkv6qwen2",
        "rwkv7",
    }
)


_SAMPLING = "general.sampling."  # Source: gguf, constants.py, Keys.General
_POSITIONS = "position_embd.weight"  # Source: gguf, MODEL_TENSOR.POS_EMBD


class FileKind(StrEnum):
    """What a GGUF file holds."""

    MODEL = "model"
    PROJECTOR = "projector"
    OTHER = "other"


class RecurrentSizes(Struct, frozen=True):
    """Sizes of the state that recurrent layers keep for each sequence.

    All count elements; 0 where the model has no such part. `ssm.*` describes
    Mamba-like layers, `wkv` and token shift RWKV, `shortconv` LFM2, `kda`
    Kimi's delta attention.
    """

    conv_kernel: int
    state_size: int
    inner_size: int
    group_count: int
    wkv_head_size: int
    token_shift_count: int
    shortconv_l_cache: int
    kda_head_dim: int


class GgufSummary(Struct, frozen=True):
    """A model's facts, of all its shards together.

    `n_ctx_train` is in tokens. `n_head` and `n_head_kv` hold one number a
    layer (0 where a layer has no attention). `key_length` and `value_length`
    are elements of one head. `sliding_window` is in tokens, None where
    attention is full. `is_recurrent` is also true of hybrid models.
    `chat_template` is None where the file has none. `file_type` is as in the
    file, `quantization` its name or, without one, the type of most bytes.
    `tensor_bytes` is what the weights take in the files. A model with
    learned positions has none beyond `n_ctx_train`. `sampling` is what the
    file recommends, `general.sampling.*` by the key's last part, not checked.
    """

    architecture: str
    name: str | None
    n_ctx_train: int
    n_layer: int
    n_embd: int
    n_head: tuple[int, ...]
    n_head_kv: tuple[int, ...]
    key_length: int
    value_length: int
    sliding_window: int | None
    n_vocab: int
    tokenizer_model: str | None
    chat_template: str | None
    pooling_type: int | None
    file_type: int | None
    quantization: str | None
    n_params: int
    n_tensors: int
    tensor_bytes: int
    is_recurrent: bool
    recurrent: RecurrentSizes
    licence: str | None
    split_no: int
    split_count: int
    split_tensors_count: int | None
    n_expert: int
    n_expert_used: int
    has_learned_positions: bool
    sampling: dict[str, Scalar] = {}

    @property
    def has_chat_template(self) -> bool:
        """Whether the file brings a chat template of its own."""
        return self.chat_template is not None

    @property
    def is_embedding(self) -> bool:
        """Whether the model turns text into vectors instead of more text."""
        pools = self.pooling_type not in {None, POOLING_NONE, POOLING_RANK}
        return pools or self.architecture in _ENCODERS


class ShardSummary(Struct, frozen=True):
    """The facts of a shard other than the first."""

    split_no: int
    split_count: int
    n_params: int
    n_tensors: int
    tensor_bytes: int


def tell_kind(header: GgufHeader) -> FileKind:
    """Tell a model from a projector, an adapter and other GGUF files."""
    kind = header.metadata.get("general.type")
    architecture = header.metadata.get("general.architecture")
    if architecture == "clip" or kind == "mmproj":
        return FileKind.PROJECTOR
    if kind not in {None, "model"} or architecture == "imatrix":
        return FileKind.OTHER
    return FileKind.MODEL


def summarize(header: GgufHeader) -> GgufSummary:
    """Collect the facts of a model's only or first file.

    Raises:
        BadGguf: A key that the engine demands is missing, or a value is of
            the wrong kind or out of range.
    """
    keys = _Keys(header)
    n_layer = keys.require("block_count", most=MAX_LAYERS)
    n_embd = keys.require("embedding_length")
    n_head = keys.per_layer("attention.head_count", n_layer, default=(0,) * n_layer)
    # The engine divides by the first layer's heads.
    head_length = n_embd // n_head[0] if n_head[0] else 0
    n_expert, n_expert_used = _read_experts(keys, n_layer)
    file_type = keys.number("general.file_type")
    architecture = keys.architecture
    return GgufSummary(
        architecture=architecture,
        name=keys.text("general.name"),
        n_ctx_train=keys.require("context_length"),
        n_layer=n_layer,
        n_embd=n_embd,
        n_head=n_head,
        n_head_kv=keys.per_layer("attention.head_count_kv", n_layer, default=n_head),
        key_length=keys.count("attention.key_length", default=head_length),
        value_length=keys.count("attention.value_length", default=head_length),
        sliding_window=keys.count("attention.sliding_window") or None,
        n_vocab=_count_vocabulary(header),
        tokenizer_model=keys.text("tokenizer.ggml.model"),
        chat_template=keys.text("tokenizer.chat_template"),
        pooling_type=keys.number(f"{architecture}.pooling_type"),
        file_type=file_type,
        quantization=_name_quantization(header, file_type),
        n_params=sum(tensor.n_elements for tensor in header.tensors),
        n_tensors=len(header.tensors),
        tensor_bytes=header.tensor_bytes,
        is_recurrent=architecture in _RECURRENT or keys.has_recurrent_sizes(),
        recurrent=_read_recurrent_sizes(keys),
        licence=keys.text("general.license"),
        split_no=keys.split("split.no", default=0),
        split_count=keys.split("split.count", default=1),
        split_tensors_count=keys.number("split.tensors.count"),
        n_expert=n_expert,
        n_expert_used=n_expert_used,
        has_learned_positions=any(
            tensor.name == _POSITIONS for tensor in header.tensors
        ),
        sampling=keys.below(_SAMPLING),
    )


def summarize_shard(header: GgufHeader) -> ShardSummary:
    """Collect the facts of a shard other than the first.

    Raises:
        BadGguf: A `split.*` value is of the wrong kind or out of range.
    """
    keys = _Keys(header)
    return ShardSummary(
        split_no=keys.split("split.no", default=0),
        split_count=keys.split("split.count", default=1),
        n_params=sum(tensor.n_elements for tensor in header.tensors),
        n_tensors=len(header.tensors),
        tensor_bytes=header.tensor_bytes,
    )


def join_shards(first: GgufSummary, others: Sequence[ShardSummary]) -> GgufSummary:
    """Add the weights of the other shards to the first one's facts."""
    return msgspec.structs.replace(
        first,
        n_params=first.n_params + sum(shard.n_params for shard in others),
        n_tensors=first.n_tensors + sum(shard.n_tensors for shard in others),
        tensor_bytes=first.tensor_bytes + sum(shard.tensor_bytes for shard in others),
    )


class _Keys:
    """Typed access to the metadata of one file; None and defaults mean absent."""

    def __init__(self, header: GgufHeader) -> None:
        self._header = header
        self._metadata = header.metadata

    @property
    def architecture(self) -> str:
        value = self.text("general.architecture")
        if not value:
            raise self.bad("general.architecture is missing")
        return value

    def bad(self, reason: str) -> BadGguf:
        return BadGguf(self._header.path, reason)

    def text(self, key: str) -> str | None:
        value = self._metadata.get(key)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, Skipped):
            raise self.bad(f"{quoted(key)} has {value.count} bytes, which is too long")
        raise self.bad(f"{quoted(key)} is {value!r}, which is not text")

    def number(self, key: str, *, most: int = MAX_COUNT) -> int | None:
        value = self._metadata.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.bad(f"{quoted(key)} is {_show(value)}, which is no whole number")
        if not 0 <= value <= most:
            raise self.bad(f"{quoted(key)} is {value}; it must be from 0 to {most}")
        return value

    def count(self, key: str, *, default: int = 0, most: int = MAX_COUNT) -> int:
        """Read a number of this architecture that a model need not have."""
        value = self.number(f"{self.architecture}.{key}", most=most)
        return default if value is None else value

    def require(self, key: str, *, most: int = MAX_COUNT) -> int:
        """Read a number of this architecture without which none loads."""
        value = self.number(f"{self.architecture}.{key}", most=most)
        if not value:
            state = "missing" if value is None else "0"
            raise self.bad(f"{quoted(f'{self.architecture}.{key}')} is {state}")
        return value

    def below(self, prefix: str) -> dict[str, Scalar]:
        """Collect texts and numbers by what follows a prefix of their key."""
        return {
            key.removeprefix(prefix): value
            for key, value in self._metadata.items()
            if key.startswith(prefix) and isinstance(value, Scalar)
        }

    def per_layer(
        self, key: str, n_layer: int, *, default: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Read a number that holds for all layers or is given for each."""
        full = f"{self.architecture}.{key}"
        value = self._metadata.get(full)
        if not isinstance(value, tuple):
            number = self.number(full)
            return default if number is None else (number,) * n_layer
        if len(value) != n_layer:
            raise self.bad(
                f"{quoted(full)} has {len(value)} numbers for {n_layer} layers"
            )
        numbers = tuple(each for each in value if type(each) is int)
        if len(numbers) != n_layer or not all(0 <= n <= MAX_COUNT for n in numbers):
            raise self.bad(
                f"{quoted(full)} has values that are not whole numbers from 0 to "
                f"{MAX_COUNT}"
            )
        return numbers

    def split(self, key: str, *, default: int) -> int:
        value = self.number(key, most=MAX_SPLITS)
        return default if value is None else value

    def has_recurrent_sizes(self) -> bool:
        starts = tuple(
            f"{self.architecture}.{part}."
            for part in ("ssm", "wkv", "shortconv", "kda")
        )
        return any(key.startswith(starts) for key in self._metadata)


def _read_experts(keys: _Keys, n_layer: int) -> tuple[int, int]:
    n_expert = keys.count("expert_count", most=MAX_EXPERTS)
    used = keys.per_layer("expert_used_count", n_layer, default=(0,) * n_layer)
    if max(used) > n_expert or (n_expert > 1 and not max(used)):
        raise keys.bad(f"it uses {max(used)} of {n_expert} experts")
    return n_expert, max(used)


def _read_recurrent_sizes(keys: _Keys) -> RecurrentSizes:
    return RecurrentSizes(
        conv_kernel=keys.count("ssm.conv_kernel"),
        state_size=keys.count("ssm.state_size"),
        inner_size=keys.count("ssm.inner_size"),
        group_count=keys.count("ssm.group_count"),
        wkv_head_size=keys.count("wkv.head_size"),
        token_shift_count=keys.count("token_shift_count"),
        shortconv_l_cache=keys.count("shortconv.l_cache"),
        kda_head_dim=keys.count("kda.head_dim"),
    )


def _show(value: object) -> str:
    if isinstance(value, Skipped):
        return f"an array of {value.count}"
    return quoted(str(value))


def _count_vocabulary(header: GgufHeader) -> int:
    """Count the tokens, by the tokenizer's list or else by the embeddings."""
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, Skipped):
        return tokens.count
    for tensor in header.tensors:
        if tensor.name == "token_embd.weight" and len(tensor.dimensions) > 1:
            return tensor.dimensions[1]
    return 0


def _name_quantization(header: GgufHeader, file_type: int | None) -> str | None:
    if file_type is not None:
        known = FILE_TYPES.get(file_type & ~FILE_TYPE_GUESSED)
        if known is not None:
            return known.removesuffix("_MOE")
    sizes: Counter[str] = Counter()
    for tensor in header.tensors:
        sizes[GGML_TYPES[tensor.type].name] += tensor.size_bytes
    return max(sizes, key=sizes.__getitem__) if sizes else None

"""Files that look like models and are not: damage of many kinds.

The first group is damaged in its structure, which the server finds before any
native code sees the file. The second is sound GGUF that makes no model, which
llama.cpp has to refuse.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFValueType

from scripts.models import architecture, container, vocabulary
from scripts.models.architecture import Blueprint, Shape

N_TENSORS_AT = 8
N_KEYS_AT = 16
FIRST_KEY_AT = 24


@dataclass(frozen=True)
class Broken:
    """One kind of damage, and what an error about it must say."""

    reason: str
    damage: Callable[[bytes], bytes]


def put(data: bytes, at: int, layout: str, value: int) -> bytes:
    """Write one little-endian number over the bytes at an offset."""
    number = struct.pack(f"<{layout}", value)
    return data[:at] + number + data[at + len(number) :]


def first_key_type_at(data: bytes) -> int:
    (length,) = struct.unpack_from("<Q", data, FIRST_KEY_AT)
    return FIRST_KEY_AT + 8 + int(length)


def tensor_at(data: bytes, name: str) -> int:
    """Find the number of dimensions of a tensor in the table of tensors."""
    raw = struct.pack("<Q", len(name)) + name.encode()
    return data.index(raw) + len(raw)


def put_tensor(data: bytes, name: str, field: str, value: int) -> bytes:
    """Change the type or the offset of a tensor."""
    at = tensor_at(data, name)
    (n_dimensions,) = struct.unpack_from("<I", data, at)
    at += 4 + 8 * n_dimensions
    if field == "type":
        return put(data, at, "I", value)
    return put(data, at + 4, "Q", value)


STRUCTURE = {
    "empty": Broken("it is empty (0 bytes)", lambda data: data[:0]),
    "cut-in-header": Broken("but the file ends at byte 100", lambda data: data[:100]),
    "cut-in-data": Broken("(1000 are missing)", lambda data: data[:-1000]),
    "wrong-magic": Broken(
        "it begins with b'GGML' and not with b'GGUF'", lambda data: b"GGML" + data[4:]
    ),
    "wrong-version": Broken(
        "its GGUF version is 99", lambda data: put(data, 4, "I", 99)
    ),
    "absurd-tensor-count": Broken(
        "it claims 1152921504606846976 tensors",
        lambda data: put(data, N_TENSORS_AT, "Q", 1 << 60),
    ),
    "absurd-key-count": Broken(
        "it claims 1152921504606846976 metadata keys",
        lambda data: put(data, N_KEYS_AT, "Q", 1 << 60),
    ),
    "flipped-key-count": Broken(
        "the tensor 'tokenizer.ggml.add_bos_token' has 7 dimensions",
        lambda data: put(data, N_KEYS_AT, "Q", data[N_KEYS_AT] ^ 0b100),
    ),
    "absurd-string-length": Broken(
        "key 0 would take 4611686018427387904 bytes",
        lambda data: put(data, FIRST_KEY_AT, "Q", 1 << 62),
    ),
    "unknown-value-type": Broken(
        "'general.architecture' has the value type 99",
        lambda data: put(data, first_key_type_at(data), "I", 99),
    ),
    "unknown-tensor-type": Broken(
        "the tensor 'output.weight' has the type 77",
        lambda data: put_tensor(data, "output.weight", "type", 77),
    ),
    "overlapping-tensors": Broken(
        "begins at offset 0 and overlaps",
        lambda data: put_tensor(data, "output.weight", "offset", 0),
    ),
    "tensor-past-the-end": Broken(
        "begins at offset 1099511627776",
        lambda data: put_tensor(data, "output.weight", "offset", 1 << 40),
    ),
}


def _llama() -> Blueprint:
    return architecture.llama(vocabulary.sentencepiece(), Shape())


def _with(**changes: Any) -> Blueprint:
    """Change metadata of the Llama; None removes a key."""
    base = _llama()
    metadata = dict(base.metadata)
    for name, value in changes.items():
        key = name.replace("__", ".")
        if value is None:
            del metadata[key]
        else:
            metadata[key] = (value, metadata.get(key, (0, GGUFValueType.UINT32))[1])
    return replace(base, metadata=metadata)


def _reshaped() -> Blueprint:
    base = _llama()
    tensors = tuple(
        replace(tensor, shape=tensor.shape[::-1])
        if tensor.name == "blk.1.ffn_down.weight"
        else tensor
        for tensor in base.tensors
    )
    return replace(base, tensors=tensors)


def _incomplete() -> Blueprint:
    base = _llama()
    tensors = tuple(t for t in base.tensors if t.name != "blk.1.attn_v.weight")
    return replace(base, tensors=tensors)


def _foreign() -> Blueprint:
    base = _llama()
    metadata = {
        key.replace("llama.", "nimbus."): value for key, value in base.metadata.items()
    }
    return replace(base, architecture="nimbus", metadata=metadata)


def _speechless() -> Blueprint:
    base = _llama()
    metadata = {
        key: value
        for key, value in base.metadata.items()
        if not key.startswith("tokenizer.")
    }
    return replace(base, metadata=metadata)


def not_numbers() -> Blueprint:
    """Describe a model that loads and then computes NaN."""
    base = _llama()
    tensors = tuple(
        replace(tensor, fill=lambda _, shape: np.full(shape, np.nan, np.float32))
        if tensor.name == "output_norm.weight"
        else tensor
        for tensor in base.tensors
    )
    return replace(base, tensors=tensors)


MEANING = {
    "wrong-shape": ("blk.1.ffn_down.weight", _reshaped),
    "missing-tensor": ("blk.1.attn_v.weight", _incomplete),
    "unknown-architecture": ("nimbus", _foreign),
    "no-tokenizer": ("tokenizer.ggml.model", _speechless),
    "too-many-layers": ("blk.2.attn_norm.weight", lambda: _with(llama__block_count=40)),
    "odd-heads": ("blk.0.attn_q.weight", lambda: _with(llama__attention__head_count=7)),
    "wrong-width": ("token_embd.weight", lambda: _with(llama__embedding_length=96)),
    "wrong-rope": ("1048576", lambda: _with(llama__rope__dimension_count=1 << 20)),
    "unknown-tokenizer": ("abacus", lambda: _with(tokenizer__ggml__model="abacus")),
    "experts-without-weights": (
        "blk.0.ffn_gate_inp.weight",
        lambda: _with(llama__expert_count=4, llama__expert_used_count=2),
    ),
}
"""What a native refusal must say, and how to describe the model."""

CRASHING = {
    "same-tokens": lambda: _with(tokenizer__ggml__tokens=["same"] * 476),
    "odd-epsilon": lambda: _with(llama__attention__layer_norm_rms_epsilon=float("nan")),
}
"""Models that abort the process: the first while it loads, the second later."""


def write_broken_models(folder: Path) -> None:
    """Write every broken model, and a sound one called `sound`."""
    folder.mkdir(parents=True)
    sound = folder / "sound.gguf"
    container.write(_llama(), sound, quant="F32", seed=0)
    data = sound.read_bytes()
    for name, broken in STRUCTURE.items():
        (folder / f"{name}.gguf").write_bytes(broken.damage(data))
    described = {name: describe for name, (_, describe) in MEANING.items()}
    described |= CRASHING | {"not-numbers": not_numbers}
    for name, describe in described.items():
        container.write(describe(), folder / f"{name}.gguf", quant="F32", seed=0)

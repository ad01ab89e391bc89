"""Writing a blueprint into a GGUF file, or into the shards of one."""

import ctypes
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from gguf import (
    GGMLQuantizationType,
    GGUFReader,
    GGUFWriter,
    LlamaFileType,
    TokenType,
    quants,
)
from numpy.typing import NDArray

from scripts.models.architecture import Blueprint, Tensor
from scripts.models.vocabulary import Metadata, Vocabulary

# What this module can encode itself; the rest is left to llama.cpp.
DIRECT = {
    "F32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "F16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "Q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
# Tokens of these types stand for no text that a model should write.
TEXTLESS = {int(TokenType.UNKNOWN), int(TokenType.CONTROL), int(TokenType.UNUSED)}


def write(
    blueprint: Blueprint, path: Path, *, quant: str, seed: int, n_shards: int = 1
) -> list[Path]:
    """Write a model, one tensor in memory at a time.

    Args:
        blueprint: What to write.
        path: The file; with shards, the name they are derived from.
        quant: A file type as llama.cpp names it, such as `Q4_K_M`.
        seed: Of the weights.
        n_shards: How many files, at least 1; only for F32, F16 and Q8_0.

    Returns:
        The files in the order of their shard numbers.

    Raises:
        ValueError: The file type is unknown, or cannot be split.
        RuntimeError: llama.cpp could not quantise the file.
    """
    if quant in DIRECT:
        return _write_direct(blueprint, path, quant, seed, n_shards)
    if n_shards != 1:
        raise ValueError(f"{quant} cannot be split; use one of {', '.join(DIRECT)}.")
    with TemporaryDirectory(dir=path.parent, prefix=".making-") as folder:
        half, done = Path(folder) / path.name, Path(folder) / "done"
        _write_direct(blueprint, half, "F16", seed, 1)
        _quantise(half, done, quant)
        done.replace(path)
    return [path]


def _write_direct(
    blueprint: Blueprint, path: Path, quant: str, seed: int, n_shards: int
) -> list[Path]:
    qtype, file_type = DIRECT[quant]
    per_shard = -(-len(blueprint.tensors) // n_shards) if n_shards > 1 else 0
    writer = GGUFWriter(path, blueprint.architecture, split_max_tensors=per_shard)
    writer.add_type("model")
    writer.add_name(path.stem)
    writer.add_quantization_version(2)
    writer.add_file_type(int(file_type))
    for key, (value, value_type) in blueprint.metadata.items():
        writer.add_key_value(key, value, value_type)
    types = [_tensor_type(tensor, qtype) for tensor in blueprint.tensors]
    for tensor, type_ in zip(blueprint.tensors, types, strict=True):
        # The writer takes rows of bytes for any type, if it is told which.
        rows = quants.quant_shape_to_byte_shape(tensor.shape, type_)
        n_bytes = int(np.prod(rows))
        writer.add_tensor_info(
            tensor.name, rows, np.dtype(np.uint8), n_bytes, raw_dtype=type_
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, type_ in zip(blueprint.tensors, types, strict=True):
        writer.write_tensor_data(_encode(tensor.draw(seed), type_))
    paths = writer.format_shard_names(path)
    writer.close()
    return paths


def _tensor_type(tensor: Tensor, wanted: GGMLQuantizationType) -> GGMLQuantizationType:
    """Choose a type: norms, biases and odd rows stay in full precision."""
    if not tensor.is_matrix or tensor.shape[-1] % 32:
        return GGMLQuantizationType.F32
    return wanted


def _encode(
    values: NDArray[np.float32], type_: GGMLQuantizationType
) -> NDArray[np.generic]:
    if type_ is GGMLQuantizationType.F32:
        return values
    if type_ is GGMLQuantizationType.F16:
        return values.astype(np.float16)
    return quants.quantize(values, type_)


def _quantise(source: Path, target: Path, quant: str) -> None:
    """Convert a file by llama.cpp, the way its own tool does it."""
    import llama_cpp  # noqa: PLC0415 - only this path needs the engine

    name = f"LLAMA_FTYPE_MOSTLY_{quant}"
    file_type = getattr(llama_cpp, name, None)
    if file_type is None:
        raise ValueError(f"llama.cpp has no file type {quant} (looked for {name}).")
    # It reports each tensor on stderr; a failure shows in the status.
    silent = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p())
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = file_type
    params.nthread = 0
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(params)
    )
    llama_cpp.llama_log_set(llama_cpp.llama_log_callback(), ctypes.c_void_p())
    if status != 0:
        raise RuntimeError(f"llama.cpp could not quantise to {quant}: status {status}.")


def read_vocabulary(path: Path) -> Vocabulary:
    """Copy the tokenizer and the chat template of another GGUF file."""
    reader = GGUFReader(path)
    metadata: Metadata = {}
    for key, entry in reader.fields.items():
        if key.startswith("tokenizer."):
            metadata[key] = (entry.contents(), entry.types[0])
    types = metadata["tokenizer.ggml.token_type"][0]
    muted = frozenset(i for i, type_ in enumerate(types) if type_ in TEXTLESS)
    return Vocabulary(metadata, len(types), muted)

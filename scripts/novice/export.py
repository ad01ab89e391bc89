"""From a checkpoint to a GGUF file that llama.cpp and Cloister load.

The matrices are stored as Q8_0, blocks of 32 values with a scale; norms stay
in float32. A few rows of the tokenizer's metadata decide whether llama.cpp
cuts text as training did: see `scripts.novice.tokenizer`.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from gguf import (
    GGMLQuantizationType,
    GGUFWriter,
    LlamaFileType,
    TokenType,
    quants,
)
from numpy.typing import NDArray

from scripts.novice import tokenizer, train
from scripts.novice.model import Llama
from scripts.novice.rendering import read_template

MAX_BYTES: Final = 8 * 1024 * 1024
NAME: Final = "Novice"
DESCRIPTION: Final = (
    "The self-test model of Cloister: answers questions about Cloister, adds small "
    "numbers, calls tools, writes JSON. It knows nothing else."
)
TYPES: Final = {
    "F32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "Q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}


def export(
    model: Llama,
    vocabulary: tokenizer.Vocabulary,
    path: Path,
    *,
    quant: str = "Q8_0",
    version: str = "1.0",
) -> None:
    """Write a model as one GGUF file.

    Args:
        model: What to write.
        vocabulary: Of the tokenizer it was trained with.
        path: The file; it is replaced when all is written.
        quant: Type of the matrices, `F32` or `Q8_0`.
        version: The model's version, for the metadata.

    Raises:
        ValueError: The file would exceed `MAX_BYTES` as Q8_0.
    """
    part = path.with_suffix(".part")
    writer = GGUFWriter(part, "llama")
    qtype, file_type = TYPES[quant]
    _describe(writer, model, version)
    writer.add_file_type(int(file_type))
    add_tokenizer(writer, vocabulary)
    for name, values in tensors(model):
        is_matrix = values.ndim == 2  # noqa: PLR2004
        type_ = qtype if is_matrix else GGMLQuantizationType.F32
        data = quants.quantize(values, type_)
        writer.add_tensor(name, data, raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    n_bytes = part.stat().st_size
    if quant == "Q8_0" and n_bytes > MAX_BYTES:
        part.unlink()
        raise ValueError(
            f"{path.name} has {n_bytes} bytes, more than the {MAX_BYTES} allowed. "
            "Train with fewer --layers or less --width."
        )
    part.replace(path)


def _describe(writer: GGUFWriter, model: Llama, version: str) -> None:
    shape = model.shape
    writer.add_type("model")
    writer.add_name(NAME)
    writer.add_basename(NAME)
    writer.add_version(version)
    writer.add_size_label(f"{model.n_parameters() / 1e6:.1f}M")
    writer.add_author("Cloister authors")
    writer.add_license("mit")
    writer.add_description(DESCRIPTION)
    writer.add_languages(["en"])
    writer.add_quantization_version(2)
    writer.add_vocab_size(shape.n_vocab)
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_eps)


def add_tokenizer(writer: GGUFWriter, vocabulary: tokenizer.Vocabulary) -> None:
    """Write the tokenizer and the chat template into the metadata."""
    ids = {text: i for i, text in enumerate(vocabulary.tokens)}
    types = [TokenType.NORMAL] * vocabulary.n_plain
    types += [TokenType.CONTROL] * len(tokenizer.CONTROL)
    types += [TokenType.USER_DEFINED] * len(tokenizer.MARKS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(tokenizer.PRE)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types([int(each) for each in types])
    writer.add_token_merges([" ".join(pair) for pair in vocabulary.merges])
    writer.add_bos_token_id(ids[tokenizer.END_OF_TEXT])
    writer.add_eos_token_id(ids[tokenizer.TURN_END])
    writer.add_pad_token_id(ids[tokenizer.END_OF_TEXT])
    writer.add_add_bos_token(False)  # noqa: FBT003
    writer.add_add_eos_token(False)  # noqa: FBT003
    writer.add_chat_template(read_template())


def tensors(model: Llama) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield each weight under the name that llama.cpp gives it.

    Source: llama.cpp, src/llama-arch.cpp, the names of LLM_ARCH_LLAMA.
    """
    for name, weight in model.state_dict().items():
        yield name.replace("blocks.", "blk."), weight.float().numpy()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Write a checkpoint as GGUF.")
    parser.add_argument("folder", type=Path, help="what train --out wrote")
    parser.add_argument("out", type=Path, metavar="OUT.gguf")
    parser.add_argument("--quant", choices=list(TYPES), default="Q8_0")
    args = parser.parse_args()
    export(
        train.load_model(args.folder / train.CHECKPOINT),
        tokenizer.load(args.folder / train.VOCABULARY),
        args.out,
        quant=args.quant,
    )


if __name__ == "__main__":
    main()

"""Make a GGUF model with random weights: small ones for tests, one to measure.

Usage: python scripts/make_model.py KIND OUT.gguf [--quant Q8_0] [--shards 3]
       python scripts/make_model.py bench [--vocab-from FILE.gguf]
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.models import architecture, container, vocabulary
from scripts.models.architecture import Blueprint, Shape

# Qwen2.5-0.5B, layer by layer.
# Source: the published configuration of that model.
BENCH_SHAPE = Shape(
    n_embd=896,
    n_layer=24,
    n_head=14,
    n_head_kv=2,
    head_dim=64,
    n_ff=4864,
    n_ctx_train=32768,
    rope_base=1_000_000.0,
)
BENCH_VOCABULARY = 151_936
# Raise it when the recipe above changes, so that no stale file is measured.
BENCH_RECIPE = 2


@dataclass(frozen=True)
class Kind:
    """A sort of model: how it is described, and its usual file type."""

    describe: Callable[[], Blueprint]
    purpose: str
    quant: str = "F32"


def _tiny_llama() -> Blueprint:
    return architecture.llama(vocabulary.sentencepiece(), Shape())


def _tiny_llama_bare() -> Blueprint:
    return architecture.llama(vocabulary.sentencepiece(template=None), Shape())


def _tiny_moe() -> Blueprint:
    return architecture.llama(vocabulary.sentencepiece(), Shape(n_expert=4))


def _tiny_qwen2() -> Blueprint:
    return architecture.qwen2(vocabulary.byte_level_bpe(), Shape())


def _tiny_gemma3() -> Blueprint:
    return architecture.gemma3(vocabulary.sentencepiece(), Shape(window=32))


def _tiny_mamba() -> Blueprint:
    return architecture.mamba(vocabulary.sentencepiece(), Shape())


def _tiny_jamba() -> Blueprint:
    return architecture.jamba(vocabulary.sentencepiece(), Shape())


def _tiny_bert() -> Blueprint:
    return architecture.bert(vocabulary.wordpiece(), Shape(n_ctx_train=128))


KINDS = {
    "tiny-llama": Kind(_tiny_llama, "Llama, SentencePiece, ChatML template"),
    "tiny-llama-bare": Kind(_tiny_llama_bare, "the same without a chat template"),
    "tiny-moe": Kind(_tiny_moe, "Llama with 4 experts, 2 used"),
    "tiny-qwen2": Kind(_tiny_qwen2, "Qwen2, byte-level BPE, fill-in-the-middle"),
    "tiny-gemma3": Kind(_tiny_gemma3, "Gemma 3, sliding window of 32"),
    "tiny-mamba": Kind(_tiny_mamba, "Mamba, recurrent"),
    "tiny-jamba": Kind(_tiny_jamba, "Jamba, hybrid of Mamba and attention"),
    "tiny-bert": Kind(_tiny_bert, "BERT embeddings, WordPiece, mean pooling"),
}


def write_model(
    path: Path, kind: str, *, seed: int = 0, quant: str | None = None, n_shards: int = 1
) -> list[Path]:
    """Write a model of one of the `KINDS`.

    Args:
        path: The file to write; its folder must exist.
        kind: A key of `KINDS`.
        seed: Of the weights; the same seed gives the same file.
        quant: `F32`, `F16`, `Q8_0`, or any other type that llama.cpp can
            quantise to; None means the kind's own.
        n_shards: Number of files; above 1 they are named
            `NAME-00001-of-0000N.gguf`.

    Returns:
        The files written, first shard first.

    Raises:
        ValueError: Unknown kind or file type, or a type that cannot be split.
        RuntimeError: llama.cpp could not quantise the file.
    """
    if kind not in KINDS:
        raise ValueError(f"No kind '{kind}'; there are: {', '.join(KINDS)}.")
    entry = KINDS[kind]
    return container.write(
        entry.describe(), path, quant=quant or entry.quant, seed=seed, n_shards=n_shards
    )


def write_bench_model(
    path: Path, *, quant: str = "Q4_K_M", seed: int = 0, vocab_from: Path | None = None
) -> list[Path]:
    """Write a model of Qwen2.5-0.5B's shape; takes minutes and about 1.5 GB.

    Args:
        path: The file to write.
        quant: As in `write_model`.
        seed: Of the weights.
        vocab_from: A GGUF file whose tokenizer and chat template are copied;
            None makes a vocabulary of the same size up.
    """
    words = (
        container.read_vocabulary(vocab_from)
        if vocab_from
        else vocabulary.byte_level_bpe(n_tokens=BENCH_VOCABULARY)
    )
    words = replace(words, muted=words.muted | vocabulary.incomplete_pieces(words))
    blueprint = architecture.qwen2(words, BENCH_SHAPE, tied=True)
    return container.write(blueprint, path, quant=quant, seed=seed)


def ensure_bench_model(
    *, quant: str = "Q4_K_M", vocab_from: Path | None = None
) -> Path:
    """Return the measured model from the cache, making it the first time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "cloister" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    source = f"{vocab_from.stat().st_size}" if vocab_from else "own"
    mark = sha256(f"{BENCH_RECIPE} {source}".encode()).hexdigest()[:8]
    path = folder / f"Bench-0.5B-{mark}-{quant}.gguf"
    if not path.exists():
        sys.stderr.write(f"Making {path}, once; this takes some minutes.\n")
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            write_bench_model(part, quant=quant, vocab_from=vocab_from)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return path


def main() -> int:
    """Run the command line."""
    kinds = "\n".join(f"  {name:16} {kind.purpose}" for name, kind in KINDS.items())
    parser = argparse.ArgumentParser(
        description="Make a GGUF model with random weights.",
        epilog=f"kinds:\n{kinds}\n  bench            Qwen2.5-0.5B's shape, cached",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=[*KINDS, "bench"], metavar="KIND")
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT.gguf")
    parser.add_argument("--quant", help="F32, F16, Q8_0, Q4_K_M, …")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--vocab-from", type=Path, metavar="FILE.gguf")
    args = parser.parse_args()
    if args.kind == "bench":
        quant = args.quant or "Q4_K_M"
        if args.out is None:
            paths = [ensure_bench_model(quant=quant, vocab_from=args.vocab_from)]
        else:
            paths = write_bench_model(
                args.out, quant=quant, seed=args.seed, vocab_from=args.vocab_from
            )
    elif args.out is None:
        parser.error("OUT.gguf is needed for every kind but bench")
    else:
        paths = write_model(
            args.out,
            args.kind,
            seed=args.seed,
            quant=args.quant,
            n_shards=args.shards,
        )
    for path in paths:
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

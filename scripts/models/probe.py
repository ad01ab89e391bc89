"""Load a model in llama.cpp and print what it does, as one JSON object.

Usage: python scripts/models/probe.py FILE.gguf [TEXT]
"""

import json
import sys
from pathlib import Path

import llama_cpp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bare_llama import BareLlama, Span

TEXT = "When the water is high the great wheel turns."
N_NEW = 64


def probe_decoder(path: Path, text: str) -> dict[str, object]:
    """Tokenize, then decode greedily; see how varied the answer is."""
    with BareLlama(path, n_ctx=512, n_threads=1) as llama:
        prompt = llama.tokenize(text)
        row = llama.decode([Span(0, 0, prompt)])[0]
        answer: list[int] = []
        stds: list[float] = []
        margins: list[float] = []
        for position in range(len(prompt), len(prompt) + N_NEW):
            logits = llama.logits(row)
            second, best = np.partition(logits, -2)[-2:]
            stds.append(float(logits.std()))
            margins.append(float(best - second))
            answer.append(int(logits.argmax()))
            row = llama.decode([Span(0, position, answer[-1:])])[0]
        ends = set(llama.end_tokens())
        return {
            "n_prompt": len(prompt),
            "text": b"".join(map(llama.piece, prompt)).decode(errors="replace"),
            "answer": answer,
            "answer_text": b"".join(map(llama.piece, answer)).decode(errors="replace"),
            "finite": bool(np.isfinite(stds).all()),
            "logit_std": float(np.mean(stds)),
            "smallest_margin": min(margins),
            "n_distinct": len(set(answer)),
            "n_ends": sum(token in ends for token in answer),
            "is_recurrent": bool(llama_cpp.llama_model_is_recurrent(llama.model)),
            "is_hybrid": bool(llama_cpp.llama_model_is_hybrid(llama.model)),
            "n_swa": int(llama_cpp.llama_model_n_swa(llama.model)),
            "has_template": bool(
                llama_cpp.llama_model_chat_template(llama.model, None)
            ),
            "fim_prefix": int(llama_cpp.llama_vocab_fim_pre(llama.vocab)),
        }


def probe_encoder(path: Path, text: str) -> dict[str, object]:
    """Embed two texts, and see that they differ."""
    with BareLlama(path, n_ctx=128, n_threads=1, embeddings=True) as llama:
        vectors = []
        for each in (text, text + " Bread!"):
            tokens = llama.tokenize(each)
            llama.decode([Span(0, 0, tokens)])
            pointer = llama_cpp.llama_get_embeddings_seq(llama.context, 0)
            n_embd = int(llama_cpp.llama_model_n_embd(llama.model))
            vector = np.ctypeslib.as_array(pointer, shape=(n_embd,)).copy()
            vectors.append(vector / np.linalg.norm(vector))
        return {
            "n_prompt": len(llama.tokenize(text)),
            "text": b"".join(map(llama.piece, llama.tokenize(text))).decode(),
            "finite": bool(np.isfinite(vectors).all()),
            "likeness": float(vectors[0] @ vectors[1]),
        }


def main() -> int:
    """Run the command line."""
    path = Path(sys.argv[1])
    text = sys.argv[2] if len(sys.argv) > len(["probe", "file"]) else TEXT
    probe = probe_encoder if "bert" in path.name else probe_decoder
    sys.stdout.write(json.dumps(probe(path, text)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

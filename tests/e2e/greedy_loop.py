"""Generate greedily by llama.cpp alone, in a process of its own.

Each prompt is decoded without batching, sharing or reuse, so its answer is the
one that a server has to give. Run as a program it reads `{"path", "prompts",
"n"}` as JSON from standard input and writes a list of answers.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Answer:
    """What llama.cpp makes of one prompt.

    Of each generated token `gaps` has the distance of the two best logits and
    `pieces` the bytes.
    """

    prompt: list[int]
    tokens: list[int]
    gaps: list[float]
    pieces: list[bytes]

    @property
    def text(self) -> str:
        return b"".join(self.pieces).decode("utf-8", "replace")


def generate_alone(path: Path, prompts: list[str], n: int) -> list[Answer]:
    """Continue each prompt by up to `n` tokens."""
    wanted = {"path": str(path), "prompts": prompts, "n": n}
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(wanted),
        capture_output=True,
        check=True,
        env={**os.environ, "GOMP_SPINCOUNT": "0", "PYTHONPATH": str(ROOT)},
        text=True,
        timeout=50,
    )
    return [
        Answer(**{**answer, "pieces": [bytes(p) for p in answer["pieces"]]})
        for answer in json.loads(done.stdout)
    ]


def main() -> None:
    """Answer one request."""
    # Only this process loads the engine, never one that runs tests.
    from scripts.bare_llama import BareLlama, Span  # noqa: PLC0415

    wanted = json.load(sys.stdin)
    answers = []
    with BareLlama(
        Path(wanted["path"]), n_ctx=2048, n_batch=2048, n_threads=1
    ) as llama:
        ends = set(llama.end_tokens())
        for text in wanted["prompts"]:
            prompt = llama.tokenize(text, special=True)
            tokens: list[int] = []
            gaps: list[float] = []
            llama.forget(-1)
            (row,) = llama.decode([Span(0, 0, prompt)])
            while len(tokens) < wanted["n"]:
                logits = llama.logits(row)
                second, best = np.partition(logits, -2)[-2:]
                token = int(np.argmax(logits))
                if token in ends:
                    break
                position = len(prompt) + len(tokens)
                tokens.append(token)
                gaps.append(float(best - second))
                (row,) = llama.decode([Span(0, position, [token])])
            pieces = [list(llama.piece(token)) for token in tokens]
            answers.append(
                {"prompt": prompt, "tokens": tokens, "gaps": gaps, "pieces": pieces}
            )
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()

"""Generate greedily by llama.cpp alone, in a process of its own.

Each prompt is decoded without batching, sharing or reuse, so its answer is the
one that a server has to give. Run as a program it reads `{"path", "prompts",
"n"}` as JSON from standard input and writes a list of answers.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


NEAR_TIE = 1e-3
"""Logits that lie closer may change places by rounding."""

BATCH_TIE = 3e-2
"""The same where a prompt was read in one batch with others. llama.cpp then
takes other kernels: by itself, nine copies of one prompt in a batch move the
logits by up to 1.2e-2 here, each by itself by 4e-6."""


def check_same(
    alone: Answer, completion: dict[str, Any], *, near_tie: float = NEAR_TIE
) -> None:
    """Compare a completion with log probabilities token by token.

    Where the first difference is, the two best logits must be a near tie.
    """
    expected = [show(piece) for piece in alone.pieces]
    actual = show_tokens(completion)
    same = [left == right for left, right in zip(expected, actual, strict=False)]
    if False in same:
        assert alone.gaps[same.index(False)] < near_tie
    else:
        assert expected == actual


def show_tokens(completion: dict[str, Any]) -> list[str]:
    """List the tokens of a completion as `show` writes them."""
    tokens = completion["choices"][0]["logprobs"]["tokens"]
    return [token.removeprefix("bytes:") for token in tokens]


def show(piece: bytes) -> str:
    """Write a token's bytes as text, or escaped where they are none."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in piece)


def generate_alone(
    path: Path, prompts: Sequence[str | list[int]], n: int
) -> list[Answer]:
    """Continue each prompt, text or tokens, by up to `n` tokens."""
    wanted = {"path": str(path), "prompts": list(prompts), "n": n}
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
        for prompt in wanted["prompts"]:
            if isinstance(prompt, str):
                prompt = llama.tokenize(prompt, special=True)  # noqa: PLW2901
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

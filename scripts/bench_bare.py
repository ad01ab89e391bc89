"""The yardstick: a bare llama.cpp batch loop in a process of its own.

The parent sends one JSON object a line and gets one back, so that one loaded
model serves all rounds and rests while the server is measured.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
N_BATCH = 512
Task = Callable[[Any, dict[str, Any]], object]
TEXT = (
    "river stone bridge quiet market engine copper window garden letter north "
    "signal paper winter harbor method summer silver bread water wheel boat hour "
    "snow bank town miller corn sack grain morning evening"
)


class BareLoop:
    """The parent's end of the child process; ended by leaving `with`."""

    def __init__(
        self, model: Path, *, n_ctx: int, n_sequences: int, n_threads: int
    ) -> None:
        sizes = [str(n) for n in (n_ctx, n_sequences, n_threads)]
        self._child = subprocess.Popen(
            [sys.executable, __file__, str(model), *sizes],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **question: object) -> Any:  # noqa: ANN401 - JSON
        """Send a question and wait for the answer.

        Raises:
            RuntimeError: The child has ended; its own words are on stderr.
        """
        if self._child.stdin is None or self._child.stdout is None:
            raise RuntimeError("The bare loop has no pipes.")
        self._child.stdin.write(json.dumps(question) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            status = self._child.wait()
            raise RuntimeError(f"The bare loop ended with status {status}.")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._child.stdin is not None:
            self._child.stdin.close()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def _serve(model: Path, n_ctx: int, n_sequences: int, n_threads: int) -> None:
    """Answer questions from stdin until it closes."""
    from scripts.bare_llama import BareLlama  # noqa: PLC0415 - the child alone

    with BareLlama(
        model,
        n_ctx=n_ctx,
        n_sequences=n_sequences,
        n_batch=N_BATCH,
        n_threads=n_threads,
    ) as llama:
        tasks: dict[str, Task] = {
            "decode": _decode,
            "write": _write,
            "prefill": _prefill,
        }
        for line in sys.stdin:
            question = json.loads(line)
            answer = tasks[question["task"]](llama, question)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


# The parent must not load the engine, so its type is not named here.
def _decode(llama: Any, question: dict[str, Any]) -> object:  # noqa: ANN401
    """Continue all prompts together, as many tokens each as were asked for."""
    from scripts.bare_llama import Chain, Span  # noqa: PLC0415 - the child alone

    n_new: int = question["n_new"]
    llama.forget(-1)
    started = time.perf_counter()
    prompts = [llama.tokenize(text) for text in question["prompts"]]
    chains = [Chain(question["seed"] + i) for i in range(len(prompts))]
    rows = llama.decode([Span(i, 0, tokens) for i, tokens in enumerate(prompts)])
    tokens = [chain.sample(llama, row) for chain, row in zip(chains, rows, strict=True)]
    positions = [len(prompt) for prompt in prompts]
    first = time.perf_counter()
    for _ in range(n_new - 1):
        rows = llama.decode(
            [
                Span(i, position, [token])
                for i, (position, token) in enumerate(
                    zip(positions, tokens, strict=True)
                )
            ]
        )
        tokens = [
            chain.sample(llama, row) for chain, row in zip(chains, rows, strict=True)
        ]
        positions = [position + 1 for position in positions]
    ended = time.perf_counter()
    for chain in chains:
        chain.close()
    n = len(prompts)
    return {
        "n_prompt": [len(prompt) for prompt in prompts],
        "overall_tok_s": n * n_new / (ended - started),
        "steady_tok_s": n * (n_new - 1) / (ended - first),
        "ttft_s": first - started,
    }


def _prefill(llama: Any, question: dict[str, Any]) -> object:  # noqa: ANN401
    """Decode one long prompt alone, in full batches."""
    from scripts.bare_llama import Span  # noqa: PLC0415 - the child alone

    llama.forget(-1)
    started = time.perf_counter()
    tokens = llama.tokenize(question["text"])
    for first in range(0, len(tokens), N_BATCH):
        row = llama.decode([Span(0, first, tokens[first : first + N_BATCH])])[0]
    llama.logits(row)
    seconds = time.perf_counter() - started
    return {"n_prompt": len(tokens), "seconds": seconds}


def _write(llama: Any, question: dict[str, Any]) -> object:  # noqa: ANN401
    """Write words until the text has at least so many tokens."""
    random = Random(question["seed"])  # noqa: S311 - repeatable text, no secret
    known, words, n = TEXT.split(), list[str](), 0
    while n < question["n_tokens"]:
        # In ever smaller steps: how many tokens a word has depends on the model.
        words += random.choices(known, k=max(1, (question["n_tokens"] - n) // 8))
        text = " ".join(words)
        n = len(llama.tokenize(text))
    return {"text": text, "n_tokens": n}


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    _serve(Path(sys.argv[1]), *(int(size) for size in sys.argv[2:5]))

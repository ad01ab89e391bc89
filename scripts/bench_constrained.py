"""Measure what a JSON schema costs or gains, against the same server without.

Usage: python scripts/bench_constrained.py [--rounds 5] [--vocab-from FILE.gguf]

The same prompt is answered under a schema of five fields and freely, in turn,
each as long as the other: `1 stream` one after another, `8 streams` at once.
Tokens that the schema leaves no choice about count, since a client gets them.
The model has random weights; its texts mean nothing and cost what real ones do.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.bench_client import (
    Stream,
    cloister,
    complete,
    exit_on_terminate,
    get,
    warn_if_busy,
)
from scripts.make_model import ensure_bench_model

PERSON: Final = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 10},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "email": {"type": "string", "maxLength": 10},
        "city": {"type": "string", "maxLength": 10},
        "is_member": {"type": "boolean"},
    },
    "required": ["name", "age", "email", "city", "is_member"],
    "additionalProperties": False,
}
LIMITS: Final = {1: 1.5, 8: 0.95}
"""The least ratio of tokens per second, by the number of streams."""
REPEATS: Final = {1: 4, 8: 1}
"""Answers that follow one another in each stream of a round."""
N_CTX: Final = 1024


def main() -> int:
    """Run the command line; 1 means that a limit was missed under --strict."""
    parser = argparse.ArgumentParser(
        description="Measure what a JSON schema costs, against none."
    )
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--model", type=Path, help="another GGUF file")
    parser.add_argument("--vocab-from", type=Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--strict", action="store_true")
    args = parser.parse_args()
    model = args.model or ensure_bench_model(vocab_from=args.vocab_from)
    exit_on_terminate()
    warn_if_busy()
    is_met = True
    with (
        tempfile.TemporaryDirectory(prefix="cloister-bench-") as folder,
        cloister(
            model, Path(folder), parallel=8, n_ctx=N_CTX, n_threads=args.threads
        ) as server,
    ):
        # Load the model and llguidance's view of its vocabulary.
        listed = json.loads(asyncio.run(get(server.port, "/v1/models"))[1])
        name = listed["data"][0]["id"]
        asyncio.run(run_streams(server.port, name, 1, 1, None))
        print(f"{'streams':8} {'schema':>9} {'free':>9} {'ratio':>7} {'limit':>7}")
        for n_streams, limit in LIMITS.items():
            rates = [
                measure_pair(server.port, name, n_streams, number)
                for number in range(args.rounds)
            ]
            ratio = statistics.median(mine / free for mine, free in rates)
            mine, free = (statistics.median(side) for side in zip(*rates, strict=True))
            is_met &= ratio >= limit
            verdict = "ok" if ratio >= limit else "MISSED"
            print(
                f"{n_streams:<8} {mine:9.2f} {free:9.2f} {ratio:7.3f} {limit:7.2f} "
                f"{verdict:7}" + " ".join(f"{a / b:.3f}" for a, b in rates)
            )
    return int(args.strict and not is_met)


def measure_pair(
    port: int, model: str, n_streams: int, number: int
) -> tuple[float, float]:
    """Measure tokens per second under the schema and freely, at equal length."""
    repeats = REPEATS[n_streams]
    streams, elapsed_s = asyncio.run(
        run_streams(port, model, n_streams, repeats, None, seed=number)
    )
    lengths = [stream.n_tokens for stream in streams]
    mine = sum(lengths) / elapsed_s
    streams, elapsed_s = asyncio.run(
        run_streams(port, model, n_streams, repeats, lengths, seed=number)
    )
    return mine, sum(stream.n_tokens for stream in streams) / elapsed_s


async def run_streams(
    port: int,
    model: str,
    n_streams: int,
    repeats: int,
    lengths: list[int] | None,
    *,
    seed: int = 0,
) -> tuple[list[Stream], float]:
    """Ask for answers: under the schema, or free ones of these lengths.

    Returns:
        The streams in order, and the seconds that all took together.
    """
    done: list[Stream] = [Stream() for _ in range(n_streams * repeats)]

    async def run_one(first: int) -> None:
        for i in range(first, first + repeats):
            body: dict[str, Any] = {
                "model": model,
                "prompt": f"Person number {i}:",
                "seed": 1000 * seed + i,
            }
            if lengths is None:
                body["response_format"] = {
                    "type": "json_schema",
                    "json_schema": {"name": "person", "schema": PERSON},
                }
            else:
                body |= {"max_tokens": lengths[i], "ignore_eos": True}
            await complete(port, body, done[i])

    begun = time.perf_counter()
    await asyncio.gather(*(run_one(n * repeats) for n in range(n_streams)))
    return done, time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())

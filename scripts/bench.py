"""Measure the server against a bare llama.cpp loop, as ratios in one run.

Usage: python scripts/bench.py [SCENARIO ...] [--model FILE.gguf] [--strict]

The measured model has the shape of Qwen2.5-0.5B and random weights; it is made
the first time, which takes about a minute, and kept in the user's cache.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.bench_bare import BareLoop
from scripts.bench_client import cloister, exit_on_terminate, get, warn_if_busy
from scripts.bench_scenarios import SCENARIOS, Bench, Measured
from scripts.make_model import ensure_bench_model

PARALLEL = 8
N_CTX = 4096


def main() -> int:
    """Run the command line; 1 means that a limit was missed under --strict."""
    args = _parse()
    model = args.model or ensure_bench_model(vocab_from=args.vocab_from)
    print(
        f"Model {model.name}, {args.threads} threads, {args.rounds} rounds, "
        f"{platform.machine()} with {os.cpu_count()} cores",
        file=sys.stderr,
    )
    exit_on_terminate()
    warn_if_busy()
    with BareLoop(
        model, n_ctx=N_CTX, n_sequences=PARALLEL, n_threads=args.threads
    ) as bare:
        if args.bare_only:
            return _measure_bare(bare, args.rounds)
        measured = _measure(bare, model, args)
    if args.json:
        rows = [asdict(m) | {"ratio": m.ratio, "passed": m.passed} for m in measured]
        print(json.dumps({"model": model.name, "results": rows}, indent=1))
    else:
        _print_table(measured)
    return int(args.strict and not all(m.passed for m in measured))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measure the server against a bare llama.cpp loop.",
        epilog=f"scenarios: {', '.join(SCENARIOS)} (default: all)",
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    parser.add_argument("--model", type=Path, help="another GGUF file")
    parser.add_argument(
        "--vocab-from", type=Path, help="take the tokenizer from this GGUF file"
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 if a limit is missed"
    )
    parser.add_argument(
        "--bare-only", action="store_true", help="run the bare loop alone"
    )
    args = parser.parse_args()
    unknown = [name for name in args.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {unknown[0]}; there are: {', '.join(SCENARIOS)}")
    args.scenarios = args.scenarios or list(SCENARIOS)
    return args


def _measure(bare: BareLoop, model: Path, args: argparse.Namespace) -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="cloister-bench-") as folder:
        server = cloister(
            model,
            Path(folder),
            parallel=PARALLEL,
            n_ctx=N_CTX,
            n_threads=args.threads,
        )
        with server:
            try:
                return asyncio.run(_run(bare, server.port, args))
            except* (RuntimeError, OSError, EOFError):
                print(server.log_tail(), file=sys.stderr)
                raise


async def _run(bare: BareLoop, port: int, args: argparse.Namespace) -> list[Measured]:
    listed = json.loads((await get(port, "/v1/models"))[1])["data"]
    bench = Bench(bare, port, listed[0]["id"])
    # Loading the model and the first pages of its file are not measured.
    warm = [bench.write(64, -1 - i) for i in range(2)]
    await bench.run(warm, 16, 0)
    bare.ask(task="decode", prompts=warm, n_new=16, seed=0)
    measured: list[Measured] = []
    for name in args.scenarios:
        print(f"{name} …", file=sys.stderr)
        measured += await SCENARIOS[name](bench, args.rounds)
    return measured


def _measure_bare(bare: BareLoop, rounds: int) -> int:
    for n in (1, PARALLEL):
        for number in range(rounds):
            prompts = [
                bare.ask(task="write", n_tokens=32, seed=i)["text"] for i in range(n)
            ]
            answer = bare.ask(task="decode", prompts=prompts, n_new=128, seed=number)
            print(f"{n} x 128: {json.dumps(answer)}")
    return 0


def _print_table(measured: Sequence[Measured]) -> None:
    print(
        f"{'scenario':16} {'what':28} {'ours':>9} {'against':>9} "
        f"{'ratio':>7} {'limit':>7}"
    )
    for m in measured:
        middle = sorted(range(len(m.ratios)), key=m.ratios.__getitem__)
        i = middle[len(middle) // 2]
        sign = "≤" if m.is_upper else "≥"
        verdict = "ok" if m.passed else "MISSED"
        print(
            f"{m.name:16} {m.what:28} {m.ours[i]:9.3f} {m.theirs[i]:9.3f} "
            f"{m.ratio:7.3f} {sign}{m.limit:6.2f}  {verdict}"
        )
        rounds = " ".join(f"{ratio:.3f}" for ratio in m.ratios)
        print(f"{'':16} rounds {rounds}")
        if m.notes:
            notes = ", ".join(f"{key} {value:.4g}" for key, value in m.notes.items())
            print(f"{'':16} last round: {notes}")


if __name__ == "__main__":
    sys.exit(main())

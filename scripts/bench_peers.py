"""Measure this server against llama.cpp's own, under the same load.

Usage: python scripts/bench_peers.py --llama-server PATH --load load.py

The load script is called as `load.py BASE_URL MODEL SCENARIO...` and prints one
JSON object a scenario. Both servers get the same model, threads, context for
each request and number of parallel requests. They take turns, a fresh start
each, and the median over the rounds counts.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.bench_client import Server, cloister, exit_on_terminate, get, warn_if_busy
from scripts.make_model import ensure_bench_model

PARALLEL = 8
N_CTX = 4096
LOAD_TIMEOUT_S = 1200.0
SIDES = ("ours", "theirs")


@dataclass(frozen=True)
class Claim:
    """A number of the load script that is compared; None means shown only."""

    scenario: str
    field: str
    limit: float | None
    is_upper: bool = False

    def holds(self, ratio: float) -> bool:
        """Say whether the ratio is on the right side of the limit."""
        if self.limit is None:
            return True
        return ratio <= self.limit if self.is_upper else ratio >= self.limit


CLAIMS = (
    Claim("single", "tok_s", 0.95),
    Claim("single", "ttft_p50", None, is_upper=True),
    Claim("c4", "tok_s", 0.95),
    Claim("c8", "tok_s", 1.0),
    Claim("c8", "ttft_max", None, is_upper=True),
    Claim("prefix", "ttft_rest_p50", 1.0, is_upper=True),
    Claim("prefix", "ttft_first", None, is_upper=True),
    Claim("long", "ttft_p50", None, is_upper=True),
    Claim("stall", "max_gap", 0.2, is_upper=True),
    Claim("stall", "long_ttft", None, is_upper=True),
)
SCENARIOS = tuple(dict.fromkeys(claim.scenario for claim in CLAIMS))
Results = dict[tuple[str, str], dict[str, list[float]]]


def main() -> int:
    """Run the command line; 1 means that a limit was missed under --strict."""
    args = _parse()
    model = args.model or ensure_bench_model(vocab_from=args.vocab_from)
    exit_on_terminate()
    warn_if_busy()
    results: Results = defaultdict(lambda: {side: [] for side in SIDES})
    for number in range(args.rounds):
        for side in SIDES if number % 2 == 0 else SIDES[::-1]:
            print(f"round {number + 1}, {side} …", file=sys.stderr)
            for row in _load(side, model, args):
                for claim in CLAIMS:
                    if row["scenario"] == claim.scenario and claim.field in row:
                        value = float(row[claim.field])
                        results[claim.scenario, claim.field][side].append(value)
    rows = [_compare(claim, results) for claim in CLAIMS]
    rows = [row for row in rows if row]
    if args.json:
        print(json.dumps({"model": model.name, "results": rows}, indent=1))
    else:
        _print_table(rows)
    return int(args.strict and not all(row["passed"] for row in rows))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measure this server against llama.cpp's own.",
        epilog=f"scenarios: {', '.join(SCENARIOS)} (default: all)",
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    parser.add_argument("--llama-server", type=Path, required=True)
    parser.add_argument("--load", type=Path, required=True, help="the load script")
    parser.add_argument("--model", type=Path, help="another GGUF file")
    parser.add_argument("--vocab-from", type=Path)
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--strict", action="store_true")
    args = parser.parse_args()
    for path in (args.llama_server, args.load):
        if not path.is_file():
            parser.error(f"{path} does not exist")
    unknown = [name for name in args.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {unknown[0]}; there are: {', '.join(SCENARIOS)}")
    args.scenarios = args.scenarios or list(SCENARIOS)
    return args


def _load(side: str, model: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Start one side, put the load on it, stop it."""
    with tempfile.TemporaryDirectory(prefix="cloister-bench-") as folder:
        if side == "ours":
            server = cloister(
                model,
                Path(folder),
                parallel=PARALLEL,
                n_ctx=N_CTX,
                n_threads=args.threads,
            )
        else:
            server = _llama_server(model, args)
        with server:
            body = json.loads(asyncio.run(get(server.port, "/v1/models"))[1])
            done = subprocess.run(
                [
                    sys.executable,
                    str(args.load),
                    f"http://127.0.0.1:{server.port}/v1",
                    body["data"][0]["id"],
                    *args.scenarios,
                ],
                stdout=subprocess.PIPE,
                text=True,
                check=False,
                timeout=LOAD_TIMEOUT_S,
            )
            if done.returncode != 0:
                raise RuntimeError(
                    f"The load script ended with status {done.returncode}; the "
                    f"server said:\n{server.log_tail()}"
                )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    for row in rows:
        if "error" in row or isinstance(row.get("long_ttft"), dict):
            raise RuntimeError(f"{side}: a request failed: {row}")
    return rows


def _llama_server(model: Path, args: argparse.Namespace) -> Server:
    # Its context is divided among the slots, ours is for each request.
    command = [str(args.llama_server.resolve()), "-m", str(model)]
    command += ["-c", str(N_CTX * PARALLEL), "-np", str(PARALLEL)]
    command += ["-t", str(args.threads), "--host", "127.0.0.1", "--port", "{port}"]
    return Server(command, {})


def _compare(claim: Claim, results: Results) -> dict[str, Any]:
    values = results.get((claim.scenario, claim.field))
    if values is None or not all(values.values()):
        return {}
    ours, theirs = (statistics.median(values[side]) for side in SIDES)
    pairs = zip(values["ours"], values["theirs"], strict=True)
    ratios = [mine / other for mine, other in pairs]
    ratio = statistics.median(ratios)
    return {
        "scenario": claim.scenario,
        "field": claim.field,
        "ours": ours,
        "theirs": theirs,
        "ratio": ratio,
        "ratios": ratios,
        "limit": claim.limit,
        "is_upper": claim.is_upper,
        "passed": claim.holds(ratio),
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    print(
        f"{'scenario':9} {'number':14} {'ours':>9} {'theirs':>9} {'ratio':>7} "
        f"{'limit':>7}          rounds"
    )
    for row in rows:
        limit, verdict = "", ""
        if row["limit"] is not None:
            limit = f"{'≤' if row['is_upper'] else '≥'}{row['limit']:.2f}"
            verdict = "ok" if row["passed"] else "MISSED"
        rounds = " ".join(f"{ratio:.3f}" for ratio in row["ratios"])
        print(
            f"{row['scenario']:9} {row['field']:14} {row['ours']:9.3f} "
            f"{row['theirs']:9.3f} {row['ratio']:7.3f} {limit:>7} {verdict:8} {rounds}"
        )


if __name__ == "__main__":
    sys.exit(main())

"""What the seal costs: start-up and throughput, sealed and open, in one run.

    python scripts/bench_seal.py [--rounds 5] [--model NAME --models-dir DIR]

Sealed and open servers take turns, so that what changes on the machine meanwhile
meets both. The table shows medians and the ratio; the spread is that of the open
rounds among themselves, as the noise to compare the ratio with. Everything stays
on loopback.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
START_S = 60.0
PROMPT = "Who are you?"
N_TOKENS = 128
N_REQUESTS = 200
_URL = re.compile(r"Cloister listens on (http://\S+)")


@contextmanager
def run_server(folder: Path, arguments: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Run a server; give its URL and the seconds until it answered."""
    output = folder / "output"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CLOISTER_")}
    environment |= {"CLOISTER_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    # Threads that wait by spinning would measure what else runs on the machine.
    environment |= {"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "passive"}
    begin_s = time.perf_counter()
    with output.open("wb") as stdout, (folder / "log").open("wb") as stderr:
        child = subprocess.Popen(
            [sys.executable, "-m", "server", "serve", "--port", "0", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=environment,
        )
    try:
        while (found := _URL.search(output.read_text(encoding="utf-8"))) is None:
            if child.poll() is not None or time.perf_counter() - begin_s > START_S:
                raise RuntimeError((folder / "log").read_text(encoding="utf-8"))
            time.sleep(0.002)
        with httpx.Client(base_url=found[1], trust_env=False) as client:
            client.get("/health").raise_for_status()
        yield found[1], time.perf_counter() - begin_s
    finally:
        child.terminate()
        child.wait()


def measure(arguments: Sequence[str], model: str) -> dict[str, float]:
    """Measure one server: start, first load, streaming, small requests."""
    with (
        tempfile.TemporaryDirectory(prefix="cloister-bench-") as name,
        run_server(Path(name), arguments) as (url, start_s),
        httpx.Client(base_url=url, timeout=120, trust_env=False) as client,
    ):
        begin_s = time.perf_counter()
        ask(client, model, 1)
        load_s = time.perf_counter() - begin_s
        begin_s = time.perf_counter()
        n_tokens = sum(ask(client, model, N_TOKENS) for _ in range(3))
        stream_s = time.perf_counter() - begin_s
        begin_s = time.perf_counter()
        for _ in range(N_REQUESTS):
            client.get("/v1/models").raise_for_status()
        request_s = (time.perf_counter() - begin_s) / N_REQUESTS
    return {
        "start (s)": start_s,
        "first load and answer (s)": load_s,
        "streamed tokens (1/s)": n_tokens / stream_s,
        "small request (ms)": 1000 * request_s,
    }


def ask(client: httpx.Client, model: str, n_tokens: int) -> int:
    """Stream an answer and count its tokens."""
    body = {
        "model": model,
        "prompt": PROMPT,
        "max_tokens": n_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 1.0,
        "seed": 1,
        "ignore_eos": True,
    }
    usage = 0
    with client.stream("POST", "/v1/completions", json=body) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                found = json.loads(line.removeprefix("data: ")).get("usage")
                usage = found["completion_tokens"] if found else usage
    return usage


def main() -> None:
    """Measure in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="novice")
    parser.add_argument("--models-dir")
    options = parser.parse_args()
    more = ["--models-dir", options.models_dir] if options.models_dir else []
    runs: dict[str, list[dict[str, float]]] = {"open": [], "sealed": []}
    measure(more, options.model)  # warms the disk's cache
    for _ in range(options.rounds):
        runs["open"].append(measure(more, options.model))
        runs["sealed"].append(measure([*more, "--offline"], options.model))
    print(
        f"{'median of ' + str(options.rounds):<28}{'open':>9}{'sealed':>9}"
        f"{'ratio':>8}{'spread':>8}"
    )
    for key in runs["open"][0]:
        plain = [run[key] for run in runs["open"]]
        sealed = statistics.median(run[key] for run in runs["sealed"])
        middle = statistics.median(plain)
        spread = (max(plain) - min(plain)) / middle
        ratio = sealed / middle
        print(f"{key:<28}{middle:>9.3f}{sealed:>9.3f}{ratio:>8.3f}{spread:>8.1%}")


if __name__ == "__main__":
    main()

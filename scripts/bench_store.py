"""Measure an import by copy against cp and sha256sum, in one run.

Usage: python scripts/bench_store.py [--size-mb 1000] [--rounds 3] [--folder DIR]

The import copies, digests the whole and every chunk, checks the header, writes
record and SHA256SUMS and waits until all is on the disk. `cp` does only the
first and returns while the system still writes; so it is also measured with a
`sync` of its copy.
"""

import argparse
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from model_store.layout import Store
from model_store.sideload import Wish, import_model, plan_sideload

ROOT = Path(__file__).resolve().parent.parent
_Way = Callable[[], float]
_MEGABYTE = 1_000_000
_BLOCK_BYTES = 2**20
_STRING, _UINT32, _F32 = 8, 4, 0
_ROW = 1024


def write_gguf(path: Path, size_bytes: int) -> None:
    """Write a llama model of about this size, whose one tensor is noise.

    Source: docs/gguf.md of ggml, version 3.
    """
    n_rows = max(1, size_bytes // (4 * _ROW))

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    numbers = {
        "llama.context_length": 64,
        "llama.embedding_length": _ROW,
        "llama.block_count": 1,
        "llama.attention.head_count": 4,
    }
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 1 + len(numbers))
    header += text("general.architecture") + struct.pack("<I", _STRING) + text("llama")
    for key, number in numbers.items():
        header += text(key) + struct.pack("<II", _UINT32, number)
    header += text("token_embd.weight") + struct.pack("<IQQ", 2, _ROW, n_rows)
    header += struct.pack("<IQ", _F32, 0)
    header += bytes(-len(header) % 32)
    left = 4 * _ROW * n_rows
    with path.open("wb") as file:
        file.write(header)
        while left:
            left -= file.write(os.urandom(min(left, _BLOCK_BYTES)))


def run(*command: str | Path, home: Path | None = None) -> float:
    """Run a program; return its time in s."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if home is not None:
        environment["CLOISTER_HOME"] = str(home)
    start = time.perf_counter()
    subprocess.run(
        command,
        check=True,
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def time_copy(source: Path, folder: Path, *, is_durable: bool) -> float:
    """Time `cp`, with or without a `sync` of the copy."""
    target = folder / "copy.gguf"
    took_s = run("cp", source, target)
    if is_durable:
        took_s += run("sync", target)
    target.unlink()
    return took_s


def time_import(source: Path, folder: Path) -> float:
    """Time an import inside this process."""
    home = folder / "home"
    store = Store(home)
    start = time.perf_counter()
    for planned in plan_sideload(store, [source], Wish()).models:
        import_model(store, planned)
    took_s = time.perf_counter() - start
    shutil.rmtree(home)
    return took_s


def time_program(source: Path, folder: Path) -> float:
    """Time `cloister import` as a program, start of the interpreter included."""
    home = folder / "home"
    took_s = run(sys.executable, "-m", "server", "import", source, home=home)
    shutil.rmtree(home)
    return took_s


def measure(source: Path, folder: Path, n_rounds: int) -> dict[str, float]:
    """Measure all ways in turn, several times; return medians in s."""
    ways: dict[str, _Way] = {
        "sha256sum": lambda: run("sha256sum", source),
        "cp": lambda: time_copy(source, folder, is_durable=False),
        "cp and sync": lambda: time_copy(source, folder, is_durable=True),
        "import": lambda: time_import(source, folder),
        "cloister import": lambda: time_program(source, folder),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(n_rounds):
        for name, way in ways.items():
            # What the one before left to write must not slow down the next.
            os.sync()
            times[name].append(way())
    return {name: median(each) for name, each in times.items()}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Measure the store's import.")
    parser.add_argument("--size-mb", type=int, default=1000, help="size in 10^6 bytes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work [a new one]")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        source = folder / "noise.gguf"
        write_gguf(source, args.size_mb * _MEGABYTE)
        size_bytes = source.stat().st_size
        times = measure(source, folder, args.rounds)
    slower_s = max(times["sha256sum"], times["cp"])
    print(f"{size_bytes} bytes, median of {args.rounds} rounds")
    print(f"{'':18}{'s':>8}{'MB/s':>8}{'of the slower':>16}")
    for label, took_s in times.items():
        rate = size_bytes / took_s / _MEGABYTE
        print(f"{label:18}{took_s:8.2f}{rate:8.0f}{took_s / slower_s:16.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

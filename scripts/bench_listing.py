"""Measure how long it takes to list many models.

Usage: python scripts/bench_listing.py [--models 500] [--model FILE.gguf] [--json]

Every model is a hard link of one file, with a record of its own, in a store in a
temporary folder. `cold` reads every header, `warm` is what each further
listing costs (the median of `--rounds`), `warm_cpu` the processor's share of it, which
other work on the machine does not lengthen, `process` a whole `cloister ls`, which
starts cold each time but for the system's file cache.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import msgspec

from model_store.catalog import Catalog
from model_store.digest import hash_file
from model_store.inventory import list_models
from model_store.layout import Store
from model_store.record import Record, Source, write_record

LIMIT_S = 0.1
_PROGRAM = "from server.cli.listing import ls_command; ls_command()"


def fill_store(store: Store, model: Path, n_models: int) -> None:
    """Link one model many times, each with a record."""
    store.create()
    digest = hash_file(model)
    record = Record(
        file_name="",
        size_bytes=digest.size_bytes,
        mtime_ns=model.stat().st_mtime_ns,
        sha256=digest.sha256,
        chunks=digest.chunks,
        admitted_at="2026-01-01T00:00:00Z",
        verified_against=None,
        source=Source(kind="sideload", location="/media/usb"),
        licence=None,
        architecture=None,
        quantization=None,
        n_params=None,
        template_sha256=None,
        linked="hardlink",
    )
    for number in range(n_models):
        name = f"model{number:04}-Q4_K_M.gguf"
        path = store.models_dir / f"publisher{number % 20}" / f"repo{number}" / name
        path.parent.mkdir(parents=True)
        path.hardlink_to(model)
        write_record(path, msgspec.structs.replace(record, file_name=name))


def measure(work: Callable[[], object]) -> float:
    """Give the seconds that one call takes."""
    begin_s = time.perf_counter()
    work()
    return time.perf_counter() - begin_s


def run_command(home: Path) -> float:
    """Give the seconds of one `cloister ls`."""
    environment = {
        **os.environ,
        "CLOISTER_HOME": str(home),
        "CLOISTER_BUILTIN": "false",
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
    }
    command = [sys.executable, "-c", _PROGRAM]
    return measure(
        lambda: subprocess.run(
            command, env=environment, check=True, stdout=subprocess.DEVNULL
        )
    )


def bench(model: Path, home: Path, *, n_models: int, rounds: int) -> dict[str, float]:
    """Measure all three ways, in seconds."""
    store = Store(home)
    fill_store(store, model, n_models)
    catalog = Catalog([store.models_dir])

    def list_all() -> int:
        catalog.refresh()
        return len(list_models(catalog, store))

    cold_s = measure(list_all)
    if list_all() != n_models:
        raise RuntimeError(f"listed are not {n_models} models")
    begin_cpu_s = time.process_time()
    warm_s = statistics.median(measure(list_all) for _ in range(rounds))
    cpu_s = (time.process_time() - begin_cpu_s) / rounds
    process_s = run_command(home)
    return {"cold": cold_s, "warm": warm_s, "warm_cpu": cpu_s, "process": process_s}


def main() -> int:
    """Run the measurement; exit code 1 if a warm listing is too slow."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--model", type=Path, help="GGUF file; else one is made")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "model.gguf")
        if options.model is None:
            # It needs numpy, which takes a moment.
            from scripts.make_model import write_model  # noqa: PLC0415

            write_model(source, "tiny-qwen2")
        else:
            source.write_bytes(options.model.read_bytes())
        result = bench(
            source,
            Path(folder, "home"),
            n_models=options.models,
            rounds=options.rounds,
        )
    if options.json:
        print(json.dumps({"n_models": options.models, "seconds": result}))
    else:
        for name, seconds in result.items():
            print(f"{name:<9}{seconds * 1000:9.1f} ms")
    return 0 if result["warm"] < LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())

"""The store's bench: its model is one, and its table compares."""

import subprocess
import sys
from pathlib import Path

from model_store.gguf import read_header
from model_store.summary import summarize
from scripts.bench_store import write_gguf

ROOT = Path(__file__).resolve().parents[2]


def test_the_measured_file_is_a_model_of_the_wanted_size(tmp_path):
    path = tmp_path / "m.gguf"
    write_gguf(path, 3_000_000)
    assert abs(path.stat().st_size - 3_000_000) < 8192
    assert "llama" == summarize(read_header(path)).architecture


def test_the_table_compares_with_the_slower_of_cp_and_sha256sum(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "scripts/bench_store.py",
            "--size-mb",
            "1",
            "--rounds",
            "1",
            "--folder",
            tmp_path,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = {line[:18].strip(): line.split()[-1] for line in done.stdout.splitlines()}
    assert {"sha256sum", "cp", "cp and sync", "import", "cloister import"} < set(rows)
    assert "1.00" in {rows["sha256sum"], rows["cp"]}
    assert [] == list(tmp_path.iterdir())

"""What a server never imports, looked up in a process that serves."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEVER = ("diskcache", "llama_cpp.llama_cache", "llama_cpp.llama", "pickle5")
SERVER_ONLY = ("huggingface_hub", "llama_cpp", "schemathesis", "requests")

IMPORT_ALL = """
import sys
import server.cli
import server.serving
import server.app
print(*sorted(sys.modules))
"""
IMPORT_WORKER = """
import sys
import server.worker.session
import server.worker.bindings
server.worker.bindings.load_bindings()
print(*sorted(sys.modules))
"""


def modules_of(code):
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        cwd=ROOT,
        text=True,
        timeout=60,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("code", "has"),
    [
        pytest.param(IMPORT_ALL, {"server.app"}, id="server"),
        pytest.param(IMPORT_WORKER, {"llama_cpp.llama_cpp"}, id="worker"),
    ],
)
def test_no_process_loads_the_pickling_cache_or_the_url_opening_handlers(code, has):
    loaded = modules_of(code)
    assert {"server", *has} <= loaded
    assert set() == loaded & set(NEVER)


def test_the_server_loads_neither_engine_nor_downloader():
    loaded = modules_of(IMPORT_ALL)
    assert set() == loaded & set(SERVER_ONLY)

"""`cloister selftest` as an operator runs it: a real engine, real answers."""

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios

import psutil
import pytest

from model_store import builtin
from tests.e2e.server_process import (
    ROOT,
    free_port,
    is_worker,
    make_environment,
    wait_until,
)

pytestmark = [
    pytest.mark.skipif(
        not builtin.is_present(),
        reason=f"{builtin.MODEL_NAME} is not in this checkout",
    ),
    pytest.mark.timeout(180),
]
RUN_S = 170
KEY = "a-key-for-this-test"


@pytest.fixture
def begin(tmp_path):
    """Start the self-test in an environment that would hinder a careless one."""
    (tmp_path / "server").mkdir()
    (tmp_path / "cloister.toml").write_text("nonsense = 1\n")
    started = []

    def begin(*arguments, stdout=subprocess.PIPE, **environment):
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "server", "selftest", *arguments],
            stdout=stdout,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=make_environment(
                tmp_path / "unused",
                PYTHONPATH=str(ROOT),
                CLOISTER_PORT="nonsense",
                TMPDIR=str(tmp_path),
                http_proxy="http://192.0.2.1:1",
                **environment,
            ),
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
        process.communicate()


def finish(process):
    output, log = process.communicate(timeout=RUN_S)
    assert "Traceback" not in log
    return process.returncode, output


def test_it_proves_this_installation_and_leaves_nothing(begin, tmp_path):
    before = {path.name for path in tmp_path.iterdir()}
    code, output = finish(begin())
    assert 0 == code, output
    *rows, last = output.splitlines()
    assert all(row.startswith("ok ") for row in rows)
    assert re.fullmatch(
        rf"{len(rows)} checks in [\d.]+ s: {len(rows)} ok. This installation works.",
        last,
    )
    assert before == {path.name for path in tmp_path.iterdir()}


def test_a_running_server_is_tested_and_told_as_json(begin, start_server):
    server = start_server(environment={"CLOISTER_BUILTIN": "1"})
    code, output = finish(begin("--url", server.url, "--json"))
    document = json.loads(output)
    assert (0, True) == (code, document["ok"]), output
    assert server.url == document["url"]
    names = [check["name"] for check in document["checks"]]
    assert "greedy, 8 at once" in names
    for name in ("tool call", "streamed tool call", "JSON schema", "thinking"):
        assert name in names
    assert "server start" not in names
    assert 200 == server.get("/health").status_code


def test_lines_end_where_the_terminals_do(begin):
    ours, its = pty.openpty()
    try:
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
        process = begin("--url", f"http://127.0.0.1:{free_port()}", stdout=its)
        process.communicate(timeout=RUN_S)
        lines = os.read(ours, 65536).decode().splitlines()
    finally:
        os.close(ours)
        os.close(its)
    # The last line is a sentence, which the terminal breaks.
    assert max(map(len, lines[:-1])) <= 60, lines
    (first,) = [n for n, line in enumerate(lines) if line.startswith("ok      model")]
    assert re.fullmatch(r" {37}[0-9a-f]{16}…", lines[first + 1]), lines


def test_a_server_without_the_model_fails(begin, start_server):
    code, output = finish(begin("--url", start_server().url))
    assert 1 == code
    assert "FAILED  model listed" in output
    assert "Start the server without --no-builtin." in output
    assert "Do not rely on this installation" in output.splitlines()[-1]


def test_other_weights_fail_the_answers_and_not_the_protocol(
    begin, start_server, tmp_path
):
    """What a CPU that computes wrongly would do, weights that are wrong do too."""
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / builtin.MODEL_NAME
    shutil.copy(builtin.DIRECTORY / builtin.MODEL_NAME, path)
    with path.open("r+b") as file:
        # In the tensors; the header ends long before.
        file.seek(path.stat().st_size // 2)
        file.write(bytes(400_000))
    server = start_server("--models-dir", tmp_path / "models", "--verify", "off")
    code, output = finish(begin("--url", server.url, "--json"))
    checks = {check["name"]: check for check in json.loads(output)["checks"]}
    assert 1 == code
    for n in (1, 2, 4, 8):
        assert "failed" == checks[f"greedy, {n} at once"]["status"]
        assert "answers differ" in checks[f"greedy, {n} at once"]["actual"]
        assert "DGGML_NATIVE=OFF" in checks[f"greedy, {n} at once"]["advice"]
    for name in ("model file", "model load", "embeddings", "prompt too long"):
        assert "ok" == checks[name]["status"]


def test_a_key_of_the_running_server_is_taken_from_the_environment(begin, start_server):
    server = start_server(
        environment={"CLOISTER_BUILTIN": "1", "CLOISTER_API_KEY": KEY}
    )
    code, output = finish(begin("--url", server.url))
    assert 1 == code
    assert "status 401" in output
    assert "into CLOISTER_API_KEY." in output
    code, output = finish(begin("--url", server.url, CLOISTER_API_KEY=KEY))
    assert 0 == code, output
    assert KEY not in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_test_ends_its_server_and_removes_its_folder(
    begin, tmp_path, number
):
    process = begin()
    descendants = []

    def has_worker():
        descendants[:] = psutil.Process(process.pid).children(recursive=True)
        return any(map(is_worker, descendants))

    wait_until(has_worker, RUN_S, "the self-test's server has a worker")
    process.send_signal(number)
    code, _ = finish(process)
    assert 130 == code
    _, alive = psutil.wait_procs(descendants, timeout=10)
    assert [] == alive
    assert [] == list(tmp_path.glob("cloister-selftest-*"))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's seal is Linux's")
def test_the_seal_is_tested_where_it_is_asked_for(begin):
    code, output = finish(begin("--offline"))
    assert 0 == code, output
    assert re.search(r"^ok +offline seal +.* kernel: ", output, re.MULTILINE)
    assert re.search(r"the kernel filters all [2-9] processes", output)


def test_an_open_server_fails_the_test_of_the_seal(begin, start_server):
    server = start_server(environment={"CLOISTER_BUILTIN": "1"})
    code, output = finish(begin("--offline", "--url", server.url, "--json"))
    checks = json.loads(output)["checks"]
    failed = [check for check in checks if check["status"] != "ok"]
    assert (1, ["offline seal"]) == (code, [check["name"] for check in failed])
    assert '"level": "kernel" in /cloister/seal' == failed[0]["expected"]

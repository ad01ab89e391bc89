"""A sealed server at work, looked at from outside, and the proof that it holds."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import httpx
import pytest

from server.seal.install import explain_absence
from server.seal.process_view import view_process
from tests.e2e.server_process import (
    GREEDY,
    ROOT,
    lives,
    make_environment,
    run_serve,
    texts_of,
    wait_until,
)

pytestmark = pytest.mark.skipif(
    explain_absence() is not None, reason=f"no kernel seal here: {explain_absence()}"
)
MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def sealed(start_server, made_models):
    return start_server("--models-dir", made_models, "--offline")


def chat(server, model="tiny-llama", **more):
    return server.post(
        "/v1/chat/completions",
        model=model,
        messages=MESSAGES,
        max_tokens=8,
        **GREEDY,
        **more,
    )


def test_a_sealed_server_says_so_everywhere(sealed):
    assert (
        "Offline seal: kernel: no process of this server can open a connection"
        in sealed.banner.splitlines()
    )
    assert {"status": "ok", "seal": "kernel"} == sealed.get("/health").json()
    body = sealed.get("/cloister/seal").json()
    assert "kernel" == body["level"]
    assert {"counts": {}, "last": []} == body["blocked"]


def test_an_open_server_says_that_too(server):
    assert "Offline seal: off: nothing stops an outgoing connection" in server.banner
    assert {"status": "ok", "seal": "off"} == server.get("/health").json()


def test_answers_are_those_of_an_open_server(sealed, server):
    for path, body in (
        ("/v1/completions", {"model": "tiny-llama", "prompt": "The wheel"}),
        ("/v1/chat/completions", {"model": "tiny-llama", "messages": MESSAGES}),
    ):
        mine, theirs = (
            each.post(path, **body, max_tokens=12, **GREEDY).json()["choices"]
            for each in (sealed, server)
        )
        assert theirs == mine
    body = {"model": "tiny-bert", "input": "the wheel"}
    mine, theirs = (
        each.post("/v1/embeddings", **body).json()["data"] for each in (sealed, server)
    )
    assert theirs == mine
    with sealed.stream(
        "/v1/completions",
        model="tiny-llama",
        prompt="The wheel",
        max_tokens=12,
        **GREEDY,
    ) as stream:
        streamed = texts_of(list(stream))
    whole = sealed.complete("tiny-llama", "The wheel", max_tokens=12)
    assert whole["choices"][0]["text"] == streamed


def test_server_and_workers_are_sealed_thread_by_thread(sealed):
    assert 200 == chat(sealed).status_code
    (worker,) = sealed.workers()
    for pid, n_filters in ((sealed.pid, 2), (worker.pid, 4)):
        view = view_process(pid, "process")
        assert view.is_sealed, view
        assert n_filters == view.n_filters
        assert 0 == int(view.capabilities, 16) & (1 << 12 | 1 << 13 | 1 << 21)


def test_a_worker_of_an_open_server_is_sealed_as_well(server):
    chat(server)
    assert all(view_process(w.pid, "worker").is_sealed for w in server.workers())
    assert 0 == view_process(server.pid, "server").seccomp[0]


def test_killed_workers_are_replaced_behind_the_seal(sealed):
    for _ in range(2):
        assert 200 == chat(sealed).status_code
        (worker,) = sealed.workers()
        worker.send_signal(signal.SIGKILL)
        wait_until(lambda worker=worker: not lives(worker), 10, "the worker is gone")
    assert 200 == chat(sealed).status_code


def test_models_come_and_go_behind_the_seal(start_server, made_models):
    server = start_server("--models-dir", made_models, "--offline", "--ttl", "1")
    assert 200 == chat(server).status_code
    wait_until(lambda: not server.workers(), 20, "the idle model is unloaded")
    assert 200 == chat(server).status_code
    assert 200 == chat(server, "Tiny-Qwen2").status_code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_order(sealed, number):
    assert 200 == chat(sealed).status_code
    workers = sealed.workers()
    sealed.signal(number)
    assert 0 == sealed.wait()
    assert not any(lives(worker) for worker in workers)


def test_models_that_are_added_later_are_served(start_server, made_models, tmp_path):
    folder = tmp_path / "later"
    folder.mkdir()
    server = start_server("--models-dir", folder, "--offline")
    shutil.copy(made_models / "acme/llama/tiny-llama-F32.gguf", folder)
    assert 200 == chat(server).status_code


@pytest.mark.parametrize(
    "how", [["--offline"], ["CLOISTER_OFFLINE=1"], ["offline = true"]]
)
def test_it_is_asked_for_by_flag_variable_and_file(start_server, tmp_path, how):
    (tmp_path / "none").mkdir()
    (word,) = how
    environment = dict([word.split("=")]) if word.startswith("CLOISTER") else {}
    arguments = [word] if word.startswith("--") else []
    if "=" in word and not environment:
        (tmp_path / "cloister.toml").write_text(word)
        arguments = ["--config", tmp_path / "cloister.toml"]
    server = start_server(
        *arguments, "--models-dir", tmp_path / "none", environment=environment
    )
    assert "kernel" == server.get("/health").json()["seal"]


def test_the_weaker_level_is_had_by_name_and_named(start_server, made_models):
    server = start_server("--models-dir", made_models, "--offline=process")
    assert (
        "Offline seal: process: Python code cannot connect; native code is not held"
        in server.banner.splitlines()
    )
    assert "process" == server.get("/health").json()["seal"]
    assert 200 == chat(server).status_code


REFUSE = """
import errno, sys
from server.seal.bpf import Rule
from server.seal.install import install_filter
from server.cli import main
install_filter([Rule("seccomp", "", errno.EINVAL)])
sys.exit(main(["serve", "--port", "0", *sys.argv[1:]]))
"""


def test_a_machine_without_seccomp_stops_and_names_the_weaker_level(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", REFUSE, "--offline"],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env=make_environment(tmp_path / "home"),
        text=True,
        timeout=30,
    )
    assert (1, "") == (done.returncode, done.stdout)
    (line,) = done.stderr.splitlines()
    assert (
        "--offline cannot be kept on this machine: this kernel has no seccomp" in line
    )
    assert "--offline=process" in line


def test_a_wrong_level_is_refused(tmp_path):
    done = run_serve(tmp_path, "--offline=sometimes")
    assert 2 == done.returncode
    assert (
        "--offline sometimes is not valid: expected on, off or process" in done.stderr
    )


EARLY = """
import sys
from server.cli import serve
def stop(*arguments, **more):
    print(*sorted(sys.modules))
    raise SystemExit(0)
serve.seal_server = stop
from server.cli import main
main(["serve", "--port", "0", "--offline"])
"""


def test_what_could_talk_is_imported_behind_the_seal(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", EARLY],
        capture_output=True,
        check=True,
        cwd=ROOT,
        env=make_environment(tmp_path / "home"),
        text=True,
        timeout=30,
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    talkers = {"fastapi", "httpx", "huggingface_hub", "requests", "urllib3", "uvicorn"}
    assert set() == loaded & (talkers | {"llama_cpp", "numpy", "starlette"})


def can_trace():
    if shutil.which("strace") is None:
        return False
    done = subprocess.run(["strace", "-f", "true"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.skipif(not can_trace(), reason="needs strace and leave to trace")
@pytest.mark.timeout(150)
@pytest.mark.parametrize("mode", [[], ["--offline"]], ids=["open", "sealed"])
def test_no_call_leads_outside_in_either_mode(
    start_server, made_models, tmp_path, mode
):
    record = tmp_path / "calls"
    server = start_server(
        *("--models-dir", made_models, *mode),
        before=["strace", "-f", "-e", "trace=network", "-o", record],
    )
    chat(server)
    server.post("/v1/embeddings", model="tiny-bert", input="the wheel")
    server.get("/v1/models")
    server.get("/cloister/seal")
    server.server.terminate()
    assert 0 == server.wait()
    calls = record.read_text(encoding="utf-8", errors="replace")
    assert 1 == len(re.findall(r"\bbind\(\d+, \{sa_family=AF_INET", calls))
    assert "accept4(" in calls
    assert [] == re.findall(r"\bconnect\(.*", calls)
    # Messages go to a peer that is there, so without an address.
    sent = re.findall(r"\bsend(?:to|msg|mmsg)\(.*", calls)
    assert sent
    assert [] == [call for call in sent if not re.search(r"NULL, 0(\)| <unf)", call)]
    made = re.findall(r"\bsocket\((\w+), ([\w|]+)", calls)
    if mode:
        assert [("AF_INET", "SOCK_STREAM|SOCK_CLOEXEC")] == [
            (family, kind) for family, kind in made
        ]
        assert "EACCES" not in calls


@pytest.mark.timeout(240)
def test_the_proof_holds_on_this_machine(tmp_path):
    report = tmp_path / "seal.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "server", "doctor", "--prove-offline"),
            *("--json", "--report", report),
        ],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env=make_environment(tmp_path / "home"),
        text=True,
        timeout=220,
    )
    document = json.loads(done.stdout)
    assert [] == document["problems"]
    assert 0 == done.returncode
    assert document == json.loads(report.read_text())
    assert document["ok"]
    assert document["n_ways"] >= 80
    for role in ("server", "worker", "filter"):
        blocked = [
            row
            for row in document["rows"]
            if (row["role"], row["verdict"]) == (role, "blocked")
        ]
        assert len(blocked) >= 60
        assert not any(row["heard"] for row in blocked)
    assert {"server", "worker"} >= {view["what"] for view in document["processes"]}
    assert all(
        each["why"] for view in document["processes"] for each in view["descriptors"]
    )


def can_isolate():
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "--user", "--map-root-user", "--net", "--mount", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_isolate(), reason="needs unshare and leave for namespaces")
@pytest.mark.timeout(240)
def test_without_the_seal_the_same_ways_lead_out(tmp_path):
    report = tmp_path / "control.json"
    done = subprocess.run(
        [
            *("unshare", "--user", "--map-root-user", "--net", "--mount"),
            *(sys.executable, "-m", "server", "doctor", "--control"),
            *("--json", "--report", report),
        ],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env=make_environment(tmp_path / "home"),
        text=True,
        timeout=220,
    )
    document = json.loads(report.read_text())
    assert [] == document["problems"]
    assert 0 == done.returncode
    assert document["is_control"]
    assert document["counts"]["got out"] >= 80


def test_a_client_of_a_sealed_server_is_told_what_was_blocked(tmp_path):
    code = """
import socket, sys
from server.seal.apply import seal_server
from server.seal.level import Level
listener = socket.create_server(("127.0.0.1", 0))
seal = seal_server(Level.KERNEL, (listener.fileno(),))
for _ in range(3):
    try:
        socket.create_connection(("127.0.0.1", 9))
    except PermissionError:
        pass
import uvicorn, asyncio
from server.app import create_app
from tests.fake_engine import FakeEngine
print(listener.getsockname()[1], flush=True)
app = create_app(engine=FakeEngine(), seal=seal)
server = uvicorn.Server(uvicorn.Config(app, log_config=None))
asyncio.run(server.serve(sockets=[listener]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        text=True,
        env=os.environ | {"HOME": str(tmp_path)},
    ) as process:
        try:
            url = f"http://127.0.0.1:{process.stdout.readline().strip()}/cloister/seal"
            body = httpx.get(url, trust_env=False).json()
        finally:
            process.kill()
    assert {"resolve": 3} == body["blocked"]["counts"]
    last = body["blocked"]["last"][-1]
    assert ("127.0.0.1:9", "__main__", 9, "server") == (
        last["address"],
        last["module"],
        last["line"],
        last["process"],
    )

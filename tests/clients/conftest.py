"""One real server for all clients, and the proof that none of them calls home.

These tests run in the clients' own environment (`make test-clients`); those of
the openai SDK run in the project's own as well.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tests.clients.questions import MODEL

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / ".venv-clients"
START_S = 60.0
END_S = 20.0
POLL_S = 0.05
REQUEST_S = 60.0

# Each client's own switch for what it would send home. They are read when a
# client is imported, so no fixture could set them in time.
os.environ.update(
    {
        "DO_NOT_TRACK": "1",
        "LANGCHAIN_TRACING_V2": "false",
        "LANGSMITH_TRACING": "false",
        "LOGFIRE_SEND_TO_LOGFIRE": "false",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "OTEL_SDK_DISABLED": "true",
    }
)

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_FOREIGN_KEYS = ("OPENAI_", "LANGSMITH_", "LANGCHAIN_", "LOGFIRE_", "OTEL_")
_URL = re.compile(r"Cloister listens on (http://\S+)")


@dataclass(frozen=True)
class Server:
    """A `cloister serve` with the built-in model novice alone.

    Args:
        url: Of the server.
        api: Base URL that the clients of the OpenAI API are given.
    """

    url: str
    api: str

    def tokenize(self, text: str) -> list[int]:
        """Give the tokens of a text, special ones too, without any client."""
        body = {"model": MODEL, "content": text, "parse_special": True}
        request = urllib.request.Request(  # noqa: S310 always http on loopback
            self.url + "/tokenize",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with _OPENER.open(request, timeout=END_S) as response:
            tokens: list[int] = json.loads(response.read())["tokens"]
        return tokens


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _find_program() -> str:
    """Find the server: it is not installed where the clients are."""
    beside = Path(sys.executable).parent / "cloister"
    for path in (os.environ.get("CLOISTER"), beside, ROOT / ".venv/bin/cloister"):
        if path and Path(path).is_file():
            return str(path)
    pytest.skip("no program cloister: run make install, or set CLOISTER to it")


def _wait_for_start(process: subprocess.Popen[bytes], output: Path, log: Path) -> str:
    """Wait until the server is healthy and give its URL."""
    give_up_s = time.monotonic() + START_S
    while time.monotonic() < give_up_s and process.poll() is None:
        found = _URL.search(output.read_text(encoding="utf-8"))
        if found is not None:
            with (
                suppress(OSError),
                _OPENER.open(found[1] + "/health", timeout=5) as answer,
            ):
                if json.loads(answer.read())["status"] == "ok":
                    return found[1]
        time.sleep(POLL_S)
    raise AssertionError(
        f"the server did not start (exit code {process.poll()}): "
        f"{output.read_text(encoding='utf-8')}{log.read_text(encoding='utf-8')}"
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop the server in order, and its whole process group if it does not."""
    process.terminate()
    try:
        process.wait(END_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(END_S)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run one server for all tests, with a home of its own."""
    folder = tmp_path_factory.mktemp("clients")
    output, log = folder / "stdout", folder / "stderr"
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CLOISTER")}
    with output.open("wb") as to_output, log.open("wb") as to_log:
        process = subprocess.Popen(
            [_find_program(), "serve", "--port", "0", "--threads", "1"],
            stdin=subprocess.DEVNULL,
            stdout=to_output,
            stderr=to_log,
            cwd=folder,
            env={
                **kept,
                "CLOISTER_HOME": str(folder / "home"),
                "GOMP_SPINCOUNT": "0",
                "OMP_WAIT_POLICY": "passive",
            },
            start_new_session=True,
        )
        try:
            url = _wait_for_start(process, output, log)
            yield Server(url, url + "/v1")
        finally:
            _end(process)


@pytest.fixture
def chat(server: Server) -> Iterator[Any]:
    """Give the chat completions of the official client, or skip."""
    openai = pytest.importorskip("openai", reason="needs openai: make test-clients")
    with openai.OpenAI(
        base_url=server.api, api_key="unused", max_retries=0, timeout=REQUEST_S
    ) as client:
        yield client.chat.completions


@pytest.fixture
def create(chat: Any) -> Callable[..., Any]:
    """Ask for a completion of Novice that is the same each time."""
    return partial(chat.create, model=MODEL, temperature=0)


@pytest.fixture
def choose(create: Callable[..., Any]) -> Callable[..., Any]:
    """Ask as `create` does and give the first choice."""
    return lambda **request: create(**request).choices[0]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide proxies, keys and addresses of whoever runs the tests."""
    for name in list(os.environ):
        is_switch = os.environ[name] in {"0", "1", "true", "false"}
        is_proxy = name.upper() in _PROXIES
        if is_proxy or (name.startswith(_FOREIGN_KEYS) and not is_switch):
            monkeypatch.delenv(name)


class Gate:
    """Refuses every way of this process off the machine while it is shut.

    Args:
        is_shut: From the start on, and between tests.
    """

    def __init__(self, *, is_shut: bool) -> None:
        self.is_shut = self.is_always_shut = is_shut
        self.refused: list[str] = []
        # There is no way to remove an audit hook.
        sys.addaudithook(self._judge)

    def _judge(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_shut:
            return
        if event in {"socket.connect", "socket.sendto"}:
            target = arguments[1]
        elif event == "socket.getaddrinfo":
            target = arguments[:2]
        else:
            return
        if not _is_here(target):
            self.refused.append(f"{event} {target}")
            raise PermissionError(f"the tests do not leave the machine: {target}")


def _is_here(target: object) -> bool:
    """Tell whether an address is a loopback one, or a path of a Unix socket."""
    if not isinstance(target, tuple):
        return True
    host = target[0]
    if isinstance(host, bytes):
        host = host.decode()
    if host in {None, "", "localhost"}:
        return True
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return False


_GATE = pytest.StashKey[Gate]()


def pytest_configure(config: pytest.Config) -> None:
    """Put up the gate before any client is imported.

    In the clients' own environment it is shut until the process ends; in the
    project's own other tests run too, and it is shut for the tests here alone.
    """
    is_own = Path(sys.prefix).resolve() == CLIENTS.resolve()
    config.stash[_GATE] = Gate(is_shut=is_own)


@pytest.fixture(scope="session")
def gate(pytestconfig: pytest.Config) -> Gate:
    """Return the one gate of this process."""
    return pytestconfig.stash[_GATE]


@pytest.fixture(autouse=True)
def no_way_out(gate: Gate) -> Iterator[None]:
    """Fail a test in which, or before which, a client tried to leave the machine."""
    gate.is_shut = True
    yield
    gate.is_shut = gate.is_always_shut
    refused = [*gate.refused]
    gate.refused.clear()
    assert [] == refused

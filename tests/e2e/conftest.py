"""Servers and models for the tests that run the whole program."""

from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

from model_store import builtin
from scripts.make_model import write_model
from tests.e2e.server_process import REQUEST_S, Server

MADE = {
    "acme/llama/tiny-llama-F32.gguf": "tiny-llama",
    "acme/qwen/Tiny-Qwen2.gguf": "tiny-qwen2",
    "acme/gemma/tiny-gemma3.gguf": "tiny-gemma3",
    "acme/mamba/tiny-mamba.gguf": "tiny-mamba",
    "acme/jamba/tiny-jamba.gguf": "tiny-jamba",
    "acme/bert/tiny-bert.gguf": "tiny-bert",
    # Names that are hard to put into a URL.
    "acme/dup/twin-F32.gguf": "tiny-llama-bare",
    "other/dup/twin-F32.gguf": "tiny-llama-bare",
    "acme/dup/twin-F16.gguf": "tiny-llama-bare",
    "acme/odd/odd:name.gguf": "tiny-llama-bare",
}
"""Paths below a models directory and the kinds of models there."""

REAL = {
    "karpathy/stories/stories260K.gguf": "stories260K.gguf",
    "sentence/minilm/all-minilm-l6-v2-q8_0.gguf": "all-minilm-l6-v2-q8_0.gguf",
}


@pytest.fixture(scope="session")
def made_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a models directory with one model of each kind, made here."""
    root = tmp_path_factory.mktemp("made")
    for relative, kind in MADE.items():
        path = root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        quant = "F16" if "F16" in path.name else None
        write_model(path, kind, quant=quant)
    return root


@pytest.fixture(scope="session")
def real_models(shared_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a models directory of links to real model files, or skip."""
    root = tmp_path_factory.mktemp("real")
    for relative, name in REAL.items():
        target = shared_models / name
        if not target.is_file():
            pytest.skip(f"no file {target}: these tests need it")
        (root / relative).parent.mkdir(parents=True)
        (root / relative).symlink_to(target)
    return root


@pytest.fixture(scope="session")
def server(
    made_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Run one server over all made models; tests must leave it as it was."""
    folder = tmp_path_factory.mktemp("server")
    running = Server(folder, ["--models-dir", made_models])
    yield running
    running.kill()


@pytest.fixture(scope="session")
def real_server(
    real_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Run one server over the real models; tests must leave it as it was."""
    folder = tmp_path_factory.mktemp("real-server")
    running = Server(folder, ["--models-dir", real_models])
    yield running
    running.kill()


@pytest.fixture(scope="session")
def novice(
    made_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Run one server over made models and the built-in one, eight at once."""
    if not builtin.is_present():
        pytest.skip(f"{builtin.MODEL_NAME} is not in this checkout")
    folder = tmp_path_factory.mktemp("novice")
    arguments = ["--models-dir", made_models / "acme", "--parallel", "8"]
    running = Server(folder, arguments, environment={"CLOISTER_BUILTIN": "1"})
    yield running
    running.kill()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers of a test's own; all are killed at its end."""
    started: list[Server] = []

    def start(*arguments: str | Path, **more: object) -> Server:
        folder = tmp_path / f"server-{len(started)}"
        started.append(Server(folder, arguments, **more))
        return started[-1]

    yield start
    for running in started:
        running.kill()


@pytest.fixture
def connect() -> Iterator[Callable[[Server], openai.OpenAI]]:
    """Connect the official client to a server; it never repeats a request."""
    clients: list[openai.OpenAI] = []

    def make(server: Server) -> openai.OpenAI:
        client = openai.OpenAI(
            base_url=server.url + "/v1",
            api_key="unused",
            max_retries=0,
            timeout=REQUEST_S,
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()

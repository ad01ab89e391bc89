"""Requests made from our own OpenAPI description: no 5xx, no hang."""

import os

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode

from server.app import create_app
from tests.e2e.server_process import REQUEST_S, Server
from tests.fake_engine import FakeEngine

IS_LONG = bool(os.environ.get("CLOISTER_TEST_LONG"))
N_REQUESTS = 5000 if IS_LONG else 300

DESCRIPTION = create_app(engine=FakeEngine()).openapi()
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)
OPERATIONS = {found.ok().label: found.ok() for found in SCHEMA.get_all_operations()}
WITH_BODY = [label for label in OPERATIONS if label.startswith("POST")]
MODES = {"valid": GenerationMode.POSITIVE, "wrong": GenerationMode.NEGATIVE}
# Bodies are where the variety is; the others have a path at most.
N_BODY = N_REQUESTS // (2 * len(WITH_BODY)) + 1
N_OTHER = 20
MODELS = {"POST /v1/embeddings": "tiny-bert"}


@pytest.fixture(scope="module")
def small_server(made_models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("described")
    arguments = ["--models-dir", made_models, "--context-length", "128"]
    server = Server(folder, arguments)
    for model in ("tiny-llama", "tiny-bert"):
        server.post("/v1/completions", model=model, prompt="x", max_tokens=1)
    yield server
    server.kill()


@pytest.fixture
def session():
    with requests.Session() as session:
        session.trust_env = False  # no proxy of the environment gets to see this
        yield session


PLAIN = {
    "model",
    "frequency_penalty",
    "max_tokens",
    "min_p",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "top_k",
    "top_p",
}
"""Fields that mostly leave a request possible."""
FEW = 1


def lead_on(body: object, label: str, *, plain: bool) -> object:
    """Let a body reach the engine: it must name a model, and ask for little.

    Args:
        body: As it was made.
        label: The operation's.
        plain: Whether to give it a good prompt too, and drop most fields.
    """
    if not isinstance(body, dict):
        return body
    body = body | {"model": MODELS.get(label, "tiny-llama")}
    for key, most in (("max_tokens", 4), ("max_completion_tokens", 4), ("n", 2)):
        if isinstance(body.get(key), int) and body[key] > most:
            body[key] = most
    if plain:
        messages = [{"role": "user", "content": str(body.get("messages"))[:50]}]
        kept = [key for key in body if key in PLAIN]
        # Most values are out of range; with all of them nothing would be left.
        body = {key: body[key] for key in kept[:FEW]}
        body |= {"messages": messages, "prompt": "x", "input": ["x", "y"]}
    return body


def run(server, session, strategy, n_requests, label):
    """Send requests: as they were made, with a model, and likely to be possible."""
    statuses = []

    @settings(
        max_examples=n_requests,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy, change=st.integers(0, 2))
    def send(case, change):
        if change:
            case.body = lead_on(case.body, label, plain=change == 2)
        answer = case.call(base_url=server.url, session=session, timeout=REQUEST_S)
        statuses.append(answer.status_code)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400 and answer.request.method != "HEAD":
            assert {"message", "type", "param", "code"} == set(answer.json()["error"])

    send()
    return statuses


@pytest.mark.timeout(900 if IS_LONG else 60)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("label", WITH_BODY)
def test_bodies_of_every_kind_are_answered(small_server, session, label, mode):
    strategy = OPERATIONS[label].as_strategy(generation_mode=MODES[mode])
    statuses = run(small_server, session, strategy, N_BODY, label)
    assert len(statuses) >= N_BODY
    # Few wrong ones may all be beyond repair by `lead_on`.
    wanted = {400} if mode == "wrong" and not IS_LONG else {200, 400}
    assert wanted <= set(statuses)


@pytest.mark.timeout(900 if IS_LONG else 60)
@pytest.mark.parametrize("label", sorted(set(OPERATIONS) - set(WITH_BODY)))
def test_all_other_requests_are_answered(small_server, session, label):
    strategy = OPERATIONS[label].as_strategy(generation_mode=GenerationMode.POSITIVE)
    assert run(small_server, session, strategy, N_OTHER, label)

"""The official Node client, run once; what it got is judged here."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import CLIENTS
from tests.clients.questions import MODEL, SUM

PROGRAM = Path(__file__).with_name("openai_node.mjs")
RUN_S = 100.0


@pytest.fixture(scope="module")
def results(server):
    """What the program printed; it is run where the client is installed."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no program node on PATH")
    if not (CLIENTS / "node_modules/openai").is_dir():
        pytest.skip("needs openai for Node: run make test-clients")
    unwanted = ("OPENAI_", "HTTP_", "HTTPS_", "ALL_", "NODE_")
    run = subprocess.run(
        # Given as standard input, so that its imports are looked for there.
        [node, "--input-type=module", "-", server.api, MODEL],
        input=PROGRAM.read_text(encoding="utf-8"),
        capture_output=True,
        check=False,
        cwd=CLIENTS,
        env={k: v for k, v in os.environ.items() if not k.startswith(unwanted)},
        text=True,
        timeout=RUN_S,
    )
    assert 0 == run.returncode, run.stderr
    return json.loads(run.stdout)


def test_chat_answers(results):
    assert SUM == results["chat"]["content"]
    usage = results["chat"]["usage"]
    assert usage["total_tokens"] == (
        usage["prompt_tokens"] + usage["completion_tokens"]
    )


def test_a_stream_adds_up_and_ends_with_its_usage(results):
    assert SUM == results["stream"]["content"]
    assert results["stream"]["n_pieces"] > 3
    streamed, whole = results["stream"]["usage"], results["chat"]["usage"]
    assert streamed["total_tokens"] == whole["total_tokens"]


@pytest.mark.parametrize("run", ["run_tools", "run_tools_streamed"])
def test_the_tool_helper_calls_and_reports(results, run):
    assert {
        "content": "The result is 42.",
        "seen": ["Zurich"],
        "roles": ["user", "assistant", "tool", "assistant"],
    } == results[run]


def test_a_streamed_call_is_put_together(results):
    call = results["stream_call"]
    assert "tool_calls" == call["finish_reason"]
    assert "get_weather" == call["name"]
    assert {"city": "Zurich"} == json.loads(call["arguments"])
    assert call["arguments"] == "".join(call["deltas"])
    assert len(call["deltas"]) > 3


def test_a_schema_gives_its_object(results):
    assert {"name": "Ada", "city": "Zurich"} == json.loads(results["schema"])


def test_a_schema_holds_whatever_is_asked(results):
    answer = json.loads(results["schema_of_anything"])
    assert ["name", "city"] == list(answer)
    assert {str} == {type(value) for value in answer.values()}


def test_a_bad_tool_is_refused_by_its_place(results):
    assert {
        "is_bad_request": True,
        "code": "invalid_value",
        "param": "tools[0].function.name",
    } == results["refusal"]

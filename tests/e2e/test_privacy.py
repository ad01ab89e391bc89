"""What users write stays here: not in the log, not on any wire."""

import re
import shutil
import subprocess

import pytest

from tests.e2e.server_process import GREEDY

MARK = "xyzzy plugh quetzalcoatl"


@pytest.mark.parametrize("level", ["info", "debug"])
def test_the_log_holds_neither_prompts_nor_answers(start_server, made_models, level):
    server = start_server("--models-dir", made_models, "--log-level", level)
    answer = server.complete("tiny-llama", MARK, max_tokens=40, echo=True, logprobs=2)
    text = answer["choices"][0]["text"]
    messages = [{"role": "user", "content": MARK, "name": MARK}]
    for stream in (False, True):
        server.post(
            "/v1/chat/completions",
            model="tiny-llama",
            messages=messages,
            stream=stream,
            max_tokens=40,
            stop=[MARK],
            **GREEDY,
        )
    server.post("/v1/embeddings", model="tiny-bert", input=MARK)
    # Refusals, too: too long, of the wrong type, in the wrong place, no JSON.
    server.post("/v1/completions", model="tiny-llama", prompt=MARK * 2000)
    server.post("/v1/completions", model="tiny-llama", prompt={MARK: MARK})
    server.post("/v1/chat/completions", model="tiny-llama", messages=MARK)
    server.post("/v1/chat/completions", model=MARK, messages=messages)
    server.get(f"/v1/models/{MARK}")
    assert 0 == server.stop()
    assert "tiny-llama is ready after" in server.log
    generated = text.removeprefix(MARK).strip()[:12]
    assert generated
    for word in (*MARK.split(), generated):
        assert word not in server.log
        assert word not in server.banner


def can_trace():
    if shutil.which("strace") is None:
        return False
    done = subprocess.run(["strace", "-f", "true"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.skipif(not can_trace(), reason="needs strace and leave to trace")
@pytest.mark.timeout(120)
def test_no_process_connects_to_anything(start_server, made_models, tmp_path):
    record = tmp_path / "calls"
    server = start_server(
        *("--models-dir", made_models),
        before=["strace", "-f", "--seccomp-bpf", "-e", "trace=network", "-o", record],
    )
    server.complete("tiny-llama", "the wheel", max_tokens=5)
    server.post("/v1/embeddings", model="tiny-bert", input="the wheel")
    server.server.terminate()
    assert 0 == server.wait()
    calls = record.read_text(encoding="utf-8", errors="replace")
    # The tracer saw the listener and the pairs that join the workers.
    assert 1 == len(re.findall(r"bind\(\d+, .*inet_addr\(\"127\.0\.0\.1\"\)", calls))
    assert re.search(r"socketpair\(AF_UNIX", calls)
    assert [] == re.findall(r"connect\(.*", calls)
    assert [] == re.findall(r"sendto\(.*sin6?_addr.*", calls)

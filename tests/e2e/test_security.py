"""The whole program: who gets in, and what a refusal or an error gives away."""

import json
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time

import httpx
import openai
import pytest

from tests.e2e.server_process import (
    GREEDY,
    ROOT,
    Server,
    make_environment,
    run_serve,
    wait_until,
)
from tests.live_server import open_raw

KEY = "a-key-that-only-tests-know"
CANARY = "canary-of-the-environment"


def run_token(home, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "server", "token", *arguments, "--json"],
        capture_output=True,
        check=True,
        env=make_environment(home, PYTHONPATH=str(ROOT)),
        text=True,
        cwd=home.parent,
        timeout=30,
    )
    return json.loads(done.stdout)


def chat(url, key):
    client = openai.OpenAI(base_url=url + "/v1", api_key=key, max_retries=0, timeout=40)
    with client:
        messages = [{"role": "user", "content": "hi"}]
        return client.chat.completions.create(
            model="tiny-llama", messages=messages, max_tokens=2
        )


def test_a_token_of_the_command_line_opens_a_running_server_until_it_is_revoked(
    start_server, made_models
):
    server = start_server("--models-dir", made_models)
    assert "Access: open" in server.banner
    assert chat(server.url, "lm-studio").choices
    made = run_token(server.home, "create", "alice")
    with pytest.raises(openai.AuthenticationError, match="not valid"):
        chat(server.url, "lm-studio")
    assert chat(server.url, made["token"]).choices
    run_token(server.home, "revoke", "alice")
    with pytest.raises(openai.AuthenticationError):
        chat(server.url, made["token"])
    assert [("alice", "revoked")] == [
        (t["name"], t["state"]) for t in run_token(server.home, "list")["tokens"]
    ]
    assert made["token"].partition(":")[2] not in server.log
    assert 200 == server.get("/health").status_code


def test_a_key_of_the_environment_reaches_no_worker_and_no_log(
    start_server, made_models
):
    server = start_server(
        "--models-dir", made_models, environment={"CLOISTER_API_KEY": KEY}
    )
    assert "Access: every request needs a token" in server.banner
    assert 'Authorization: Bearer $TOKEN"' in server.banner
    assert 401 == server.get("/v1/models").status_code
    assert chat(server.url, KEY).choices
    (worker,) = server.workers()
    assert KEY not in "".join([*worker.environ().values(), *worker.cmdline()])
    assert KEY not in server.log + server.banner


def test_a_key_in_a_flag_is_warned_of(tmp_path, start_server, made_models):
    server = start_server("--models-dir", made_models, "--api-key", KEY)
    assert "can read --api-key in the list of processes" in server.log
    with pytest.raises(openai.AuthenticationError):
        chat(server.url, "wrong")
    assert chat(server.url, KEY).choices


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - refused before
def test_a_server_without_token_does_not_listen_to_a_network(tmp_path, host):
    if host == "::" and not socket.has_ipv6:
        pytest.skip("no IPv6 on this machine")
    done = run_serve(tmp_path, "--host", host, "--port", "0")
    assert 1 == done.returncode
    assert f"listening on {host} would let the whole network in" in done.stderr
    assert "cloister token create NAME" in done.stderr
    assert "listens on" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--api-key", KEY, "--insecure-no-auth"), "Leave out one of the two"),
        (("--api-key-file", "absent"), "absent cannot be read: No such file"),
        (("--cors", "example.org"), "--cors example.org is no origin"),
        (("--allowed-hosts", "http://a"), "--allowed-hosts http://a is no host name"),
        (("--tls-cert", "c.pem"), "--tls-cert needs --tls-key as well"),
        (("--tls-cert", "c.pem", "--tls-key", "k.pem"), "c.pem with the key"),
    ],
)
def test_settings_that_contradict_each_other_stop_the_start(
    tmp_path, arguments, expected
):
    done = run_serve(tmp_path, "--port", "0", *arguments)
    assert 1 == done.returncode
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_key_is_refused_without_showing_it(tmp_path):
    done = run_serve(tmp_path, "--port", "0", "--api-key", "has blanks in it")
    assert 2 == done.returncode
    assert "--api-key (secret) is not valid" in done.stderr
    assert "blanks in it" not in done.stderr


def test_it_speaks_tls(start_server, made_models, tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", key, "-out", cert),
        ],
        check=True,
        capture_output=True,
    )
    server = start_server(
        *("--models-dir", made_models, "--tls-cert", cert, "--tls-key", key)
    )
    assert server.url.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cafile=cert)
    with httpx.Client(verify=context, trust_env=False) as client:
        assert 200 == client.get(server.url + "/v1/models").status_code
    with open_raw(server.port) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" not in plain.recv(100)
    assert 0 == server.stop()


def test_it_listens_on_a_unix_socket_of_this_user_alone(tmp_path, made_models):
    path = tmp_path / "cloister.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()  # as a killed server leaves it
    environment = make_environment(tmp_path / "home", PYTHONPATH=str(ROOT))
    command = [sys.executable, "-m", "server", "serve", "--unix-socket", path]
    process = subprocess.Popen(
        [*command, "--models-dir", made_models],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert f"listens on the Unix socket {path}" in process.stdout.readline()
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, trust_env=False) as client:
            wait_until(lambda: is_up(client), 20, "the server answers")
            assert 200 == client.get("http://localhost/v1/models").status_code
            assert 403 == client.get("http://evil.example/health").status_code
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        second = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True,
            check=False, timeout=30,
        )  # fmt: skip
        assert 1 == second.returncode
        assert "another program listens on the Unix socket" in second.stderr
        process.terminate()
        assert 0 == process.wait(20)
        assert not path.exists()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def is_up(client):
    try:
        return client.get("http://localhost/health").status_code == 200
    except httpx.TransportError:
        return False


def test_a_full_queue_turns_away_and_says_when_to_come_back(start_server, made_models):
    server = start_server(
        *("--models-dir", made_models, "--parallel", "1", "--max-queue", "1"),
        *("--context-length", "20000"),
    )
    endless = {"model": "tiny-llama", "prompt": "x", "max_tokens": -1, **GREEDY}
    with server.stream("/v1/completions", **endless) as running:
        next(iter(running))
        with server.ask_raw("/v1/completions", **endless):
            refused = server.post("/v1/completions", **endless)
            deadline_s = time.monotonic() + 5
            while refused.status_code != 429 and time.monotonic() < deadline_s:
                refused = server.post("/v1/completions", **endless)
    assert (429, "true") == (refused.status_code, refused.headers["x-should-retry"])
    assert int(refused.headers["retry-after"]) >= 1
    error = refused.json()["error"]
    assert ("rate_limit_error", "queue_full") == (error["type"], error["code"])
    assert "1 requests wait for the model 'tiny-llama'" in error["message"]
    # Both have left, which the server learns a moment later.
    short = {"model": "tiny-llama", "prompt": "x", "max_tokens": 1}

    def is_answered():
        return server.post("/v1/completions", **short).status_code == 200

    wait_until(is_answered, 10, "the places are free again")


def test_a_request_is_found_in_the_log_by_its_id(server):
    answer = server.post(
        "/v1/completions", model="tiny-llama", prompt="x", max_tokens=1
    )
    request_id = answer.headers["x-request-id"]
    line = f"POST /v1/completions 200 in .* s for anybody [{request_id}]"
    wait_until(lambda: f"[{request_id}]" in server.log, 5, line)


def test_errors_tell_nothing_of_other_folders_or_the_environment(tmp_path, made_models):
    models = tmp_path / "models"
    shutil.copytree(made_models / "acme" / "llama", models / "acme" / "llama")
    (models / "acme" / "bad").mkdir()
    (models / "acme" / "bad" / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 2000)
    server = Server(
        tmp_path / "server",
        ["--models-dir", models, "--log-level", "debug"],
        environment={"CANARY": CANARY, "CLOISTER_TEST_CANARY": CANARY},
    )
    try:
        texts = [answer.text for answer in provoke(server)]
    finally:
        server.kill()
    assert len(texts) >= 20
    for text in texts:
        for secret in (CANARY, str(server.home), str(ROOT), sys.prefix, "Traceback"):
            assert secret not in text
        for path in text.split("/home/")[1:] + text.split("/root/")[1:]:
            raise AssertionError(path)


def provoke(server):
    """Ask for everything that is known to fail."""
    message = {"role": "user", "content": "hi"}
    good = {"model": "tiny-llama", "messages": [message]}
    for more in (
        {"model": "nope"},
        {"model": "bad"},
        {"model": "../../etc/passwd"},
        {"model": "/etc/passwd"},
        {"model": "\0"},
        {"messages": []},
        {"messages": [{"role": "x", "content": "y"}]},
        {"messages": [{"role": "user", "content": {"a": 1}}]},
        {"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]},
        {"temperature": 99},
        {"logit_bias": {"999999": 1}},
        {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_schema"}},
        {"messages": [message | {"content": "word " * 200_000}]},
        {"chat_template_kwargs": {"messages": 1}},
        {"n": 10**9},
        {"stop": ["a"] * 99},
    ):  # fmt: skip
        answer = server.post("/v1/chat/completions", **good | more)
        assert 400 <= answer.status_code < 600, more
        yield answer
    for path in ("/v1/models/nope", "/v1/models/%2e%2e%2f", "/static/../x", "/etc"):
        yield server.get(path)
    yield server.post("/v1/embeddings", model="tiny-llama", input="x")
    yield server.post("/v1/completions", model="bad", prompt="x")


def test_a_large_hostile_body_stalls_no_stream(start_server, made_models):
    server = start_server("--models-dir", made_models, "--context-length", "20000")
    endless = {"model": "tiny-llama", "prompt": "x", "max_tokens": -1, **GREEDY}
    # As many values as are let through: 20 MiB that take most to look at.
    values = b'{"model":"tiny-llama","prompt":[' + b"[]," * (4 * 2**20 - 9) + b"1]}"
    with server.stream("/v1/completions", **endless) as stream:
        events = iter(stream)
        next(events)
        sender = threading.Thread(target=send_body, args=(server, values))
        sender.start()
        gap_s, before_s = 0.0, time.monotonic()
        while sender.is_alive():
            next(events, None)
            now_s = time.monotonic()
            gap_s, before_s = max(gap_s, now_s - before_s), now_s
        sender.join()
    assert gap_s < 4


def send_body(server, body):
    answer = httpx.post(
        server.url + "/v1/completions", content=body, timeout=40, trust_env=False
    )
    assert 400 == answer.status_code

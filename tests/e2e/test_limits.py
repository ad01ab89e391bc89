"""Context lengths and token limits: counted truly, never cut in silence."""

import re
import time

import pytest

from tests.e2e.server_process import Server

N_CTX = 128
LONG = "the wheel turns " * 100


@pytest.fixture(scope="module")
def small_server(made_models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    server = Server(
        folder, ["--models-dir", made_models, "--context-length", str(N_CTX)]
    )
    yield server
    server.kill()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("path", "prompt", "param"),
    [
        ("/v1/completions", {"prompt": LONG}, "prompt"),
        ("/v1/completions", {"prompt": [9] * 500}, "prompt"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": LONG}]},
            "messages",
        ),
    ],
    ids=["text", "tokens", "chat"],
)
def test_a_prompt_longer_than_the_context_is_refused_before_any_header(
    small_server, path, prompt, param, stream
):
    answer = small_server.post(path, model="tiny-llama", stream=stream, **prompt)
    error = answer.json()["error"]
    assert (400, "context_length_exceeded", "invalid_request_error", param) == (
        answer.status_code,
        error["code"],
        error["type"],
        error["param"],
    )
    n_prompt, n_ctx = re.match(
        r"The prompt has (\d+) tokens, but .* a context of (\d+) tokens",
        error["message"],
    ).groups()
    assert N_CTX == int(n_ctx)
    assert int(n_prompt) >= 200
    if isinstance(prompt.get("prompt"), list):
        assert 500 == int(n_prompt)


@pytest.mark.parametrize("text", ["word " * 2_000_000, "a" * 10_000_000])
def test_a_prompt_of_megabytes_is_refused_in_no_time(small_server, text):
    begin_s = time.monotonic()
    answer = small_server.post("/v1/completions", model="tiny-llama", prompt=text)
    took_s = time.monotonic() - begin_s
    assert (400, "context_length_exceeded") == (
        answer.status_code,
        answer.json()["error"]["code"],
    )
    assert "tokens or more, but" in answer.json()["error"]["message"]
    assert took_s < 10  # all of it would take minutes, or an hour


def test_one_prompt_of_several_that_is_too_long_refuses_them_all(small_server):
    prompts = ["the wheel", LONG]
    answer = small_server.post("/v1/completions", model="tiny-llama", prompt=prompts)
    assert 400 == answer.status_code
    assert "context_length_exceeded" == answer.json()["error"]["code"]


def test_the_longest_prompt_that_fits_leaves_one_token(small_server):
    fits = small_server.complete("tiny-llama", [9] * (N_CTX - 1))
    assert (N_CTX - 1, 1) == counts(fits)
    answer = small_server.post(
        "/v1/completions", model="tiny-llama", prompt=[9] * N_CTX
    )
    assert 400 == answer.status_code


@pytest.mark.parametrize("limit", [{}, {"max_tokens": -1}, {"max_tokens": 10**6}])
def test_without_a_limit_the_answer_ends_with_the_context(small_server, limit):
    answer = small_server.complete("tiny-llama", "The wheel", **limit)
    n_prompt, n_answer = counts(answer)
    assert N_CTX == n_prompt + n_answer
    assert "length" == answer["choices"][0]["finish_reason"]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_chat_ends_at_either_limit(small_server, field):
    messages = [{"role": "user", "content": "Hello"}]
    answer = small_server.post(
        "/v1/chat/completions", model="tiny-llama", messages=messages, **{field: 7}
    ).json()
    assert 7 == answer["usage"]["completion_tokens"]
    assert "length" == answer["choices"][0]["finish_reason"]


def test_an_embedding_input_that_is_too_long_is_named(small_server):
    asked = {"model": "tiny-bert", "input": ["the mill", LONG]}
    answer = small_server.post("/v1/embeddings", **asked)
    error = answer.json()["error"]
    assert (400, "context_length_exceeded") == (answer.status_code, error["code"])
    assert re.match(
        r"Input 1 has 302 tokens, but .* a context of 128 tokens", error["message"]
    )


def test_a_token_that_does_not_exist_is_refused(small_server):
    answer = small_server.post("/v1/completions", model="tiny-llama", prompt=[9, 476])
    assert 400 == answer.status_code
    assert (
        "Token id 476 does not exist: this model has the ids 0 to 475"
        in (answer.json()["error"]["message"])
    )


def test_a_prompt_of_many_chunks_is_read_whole_and_then_found_in_the_cache(
    start_server, made_models
):
    server = start_server("--models-dir", made_models, "--context-length", "8192")
    prompt = [5 + number % 471 for number in range(6000)]
    first = server.complete("tiny-llama", prompt, max_tokens=8)
    again = server.complete("tiny-llama", prompt, max_tokens=8)
    other = server.complete("tiny-llama", [7, *prompt[1:]], max_tokens=8)
    assert (6000, 8) == counts(first) == counts(other)
    assert first["choices"][0]["text"] == again["choices"][0]["text"]
    assert 5999 == again["usage"]["prompt_tokens_details"]["cached_tokens"]


def counts(answer):
    return answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]

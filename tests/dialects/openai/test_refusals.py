import json
from http import HTTPStatus

import pytest

from server.app import create_app
from tests.fake_engine import FakeEngine, answer
from tests.live_server import exchange, live_server, post_bytes, post_json

MESSAGES = [{"role": "user", "content": "hi"}]
CHAT = {"model": "tiny", "messages": MESSAGES}


@pytest.fixture(scope="module")
def port():
    with live_server(create_app(engine=FakeEngine(answer("ok")))) as port:
        yield port


CHAT_PATH = "/v1/chat/completions"
WRONG = [
    (CHAT_PATH, {"messages": MESSAGES}, "missing_required_parameter", "model"),
    (CHAT_PATH, {"model": "tiny"}, "missing_required_parameter", "messages"),
    (CHAT_PATH, {**CHAT, "messages": []}, "invalid_value", "messages"),
    (CHAT_PATH, {**CHAT, "messages": "hi"}, "invalid_type", "messages"),
    (CHAT_PATH, {**CHAT, "messages": None}, "invalid_type", "messages"),
    (CHAT_PATH, {**CHAT, "messages": [None]}, "invalid_type", "messages[0]"),
    (
        CHAT_PATH,
        {**CHAT, "messages": [{"content": "x"}]},
        "missing_required_parameter",
        "messages[0].role",
    ),
    (
        CHAT_PATH,
        {**CHAT, "messages": [{"role": "alien", "content": "x"}]},
        "invalid_value",
        "messages[0].role",
    ),
    (
        CHAT_PATH,
        {**CHAT, "messages": [{"role": "user", "content": 5}]},
        "invalid_type",
        "messages[0].content",
    ),
    (CHAT_PATH, {**CHAT, "model": 5}, "invalid_type", "model"),
    (CHAT_PATH, {**CHAT, "temperature": "hot"}, "invalid_type", "temperature"),
    (CHAT_PATH, {**CHAT, "temperature": -1}, "invalid_value", "temperature"),
    (CHAT_PATH, {**CHAT, "temperature": float("nan")}, "invalid_value", "temperature"),
    (CHAT_PATH, {**CHAT, "top_p": float("inf")}, "invalid_value", "top_p"),
    (CHAT_PATH, {**CHAT, "top_p": 2}, "invalid_value", "top_p"),
    (CHAT_PATH, {**CHAT, "top_k": True}, "invalid_type", "top_k"),
    (CHAT_PATH, {**CHAT, "seed": 0.5}, "invalid_type", "seed"),
    (CHAT_PATH, {**CHAT, "seed": 2**70}, "invalid_value", "seed"),
    (CHAT_PATH, {**CHAT, "n": 0}, "invalid_value", "n"),
    (CHAT_PATH, {**CHAT, "max_tokens": 0}, "invalid_value", "max_tokens"),
    (CHAT_PATH, {**CHAT, "max_tokens": "5"}, "invalid_type", "max_tokens"),
    (CHAT_PATH, {**CHAT, "stop": [1]}, "invalid_type", "stop[0]"),
    (CHAT_PATH, {**CHAT, "logit_bias": {"a": 1}}, "invalid_value", "logit_bias"),
    (CHAT_PATH, {**CHAT, "logprobs": 3}, "invalid_type", "logprobs"),
    (CHAT_PATH, {**CHAT, "top_logprobs": 3}, "invalid_value", "top_logprobs"),
    (CHAT_PATH, {**CHAT, "stream": "yes"}, "invalid_type", "stream"),
    (CHAT_PATH, {**CHAT, "stream_options": 1}, "invalid_type", "stream_options"),
    (
        CHAT_PATH,
        {**CHAT, "tools": [{}]},
        "missing_required_parameter",
        "tools[0].function",
    ),
    (
        CHAT_PATH,
        {**CHAT, "parallel_tool_calls": "no"},
        "invalid_type",
        "parallel_tool_calls",
    ),
    (CHAT_PATH, {**CHAT, "functions": {}}, "invalid_type", "functions"),
    (CHAT_PATH, {**CHAT, "response_format": "json"}, "invalid_type", "response_format"),
    (CHAT_PATH, {**CHAT, "reasoning": "high"}, "invalid_type", "reasoning"),
    (CHAT_PATH, {**CHAT, "reasoning_budget": 0.5}, "invalid_type", "reasoning_budget"),
    (
        CHAT_PATH,
        {**CHAT, "add_generation_prompt": 1},
        "invalid_type",
        "add_generation_prompt",
    ),
    (CHAT_PATH, {**CHAT, "tools": {}}, "invalid_type", "tools"),
    ("/v1/completions", {"model": "tiny"}, "missing_required_parameter", "prompt"),
    ("/v1/completions", {"model": "tiny", "prompt": 5}, "invalid_type", "prompt"),
    (
        "/v1/completions",
        {"model": "tiny", "prompt": [1, -5]},
        "invalid_value",
        "prompt[1]",
    ),
    (
        "/v1/completions",
        {"model": "tiny", "prompt": "a", "echo": 1},
        "invalid_type",
        "echo",
    ),
    (
        "/v1/completions",
        {"model": "tiny", "prompt": "a", "logprobs": True},
        "invalid_type",
        "logprobs",
    ),
    ("/v1/embeddings", {"model": "m"}, "missing_required_parameter", "input"),
    ("/v1/embeddings", {"model": "m", "input": ""}, "invalid_value", "input"),
    ("/v1/embeddings", {"model": "m", "input": ["a", ""]}, "invalid_value", "input[1]"),
    (
        "/v1/embeddings",
        {"model": "m", "input": "a", "dimensions": 1.5},
        "invalid_type",
        "dimensions",
    ),
]


@pytest.mark.parametrize(("path", "body", "code", "param"), WRONG)
def test_a_wrong_request_is_a_400_that_names_the_field(port, path, body, code, param):
    status, headers, answered = post_json(port, path, body)
    error = answered["error"]
    assert (HTTPStatus.BAD_REQUEST, code, param, "invalid_request_error") == (
        status,
        error["code"],
        error["param"],
        error["type"],
    )
    assert param in error["message"]
    assert "application/json; charset=utf-8" == headers["content-type"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"model": "tiny",\n "messages": [}', "at line 2 column 15."),
        (b"", "at line 1 column 1."),
        (b"[]", "it is an array."),
        (b'{"model": "\xff"}', "byte 11 cannot be decoded."),
        (b'{"a":' * 50_000, "nested deeper than 128 levels."),
        (
            rb'{"model": "tiny", "messages": [{"role": "user", "content": "\ud800"}]}',
            "Invalid 'messages[0].content': the text holds a lone surrogate",
        ),
    ],
)
def test_a_body_that_is_no_json_object_is_a_400(port, body, message):
    status, _, answered = exchange(port, post_bytes(CHAT_PATH, body))
    assert 400 == status
    assert message in json.loads(answered)["error"]["message"]


@pytest.mark.parametrize("header", ["", "Content-Type: text/plain"])
def test_the_content_type_does_not_matter(port, header):
    request = post_bytes(CHAT_PATH, json.dumps(CHAT).encode(), *filter(None, [header]))
    assert 200 == exchange(port, request)[0]

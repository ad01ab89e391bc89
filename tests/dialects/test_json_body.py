import asyncio
import threading
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidRequest
from server.dialects.json_body import (
    MAX_DEPTH,
    MAX_PATH_CHARS,
    MAX_VALUES,
    THREAD_BYTES,
    parse_body,
    parse_json,
    path_text,
    read_body,
)
from server.dialects.openai.wire import ChatRequest


def refusal(body: bytes, model=ChatRequest):
    with pytest.raises(InvalidRequest) as caught:
        parse_body(model, body)
    return caught.value.to_info()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "Expecting value at line 1 column 1."),
        (b'{\n "a": 1,\n "b" 2}', "Expecting ':' delimiter at line 3 column 6."),
        (b"\xff{}", "not valid UTF-8: byte 0 cannot be decoded."),
        (b"[" * 100_000, "nested deeper than 128 levels."),
        (b'{"a":' * 100_000, "nested deeper than 128 levels."),
        (b'{"a":' + b"9" * 5000 + b"}", "an integer with too many digits."),
    ],
)
def test_text_that_is_no_json_is_refused_with_its_place(body, text):
    info = refusal(body)
    assert (400, "invalid_json") == (info.http_status, info.code)
    assert text in info.message


@pytest.mark.parametrize(
    ("body", "got"),
    [(b"[]", "an array"), (b'"x"', "a string"), (b"null", "null"), (b"1", "a number")],
)
def test_a_body_that_is_no_object_is_refused(body, got):
    info = refusal(body)
    assert "invalid_type" == info.code
    assert f"The request body must be a JSON object, but it is {got}." == info.message


def test_nesting_is_allowed_up_to_the_limit():
    parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    with pytest.raises(InvalidRequest, match="deeper than 128"):
        parse_json(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused_wherever_it_stands(number):
    body = f'{{"a": [{{"b": 1}}, {{"b": {number}}}]}}'.encode()
    info = refusal(body)
    assert ("invalid_value", "a[1].b") == (info.code, info.param)
    assert "Invalid 'a[1].b': the number is not finite." == info.message


def test_a_lone_surrogate_is_refused_wherever_it_stands():
    info = refusal(rb'{"messages": [{"content": "x\ud800"}]}')
    assert "messages[0].content" == info.param
    assert "lone surrogate" in info.message
    info = refusal(rb'{"\udfff": 1}')
    assert info.message.startswith("Invalid object key: the text holds a lone")


def test_whole_surrogate_pairs_and_a_byte_order_mark_are_text():
    assert {"a": "😀"} == parse_json(b'\xef\xbb\xbf{"a": "\\ud83d\\ude00"}')


@pytest.mark.parametrize(
    ("body", "code", "param", "message"),
    [
        (
            b'{"model": "m"}',
            "missing_required_parameter",
            "messages",
            "Missing required parameter: 'messages'.",
        ),
        (
            b'{"model": 1, "messages": []}',
            "invalid_type",
            "model",
            "Invalid type for 'model': expected a string, but got a number.",
        ),
        (
            b'{"model": "m", "messages": [{"role": "user", "content": ""}, 5]}',
            "invalid_type",
            "messages[1]",
            "Invalid type for 'messages[1]': expected an object, but got a number.",
        ),
        (
            b'{"model": "m", "messages": [], "temperature": true}',
            "invalid_type",
            "temperature",
            "Invalid type for 'temperature': expected a number, but got a boolean.",
        ),
        (
            b'{"model": "m", "messages": [], "n": 1.5}',
            "invalid_type",
            "n",
            (
                "Invalid type for 'n': expected an integer, but got a number with a "
                "fraction."
            ),
        ),
        (
            b'{"model": "m", "messages": [], "top_p": 1%s}' % (b"0" * 400),
            "invalid_type",
            "top_p",
            (
                "Invalid type for 'top_p': expected a number, but got one that is too "
                "large."
            ),
        ),
        (
            b'{"model": "m", "messages": [], "logit_bias": {"5": "1"}}',
            "invalid_type",
            "logit_bias.5",
            "Invalid type for 'logit_bias.5': expected a number, but got a string.",
        ),
        (
            b'{"model": "m", "messages": [], "repetition_penalty": "1"}',
            "invalid_type",
            "repetition_penalty",
            (
                "Invalid type for 'repetition_penalty': expected a number, but got a "
                "string."
            ),
        ),
    ],
)
def test_a_wrong_field_is_named_and_its_value_is_not_quoted(body, code, param, message):
    info = refusal(body)
    assert (400, code, param, message) == (
        info.http_status,
        info.code,
        info.param,
        info.message,
    )


def test_whole_floats_are_integers_and_nulls_are_absent():
    wire = parse_body(
        ChatRequest,
        b'{"model": "m", "messages": [], "max_tokens": 100.0, "top_k": null}',
    )
    assert (100, None) == (wire.max_tokens, wire.top_k)
    assert isinstance(wire.max_tokens, int)


def test_a_path_is_written_as_clients_write_it_and_is_cut():
    assert "messages[0].content" == path_text(("messages", 0, "content"))
    assert MAX_PATH_CHARS == len(path_text(("k" * 5000,)))


@given(st.binary(max_size=60))
def test_any_bytes_are_json_or_refused(body):
    with suppress(InvalidRequest):
        parse_json(body)


def test_the_depth_can_be_set_for_a_server():
    body = b'{"model": "m", "messages": [], "tools": [[[[1]]]]}'
    parse_body(ChatRequest, body, max_depth=6)
    with pytest.raises(InvalidRequest, match="nested deeper than 4 levels"):
        parse_body(ChatRequest, body, max_depth=4)


@pytest.mark.parametrize("unit", [b"[],", b"{},", b"1,"])
def test_a_body_of_too_many_values_is_refused_before_it_is_parsed(unit):
    body = b"[" + unit * MAX_VALUES + b"1]"
    with pytest.raises(InvalidRequest, match="more than 4194304 values"):
        parse_json(body)


def test_a_long_text_is_no_body_of_many_values():
    text = "word, " * (MAX_VALUES // 4)
    assert len(text) > MAX_VALUES
    assert [text] == parse_json(b'["' + text.encode() + b'"]')


@pytest.mark.parametrize("is_large", [False, True])
def test_a_large_body_is_read_in_a_thread(is_large, monkeypatch):
    threads = []

    class Noted(ChatRequest):
        @classmethod
        def model_validate(cls, document):
            threads.append(threading.current_thread())
            return super().model_validate(document)

    content = "x" * (THREAD_BYTES if is_large else 9)
    body = f'{{"model": "m", "messages": [{{"role": "{content}"}}]}}'.encode()
    wire = asyncio.run(read_body(Noted, body))
    assert content == wire.messages[0].role
    assert is_large == (threads[0] is not threading.main_thread())

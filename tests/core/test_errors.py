"""The tree of errors is the one that its module draws."""

import re

import msgspec
import pytest

from server.core import errors
from server.core.errors import (
    BodyTooLarge,
    ContextLengthExceeded,
    EmbeddingInputTooLong,
    ErrorInfo,
    InvalidRequest,
    ModelNotFound,
    ReportedError,
    ServerError,
    WorkerCrashed,
)


def drawn_tree():
    """Read name, parent, status and "retryable" from the module's drawing."""
    parents = {0: "ServerError"}
    found = {}
    for line in errors.__doc__.splitlines():
        branch = re.match(r"^( +[│├└─ ]*[├└]── )(\w+) +(?:(\d+)\b *)?(.*)$", line)
        if branch is None:
            continue
        depth = (len(branch[1]) - 4) // 4
        parents[depth] = branch[2]
        found[branch[2]] = (
            parents[depth - 1],
            int(branch[3]) if branch[3] else None,
            "retryable" in branch[4],
        )
    return found


def all_kinds(kind=ServerError):
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from all_kinds(child)


def test_the_drawing_is_the_tree():
    actual = {
        kind.__name__: (kind.__bases__[0].__name__, kind.http_status, kind.retryable)
        for kind in all_kinds()
        if kind is not ReportedError
    }
    assert drawn_tree() == actual


def test_every_kind_has_a_code_of_its_own():
    codes = {kind.__name__: kind.code for kind in all_kinds() if kind.code}
    assert "server_error" not in {
        code for name, code in codes.items() if name != "ReportedError"
    }
    shared = [code for code in codes.values() if list(codes.values()).count(code) > 1]
    # Both say that there are more tokens than the context holds.
    assert {"context_length_exceeded"} == set(shared)


def test_a_long_prompt_is_told_with_both_counts():
    error = ContextLengthExceeded(n_prompt=5000, n_ctx=4096)
    assert (
        "The prompt has 5000 tokens, but this model was loaded with a context of 4096 "
        "tokens, of which at least one must stay free for the answer. Shorten the "
        "prompt or load the model with a larger --context-length." == error.message
    )
    assert ("messages", 5000, 4096) == (error.param, error.n_prompt, error.n_ctx)
    assert "prompt" == ContextLengthExceeded(n_prompt=2, n_ctx=1, param="prompt").param


def test_a_long_text_to_embed_is_told_with_its_place_and_both_counts():
    error = EmbeddingInputTooLong(index=3, n_tokens=600, n_ctx=512)
    assert (
        "Input 3 has 600 tokens, but this model was loaded with a context of 512 "
        "tokens. Split the text or load the model with a larger --context-length."
        == error.message
    )
    assert "input" == error.param


def test_a_large_body_is_told_with_the_limit():
    assert (
        "The request body is larger than 1024 bytes. Send less, or start the server "
        "with a larger --max-body-bytes." == BodyTooLarge(limit_bytes=1024).message
    )


@pytest.mark.parametrize(
    ("available", "rest"),
    [
        ((), "No model is available: put a GGUF file into a models directory."),
        (("a", "b"), "Available models: a, b."),
        (tuple("abcdefgh"), "Available models: a, b, c, d, e, f, g, h."),
        (
            tuple("abcdefghij"),
            "Available models: a, b, c, d, e, f, g, h and 2 more (GET /v1/models).",
        ),
    ],
)
def test_an_unknown_model_is_told_with_what_exists(available, rest):
    error = ModelNotFound("x", available)
    assert f"The model 'x' does not exist. {rest}" == error.message
    assert "model" == error.param


def test_errors_cross_the_process_border_unchanged():
    info = InvalidRequest("Say what.", param="n").to_info()
    assert ErrorInfo("invalid_value", "Say what.", 400, "n") == info
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(info), type=ErrorInfo)
    assert info == ReportedError(sent).to_info()
    assert "Say what." == str(ReportedError(sent))
    assert WorkerCrashed("x").to_info().retryable

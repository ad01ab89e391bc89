import pytest

from server.app import create_app
from server.core.requests import Tokenized
from tests.fake_engine import TINY, VARIANT, FakeEngine
from tests.live_server import exchange, live_server, post_json

MESSAGES = [{"role": "user", "content": "hé"}]


@pytest.fixture(scope="module")
def engine():
    return FakeEngine()


@pytest.fixture(scope="module")
def port(engine):
    with live_server(create_app(engine=engine)) as port:
        yield port


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_text_becomes_tokens_and_text_again(port, prefix):
    status, _, body = post_json(port, f"{prefix}/tokenize", {"content": "é"})
    assert (200, {"tokens": [195, 169]}) == (status, body)
    _, _, pieces = post_json(
        port, f"{prefix}/tokenize", {"content": "aé", "with_pieces": True}
    )
    assert [
        {"id": 97, "piece": "a"},
        {"id": 195, "piece": [195]},
        {"id": 169, "piece": [169]},
    ] == pieces["tokens"]
    _, _, text = post_json(port, f"{prefix}/detokenize", {"tokens": [195, 169]})
    assert {"content": "é"} == text


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_a_conversation_is_rendered_and_counted(port, prefix):
    body = {
        "model": "tiny",
        "messages": MESSAGES,
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "max_tokens": 5,
        "stream": True,
    }
    prompt = "tool f\nuser hé\nassistant "
    status, _, shown = post_json(port, f"{prefix}/apply-template", body)
    assert (200, {"prompt": prompt}) == (status, shown)
    _, _, count = post_json(port, "/v1/chat/completions/input_tokens", body)
    assert {
        "object": "response.input_tokens",
        "input_tokens": len(prompt.encode()),
    } == count


def test_a_prompt_that_goes_on_has_no_new_turn(port):
    body = {"messages": [*MESSAGES, {"role": "assistant", "content": "So"}]}
    _, _, shown = post_json(port, "/apply-template", body)
    assert {"prompt": "user hé\nassistant So"} == shown


def test_a_model_is_named_or_found(port, engine):
    for model in (None, "tiny", VARIANT.id):
        post_json(port, "/tokenize", {"content": "a", "model": model})
    assert [TINY.id, "tiny", VARIANT.id] == [r.model for r in engine.inquiries[-3:]]
    ids = [request.id for request in engine.inquiries]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/tokenize", {}, 400, "content"),
        ("/tokenize", {"content": ["a"]}, 400, "content"),
        ("/tokenize", {"content": "a", "model": "no"}, 404, "model"),
        ("/tokenize", {"content": "a", "with_pieces": 1}, 400, "with_pieces"),
        ("/detokenize", {}, 400, "tokens"),
        ("/detokenize", {"tokens": ["a"]}, 400, "tokens[0]"),
        ("/apply-template", {}, 400, "messages"),
        ("/apply-template", {"messages": []}, 400, "messages"),
        ("/v1/chat/completions/input_tokens", {"model": 5}, 400, "model"),
    ],
)
def test_a_wrong_question_is_refused_by_its_field(port, path, body, status, param):
    answered, _, shown = post_json(port, path, body)
    assert (status, param) == (answered, shown["error"]["param"])


def test_a_model_must_be_named_where_there_are_several(serve):
    engine = FakeEngine(models=(VARIANT, VARIANT))
    status, _, body = post_json(serve(engine), "/tokenize", {"content": "a"})
    assert (400, "missing_required_parameter") == (status, body["error"]["code"])
    assert "Name one of: mini@q8_0:2" in body["error"]["message"]


def test_an_answer_to_another_question_is_an_error(serve):
    class Confused(FakeEngine):
        async def inquire(self, request):  # noqa: ARG002  the protocol's name
            return Tokenized((), ())

    status, _, body = post_json(serve(Confused()), "/detokenize", {"tokens": [1]})
    assert (500, "engine_failed") == (status, body["error"]["code"])


def test_the_endpoints_are_described(port):
    lines = ("GET /openapi.json HTTP/1.1", "Host: localhost", "Connection: close")
    _, _, data = exchange(port, "\r\n".join((*lines, "", "")).encode())
    for path in (b"/tokenize", b"/v1/apply-template", b"/completions/input_tokens"):
        assert b'"' + path in data or path + b'"' in data
    assert b"with_pieces" in data

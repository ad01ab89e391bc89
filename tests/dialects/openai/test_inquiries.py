import msgspec
import pytest

from server.core.errors import InvalidRequest
from server.core.requests import (
    ChatPrompt,
    Detokenize,
    Detokenized,
    Message,
    Rendered,
    RenderPrompt,
    Text,
    Tokenize,
    Tokenized,
    Tool,
)
from server.dialects.openai.inquiries import (
    choose_model,
    decode_detokenize,
    decode_render,
    decode_tokenize,
    encode_count,
    encode_prompt,
    encode_text,
    encode_tokens,
)
from server.dialects.openai.wire import (
    DetokenizeRequest,
    TemplateRequest,
    TokenizeRequest,
)
from tests.fake_engine import TINY, VARIANT

NAMES = {"request_id": "r", "model": "m"}
OTHER = msgspec.structs.replace(TINY, id="other", instances=())
COLD = msgspec.structs.replace(TINY, instances=())


def tokenize(**fields):
    return decode_tokenize(TokenizeRequest.model_validate(fields), **NAMES)


def detokenize(tokens):
    return decode_detokenize(DetokenizeRequest(tokens=tokens), **NAMES)


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ([TINY], "acme/tiny-1b"),
        ([COLD], "acme/tiny-1b"),
        ([TINY, OTHER, VARIANT], "acme/tiny-1b"),
        ([COLD, VARIANT], "acme/tiny-1b"),
        ([VARIANT], "mini@q8_0:2"),
    ],
)
def test_the_only_model_need_not_be_named(models, expected):
    assert expected == choose_model(models)


@pytest.mark.parametrize(
    ("models", "text"),
    [
        ([], "No model is available: put a GGUF file into a models directory."),
        ([COLD, OTHER], "Name one of: acme/tiny-1b, other."),
        (
            [msgspec.structs.replace(TINY, id=str(number)) for number in range(10)],
            "Name one of: 0, 1, 2, 3, 4, 5, 6, 7 and 2 more.",
        ),
    ],
)
def test_a_model_must_be_named_where_there_is_doubt(models, text):
    with pytest.raises(InvalidRequest) as caught:
        choose_model(models)
    info = caught.value.to_info()
    assert ("missing_required_parameter", "model") == (info.code, info.param)
    assert f"Missing required parameter: 'model'. {text}" == info.message


def test_special_tokens_are_read_but_not_added_unless_asked():
    assert Tokenize("r", "m", "x", add_special=False, parse_special=True) == tokenize(
        content="x"
    )
    assert Tokenize("r", "m", "", add_special=True, parse_special=False) == tokenize(
        content="", add_special=True, parse_special=False
    )


def test_limits_are_told_with_their_numbers():
    with pytest.raises(InvalidRequest, match="1048578 bytes are more than the limit"):
        tokenize(content="é" * (2**19 + 1))
    assert 2**19 == len(tokenize(content="é" * 2**19).text)
    with pytest.raises(InvalidRequest, match="1048577 tokens are more than the limit"):
        detokenize([1] * (2**20 + 1))


def test_token_ids_are_checked():
    assert Detokenize("r", "m", (1, 2)) == detokenize([1, 2.0])
    assert Detokenize("r", "m", ()) == detokenize([])
    for wrong in (-1, 2**31, "1", True, 0.5):
        with pytest.raises(InvalidRequest) as caught:
            detokenize([1, wrong])
        assert "tokens[1]" == caught.value.param


def test_a_conversation_is_read_as_a_chat_request_is():
    wire = TemplateRequest.model_validate(
        {
            "messages": [{"role": "assistant", "content": "He"}],
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "chat_template_kwargs": {"x": 1},
        }
    )
    prompt = ChatPrompt(
        messages=(Message(role="assistant", content=(Text("He"),)),),
        template_kwargs={"x": 1},
        tools=(Tool("f"),),
        continues=True,
    )
    assert RenderPrompt("r", "m", prompt) == decode_render(wire, **NAMES)


def test_answers_have_llama_servers_shapes():
    result = Tokenized((5, 6, 7), (b"a", b"\xc3", "é".encode()))
    assert {"tokens": (5, 6, 7)} == encode_tokens(result, with_pieces=False)
    assert {
        "tokens": [
            {"id": 5, "piece": "a"},
            {"id": 6, "piece": [195]},
            {"id": 7, "piece": "é"},
        ]
    } == encode_tokens(result, with_pieces=True)
    assert {"content": "x"} == encode_text(Detokenized("x"))
    assert {"prompt": "x"} == encode_prompt(Rendered("x", 3))
    assert {"object": "response.input_tokens", "input_tokens": 3} == encode_count(
        Rendered("x", 3)
    )

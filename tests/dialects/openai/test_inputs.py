import pytest

from server.core.errors import InvalidRequest
from server.core.requests import Embed
from server.dialects.openai.inputs import decode_embedding, decode_inputs
from server.dialects.openai.wire import EmbeddingRequest


def embedding(**fields):
    wire = EmbeddingRequest.model_validate({"model": "m", "input": "a", **fields})
    return decode_embedding(wire, request_id="r")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", ("a",)),
        ("", ("",)),
        (["a", ""], ("a", "")),
        ([1, 2.0, 2**31 - 1], ((1, 2, 2**31 - 1),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
        (["a", [1]], ("a", (1,))),
    ],
)
def test_text_and_token_ids_come_alone_and_in_lists(value, expected):
    assert expected == decode_inputs(value, param="p", max_items=4)


@pytest.mark.parametrize(
    ("value", "code", "param", "message"),
    [
        (5, "invalid_type", "p", "expected a string or an array, but got a number."),
        (None, "missing_required_parameter", "p", "Missing required parameter: 'p'."),
        ([], "invalid_value", "p", "the array is empty."),
        ([[1], []], "invalid_value", "p[1]", "the array is empty."),
        ([1, "a"], "invalid_type", "p[1]", "expected a token id (an integer)"),
        ([1, 2.5], "invalid_type", "p[1]", "expected a token id (an integer)"),
        ([[1, True]], "invalid_type", "p[0][1]", "but got a boolean."),
        ([True], "invalid_type", "p[0]", "a string or an array of token ids"),
        (["a", {}], "invalid_type", "p[1]", "but got an object."),
        ([1, -1], "invalid_value", "p[1]", "-1 is outside of 0 to 2147483647."),
        ([[2**31]], "invalid_value", "p[0][0]", "2147483648 is outside of 0 to"),
        (["a"] * 5, "invalid_value", "p", "5 entries are more than the limit of 4."),
    ],
)
def test_a_wrong_input_is_refused_by_its_place(value, code, param, message):
    with pytest.raises(InvalidRequest) as caught:
        decode_inputs(value, param="p", max_items=4)
    info = caught.value.to_info()
    assert (400, code, param) == (info.http_status, info.code, info.param)
    assert message in info.message


def test_an_embedding_is_a_list_of_numbers_unless_base64_is_asked_for():
    call = embedding(input=["a", "b"], dimensions=8.0)
    assert Embed(id="r", model="m", inputs=("a", "b"), dimensions=8) == call.request
    assert not call.base64
    assert embedding(encoding_format="base64").base64
    assert not embedding(encoding_format="float").base64


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_a_wrong_embedding_request_is_refused(fields, param):
    with pytest.raises(InvalidRequest) as caught:
        embedding(**fields)
    assert ("invalid_value", param) == (
        caught.value.to_info().code,
        caught.value.param,
    )

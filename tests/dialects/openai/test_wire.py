import pytest
from pydantic import ValidationError

from server.dialects.openai.wire import ChatRequest, Sampled


def test_null_equals_absence_for_every_optional_field():
    absent = ChatRequest.model_validate({"model": "m", "messages": []})
    nulls = dict.fromkeys(ChatRequest.model_fields) | {"model": "m", "messages": []}
    assert absent == ChatRequest.model_validate(nulls)


def test_unknown_fields_are_ignored():
    wire = Sampled.model_validate({"model": "m", "frobnicate": 1})
    assert not hasattr(wire, "frobnicate")


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": "0.5"},
        {"temperature": True},
        {"top_k": "5"},
        {"top_k": 5.5},
        {"top_k": False},
        {"stream": 1},
        {"stream": "true"},
        {"stream_options": []},
        {"logit_bias": []},
    ],
)
def test_nothing_is_converted(fields):
    with pytest.raises(ValidationError):
        Sampled.model_validate({"model": "m", **fields})


def test_a_long_list_of_wrong_messages_is_one_error():
    body = {"model": "m", "messages": [5] * 1000}
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate(body)
    assert 1 == caught.value.error_count()

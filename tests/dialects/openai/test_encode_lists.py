import struct

from server.core.events import Embeddings
from server.dialects.openai.encode_lists import (
    encode_embeddings,
    encode_model,
    encode_models,
)
from tests.fake_engine import TINY, VARIANT

ANSWER = Embeddings(
    instance_id="mini",
    n_embd=2,
    vectors=struct.pack("<4f", 0.5, 1.0, -2.0, 0.0),
    prompt_tokens=3,
)


def test_a_model_serves_every_family_of_clients():
    assert {
        "id": "acme/tiny-1b",
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "organization_owner",
        "type": "model",
        "display_name": "acme/tiny-1b",
        "created_at": "2023-11-14T22:13:20Z",
    } == encode_model(TINY)


def test_models_are_one_complete_page():
    page = encode_models([TINY, VARIANT])
    assert ["acme/tiny-1b", "mini@q8_0:2"] == [item["id"] for item in page["data"]]
    assert (False, "acme/tiny-1b", "mini@q8_0:2") == (
        page["has_more"],
        page["first_id"],
        page["last_id"],
    )


def test_no_models_are_an_empty_page():
    assert {
        "object": "list",
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    } == encode_models([])


def test_vectors_are_numbers_in_the_order_of_the_inputs():
    assert {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, 1.0]},
            {"object": "embedding", "index": 1, "embedding": [-2.0, 0.0]},
        ],
        "model": "mini",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    } == encode_embeddings(ANSWER, base64=False)


def test_base64_is_little_endian_float32():
    shown = encode_embeddings(ANSWER, base64=True)
    assert "AAAAPwAAgD8=" == shown["data"][0]["embedding"]

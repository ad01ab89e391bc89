"""The official OpenAI client, pointed at the running server."""

import math
import re
import struct
from base64 import b64decode

import openai
import pytest

from tests.e2e.greedy_loop import generate_alone

STORIES = "karpathy/stories/stories260K.gguf"
STORY = "Once upon a time, there was a little girl named"
GREEDY = {"temperature": 0, "extra_body": {"repeat_penalty": 1}}


@pytest.fixture
def client(real_server, connect):
    return connect(real_server)


@pytest.fixture
def made_client(server, connect):
    return connect(server)


@pytest.mark.model
class TestRealModels:
    def test_writes_a_story(self, client):
        answer = client.completions.create(
            model="stories260k", prompt=STORY, max_tokens=120, **GREEDY
        )
        text = answer.choices[0].text
        assert text.startswith(" L")
        assert {"lily", "and", "to", "the"} <= set(re.findall("[a-z]+", text.lower()))
        assert ("text_completion", "stories260k", "length", 120) == (
            answer.object,
            answer.model,
            answer.choices[0].finish_reason,
            answer.usage.completion_tokens,
        )

    def test_a_chat_is_the_same_streamed_and_whole(self, client):
        asked = {
            "model": "stories260k",
            "messages": [{"role": "user", "content": "Tell me of a dog."}],
            "max_tokens": 60,
            **GREEDY,
        }
        whole = client.chat.completions.create(**asked)
        chunks = list(
            client.chat.completions.create(
                **asked, stream=True, stream_options={"include_usage": True}
            )
        )
        pieces = [c.choices[0].delta.content for c in chunks[1:-2]]
        assert whole.choices[0].message.content == "".join(pieces)
        assert all(pieces)
        assert len(pieces) > 10
        assert "assistant" == chunks[0].choices[0].delta.role
        assert "length" == chunks[-2].choices[0].finish_reason
        assert whole.usage.completion_tokens == chunks[-1].usage.completion_tokens == 60

    def test_completions_take_a_string_a_list_and_tokens(self, client, real_models):
        (alone,) = generate_alone(real_models / STORIES, [STORY], 20)
        asked = {"model": "stories260k", "max_tokens": 20, **GREEDY}
        one = client.completions.create(prompt=STORY, **asked)
        many = client.completions.create(prompt=[STORY, "The cat"], **asked)
        tokens = client.completions.create(prompt=alone.prompt, **asked)
        assert [0, 1] == [choice.index for choice in many.choices]
        texts = [answer.choices[0].text for answer in (one, many, tokens)]
        assert [alone.text] * 3 == texts
        assert many.choices[0].text != many.choices[1].text
        assert 40 == many.usage.completion_tokens
        assert one.usage.prompt_tokens == tokens.usage.prompt_tokens

    def test_a_paraphrase_lies_nearer_than_an_unrelated_sentence(self, client):
        texts = [
            "The children are playing football in the park.",
            "Kids kick a ball around on the green.",
            "The central bank raised its interest rate by half a percent.",
        ]
        answer = client.embeddings.create(model="all-minilm-l6-v2", input=texts)
        anchor, paraphrase, unrelated = (item.embedding for item in answer.data)
        assert dot(anchor, paraphrase) > dot(anchor, unrelated) + 0.3
        assert [1.0] * 3 == [
            pytest.approx(dot(v, v), abs=1e-5) for v in (anchor, paraphrase, unrelated)
        ]

    def test_base64_holds_the_same_vector_as_floats(self, client):
        asked = {"model": "all-minilm-l6-v2", "input": "A wheel turns."}
        floats = client.embeddings.create(**asked, encoding_format="float")
        packed = client.embeddings.with_raw_response.create(
            **asked, encoding_format="base64"
        )
        raw = b64decode(packed.http_response.json()["data"][0]["embedding"])
        assert floats.data[0].embedding == list(struct.unpack("<384f", raw))

    def test_dimensions_cut_the_vector_and_keep_its_length(self, client):
        asked = {"model": "all-minilm-l6-v2", "input": "A wheel turns."}
        whole = client.embeddings.create(**asked).data[0].embedding
        short = client.embeddings.create(**asked, dimensions=64).data[0].embedding
        norm = math.sqrt(dot(whole[:64], whole[:64]))
        assert pytest.approx([v / norm for v in whole[:64]], abs=1e-5) == short


def test_a_text_has_one_vector_alone_in_a_list_and_as_tokens(made_client):
    alone = embed(made_client, "the mill")
    listed = embed(made_client, ["a river of ice", "the mill", "the wheel"])
    assert pytest.approx(alone[0], abs=1e-4) == listed[1]
    assert dot(listed[0], listed[1]) < 0.999


def test_embedding_usage_counts_every_token(made_client):
    one = made_client.embeddings.create(model="tiny-bert", input="the mill")
    two = made_client.embeddings.create(model="tiny-bert", input=["the mill"] * 3)
    assert 4 == one.usage.prompt_tokens  # two words between [CLS] and [SEP]
    assert (12, 12) == (two.usage.prompt_tokens, two.usage.total_tokens)


def test_lists_every_model_once(made_client):
    assert [
        "acme/dup/twin@f32",
        "odd:name",
        "other/dup/twin@f32",
        "tiny-bert",
        "tiny-gemma3",
        "tiny-jamba",
        "tiny-llama",
        "tiny-mamba",
        "tiny-qwen2",
        "twin@f16",
    ] == [model.id for model in made_client.models.list()]


@pytest.mark.parametrize(
    ("name", "model_id"),
    [
        ("tiny-qwen2", "tiny-qwen2"),
        ("Tiny-Qwen2.gguf", "tiny-qwen2"),
        ("acme/qwen", "tiny-qwen2"),
        ("acme/dup/twin@f32", "acme/dup/twin@f32"),
        ("twin@f16", "twin@f16"),
        ("odd:name", "odd:name"),
    ],
)
def test_retrieves_a_model_by_any_name_raw_and_encoded(
    made_client, server, name, model_id
):
    # The client writes / as %2F and : as %3A; the second request does not.
    assert model_id == made_client.models.retrieve(name).id
    assert model_id == server.get(f"/v1/models/{name}").json()["id"]


@pytest.mark.parametrize("name", ["acme/qwen", "odd:name", "twin@f16"])
def test_every_listed_name_answers(made_client, name):
    answer = made_client.completions.create(model=name, prompt="the", max_tokens=2)
    assert 2 == answer.usage.completion_tokens


def test_an_unknown_model_is_an_error_that_names_what_exists(made_client):
    with pytest.raises(openai.NotFoundError) as caught:
        made_client.completions.create(model="gpt-4o", prompt="the")
    assert "model_not_found" == caught.value.code
    assert "tiny-llama" in caught.value.message


def test_an_embedding_model_does_not_chat(made_client):
    with pytest.raises(openai.BadRequestError) as caught:
        made_client.completions.create(model="tiny-bert", prompt="the")
    assert "wrong_model_type" == caught.value.code


def embed(client, texts):
    answer = client.embeddings.create(model="tiny-bert", input=texts)
    return [item.embedding for item in answer.data]


def dot(left, right):
    return sum(a * b for a, b in zip(left, right, strict=True))

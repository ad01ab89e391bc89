"""The official Python client parses objects, also of a model that thinks."""

import json
from enum import StrEnum
from typing import Literal

import pytest
from pydantic import BaseModel

from tests.clients.questions import (
    MODEL,
    SUM,
    THINK,
    TOOLS,
    WANT_PERSON,
    WANT_SUM,
    WANT_WEATHER,
    WHO,
    ask,
    calls_of,
)


class Person(BaseModel):
    name: str
    city: str


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Room(BaseModel):
    name: str
    colour: Colour


class House(BaseModel):
    """A schema with references, a list, a number and a null."""

    owner: Person
    rooms: list[Room]
    storeys: int
    kind: Literal["flat", "villa"]
    note: str | None


def test_parse_gives_an_object(chat):
    answer = chat.parse(
        model=MODEL, messages=ask(WANT_PERSON), temperature=0, response_format=Person
    )
    choice = answer.choices[0]
    assert "stop" == choice.finish_reason
    assert Person(name="Ada", city="Zurich") == choice.message.parsed
    assert choice.message.refusal is None
    # What did not happen is absent, and not an empty text.
    assert "reasoning_content" not in choice.message.model_extra


def test_parse_holds_a_nested_schema_whatever_the_question(chat):
    answer = chat.parse(
        model=MODEL,
        messages=ask(WHO),
        temperature=0,
        response_format=House,
        max_tokens=600,
    )
    assert isinstance(answer.choices[0].message.parsed, House)


def test_the_streaming_helper_parses_as_it_goes(chat):
    with chat.stream(
        model=MODEL, messages=ask(WANT_PERSON), temperature=0, response_format=Person
    ) as stream:
        events = list(stream)
    deltas = [e for e in events if e.type == "content.delta"]
    (done,) = [e for e in events if e.type == "content.done"]
    assert Person(name="Ada", city="Zurich") == done.parsed
    assert done.content == "".join(e.delta for e in deltas)
    assert len(deltas) > 3
    final = stream.get_final_completion()
    assert Person(name="Ada", city="Zurich") == final.choices[0].message.parsed


def test_json_object_gives_an_object(choose):
    choice = choose(messages=ask(WANT_PERSON), response_format={"type": "json_object"})
    assert {"name": "Ada", "city": "Zurich"} == json.loads(choice.message.content)


def test_the_text_format_constrains_nothing(choose):
    choice = choose(messages=ask(WANT_SUM), response_format={"type": "text"})
    assert SUM == choice.message.content


@pytest.mark.parametrize("strict", [True, False, "true", None])
def test_a_schema_holds_however_strict_is_written(choose, strict):
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    json_schema = {"name": "colour", "schema": schema}
    if strict is not None:
        json_schema["strict"] = strict
    choice = choose(
        messages=ask(WANT_SUM),
        response_format={"type": "json_schema", "json_schema": json_schema},
    )
    answer = json.loads(choice.message.content)
    assert ["colour"] == list(answer)
    assert answer["colour"] in {"red", "green"}


def test_reasoning_stands_apart_from_a_structured_answer(chat):
    answer = chat.parse(
        model=MODEL,
        messages=ask(WANT_PERSON),
        temperature=0,
        response_format=Person,
        extra_body=THINK,
    )
    message = answer.choices[0].message
    assert Person(name="Ada", city="Zurich") == message.parsed
    assert "The keys are name, city." == message.reasoning_content
    usage = answer.usage
    n_thought = usage.completion_tokens_details.reasoning_tokens
    assert 0 < n_thought < usage.completion_tokens


def test_streamed_reasoning_comes_before_a_structured_answer(create):
    order = []
    texts = {"reasoning_content": "", "content": ""}
    response_format = {
        "type": "json_schema",
        "json_schema": {
            "name": "person",
            "strict": True,
            "schema": {**Person.model_json_schema(), "additionalProperties": False},
        },
    }
    for chunk in create(
        messages=ask(WANT_PERSON),
        response_format=response_format,
        extra_body=THINK,
        stream=True,
    ):
        delta = chunk.choices[0].delta
        for name in texts:
            if text := getattr(delta, name, None):
                order.append(name)
                texts[name] += text
    assert order == sorted(order, reverse=True)
    assert order.count("reasoning_content") > 1
    assert "The keys are name, city." == texts["reasoning_content"]
    assert {"name": "Ada", "city": "Zurich"} == json.loads(texts["content"])


def test_a_model_may_think_before_it_calls(choose):
    message = choose(messages=ask(WANT_WEATHER), tools=TOOLS, extra_body=THINK).message
    assert [("get_weather", {"city": "Zurich"})] == calls_of(message)
    assert message.reasoning_content.startswith("The tool is ")
    assert message.content is None


def test_echoed_reasoning_is_accepted(choose):
    first = choose(messages=ask(WANT_SUM), extra_body=THINK).message
    assert first.reasoning_content
    again = choose(messages=[*ask(WANT_SUM), first, *ask(WANT_SUM)], extra_body=THINK)
    assert "stop" == again.finish_reason


def test_each_token_of_a_structured_answer_has_its_logprob(chat):
    answer = chat.parse(
        model=MODEL,
        messages=ask(WANT_PERSON),
        temperature=0,
        response_format=Person,
        logprobs=True,
        top_logprobs=3,
    )
    choice = answer.choices[0]
    tokens = choice.logprobs.content
    assert choice.message.content == "".join(entry.token for entry in tokens)
    assert choice.message.content.encode() == b"".join(bytes(e.bytes) for e in tokens)
    assert all(entry.logprob <= 0 for entry in tokens)
    assert any(entry.logprob < 0 for entry in tokens)
    for entry in tokens:
        assert 1 <= len(entry.top_logprobs) <= 3
        # At temperature 0 the likeliest one of what the schema allows is taken.
        assert entry.logprob == max(each.logprob for each in entry.top_logprobs)

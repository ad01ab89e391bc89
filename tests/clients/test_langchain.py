"""LangChain's ChatOpenAI: messages, tools and structured output."""

from functools import reduce
from operator import add

import pytest
from pydantic import BaseModel, Field

from tests.clients.questions import (
    MODEL,
    NOVICE,
    SUM,
    WANT_LIGHT,
    WANT_PERSON,
    WANT_PERSON_BY,
    WANT_SUM,
    WANT_WEATHER,
    WHO,
)

langchain = pytest.importorskip(
    "langchain_openai", reason="needs langchain-openai: run make test-clients"
)
messages = pytest.importorskip("langchain_core.messages", reason="same")
tools = pytest.importorskip("langchain_core.tools", reason="same")

WEATHER_CALL = ("get_weather", {"city": "Zurich"})


class Person(BaseModel):
    """A person; the bounds keep short what Novice makes of other questions."""

    name: str = Field(max_length=20)
    city: str = Field(max_length=20)


@tools.tool
def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return {"Zurich": "42"}[city]


@tools.tool
def set_light(room: str) -> str:
    """Set the light of a room."""
    return room


@pytest.fixture
def model(server):
    return langchain.ChatOpenAI(
        model=MODEL,
        base_url=server.api,
        api_key="unused",
        temperature=0,
        max_retries=0,
        timeout=60,
        stream_usage=True,
    )


def calls_of(message):
    return [(call["name"], call["args"]) for call in message.tool_calls]


def test_invoke_gives_text_and_usage(model):
    answer = model.invoke(WANT_SUM)
    assert SUM == answer.content
    assert "stop" == answer.response_metadata["finish_reason"]
    usage = answer.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["output_tokens"] > 0


def test_batch_answers_in_the_order_asked(model):
    assert [SUM, NOVICE] == [each.content for each in model.batch([WANT_SUM, WHO])]


def test_stream_gives_pieces_that_add_up(model):
    pieces = list(model.stream(WANT_SUM))
    assert len([piece for piece in pieces if piece.content]) > 3
    whole = reduce(add, pieces)
    assert SUM == whole.content
    assert whole.usage_metadata["output_tokens"] > 0


async def stream_of(model, question):
    return [piece async for piece in model.astream(question)]


@pytest.mark.anyio
async def test_the_asynchronous_stream_gives_the_same(model):
    assert SUM == reduce(add, await stream_of(model, WANT_SUM)).content


def test_a_bound_tool_is_called(model):
    answer = model.bind_tools([get_weather, set_light]).invoke(WANT_WEATHER)
    assert [WEATHER_CALL] == calls_of(answer)
    assert [] == answer.invalid_tool_calls
    assert "" == answer.content
    assert "tool_calls" == answer.response_metadata["finish_reason"]


def test_a_streamed_call_comes_in_chunks_that_add_up(model):
    bound = model.bind_tools([get_weather, set_light])
    pieces = list(bound.stream(WANT_WEATHER))
    assert len([piece for piece in pieces if piece.tool_call_chunks]) > 3
    assert [WEATHER_CALL] == calls_of(reduce(add, pieces))


@pytest.mark.parametrize("choice", ["any", "set_light"])
def test_a_chosen_tool_is_called_whatever_is_asked(model, choice):
    bound = model.bind_tools([set_light], tool_choice=choice)
    ((name, arguments),) = calls_of(bound.invoke(WHO))
    assert "set_light" == name
    assert ["room"] == list(arguments)


def test_strict_tools_are_taken(model):
    bound = model.bind_tools([set_light], strict=True, parallel_tool_calls=False)
    assert [("set_light", {"room": "Kitchen"})] == calls_of(bound.invoke(WANT_LIGHT))


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_loop_of_tools_ends_in_an_answer(model, is_streamed):
    bound = model.bind_tools([get_weather, set_light])

    def answer(so_far):
        if is_streamed:
            return reduce(add, bound.stream(so_far))
        return bound.invoke(so_far)

    so_far = [messages.HumanMessage(WANT_WEATHER)]
    so_far.append(answer(so_far))
    so_far += [get_weather.invoke(call) for call in so_far[-1].tool_calls]
    assert "42" == so_far[-1].content
    last = answer(so_far)
    assert "The result is 42." == last.content
    assert [] == last.tool_calls


@pytest.mark.parametrize(
    ("method", "question"),
    [
        ("json_schema", WANT_PERSON),
        ("function_calling", WANT_PERSON_BY.format(tool="Person")),
        ("json_mode", WANT_PERSON),
    ],
)
def test_structured_output_is_an_object(model, method, question):
    structured = model.with_structured_output(Person, method=method)
    assert Person(name="Ada", city="Zurich") == structured.invoke(question)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_holds_whatever_is_asked(model, method):
    structured = model.with_structured_output(
        Person, method=method, include_raw=True, strict=True
    )
    answer = structured.invoke(WHO)
    assert answer["parsing_error"] is None
    assert isinstance(answer["parsed"], Person)


def test_structured_output_is_streamed(model):
    structured = model.with_structured_output(Person, method="json_schema")
    *_, last = structured.stream(WANT_PERSON)
    assert Person(name="Ada", city="Zurich") == last

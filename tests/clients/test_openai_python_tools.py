"""The official Python client calls tools, at once and streamed."""

import json
from enum import StrEnum
from typing import Literal

import pytest
from pydantic import BaseModel

from tests.clients.questions import (
    MODEL,
    SUM,
    TOOLS,
    WANT_BOTH,
    WANT_LIGHT,
    WANT_SUM,
    WANT_WEATHER,
    WEATHER,
    ask,
    calls_of,
)

openai = pytest.importorskip("openai", reason="needs openai: run make test-clients")


class City(BaseModel):
    """Get the weather of a city."""

    city: str


class Light(BaseModel):
    """Set the light of a room."""

    room: str


STRICT_TOOLS = [
    openai.pydantic_function_tool(City, name="get_weather"),
    openai.pydantic_function_tool(Light, name="set_light"),
]


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Room(BaseModel):
    name: str
    colour: Colour


class Lamps(BaseModel):
    """Set the lamps of a house."""

    rooms: list[Room]
    level: int
    mode: Literal["warm", "cold"]


@pytest.fixture
def for_several_calls(server):
    """What makes Novice write two or three calls: its answer's end is unlikely.

    From 14 on it writes a second one, from 16.5 on it does not stop any more.
    """
    end = str(server.tokenize("<|im_end|>")[0])
    return {
        "messages": ask(WANT_BOTH),
        "tools": STRICT_TOOLS,
        "tool_choice": "required",
        "logit_bias": {end: -15},
        "max_tokens": 250,
    }


def test_a_tool_is_called_when_the_model_wants_to(create):
    answer = create(messages=ask(WANT_WEATHER), tools=TOOLS)
    choice = answer.choices[0]
    assert "tool_calls" == choice.finish_reason
    assert [("get_weather", {"city": "Zurich"})] == calls_of(choice.message)
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    assert "function" == call.type
    assert call.id


def test_no_tool_is_called_when_the_model_does_not_want_to(choose):
    choice = choose(messages=ask(WANT_SUM), tools=TOOLS)
    assert "stop" == choice.finish_reason
    assert SUM == choice.message.content
    # Absent, as OpenAI has it: an empty list reads as a call in some clients.
    assert choice.message.tool_calls is None


def test_the_right_one_of_two_tools_is_called(choose):
    choice = choose(messages=ask(WANT_LIGHT), tools=TOOLS)
    assert [("set_light", {"room": "Kitchen"})] == calls_of(choice.message)


@pytest.mark.parametrize(
    ("tool_choice", "name", "key"),
    [
        ("required", "get_weather", "city"),
        (
            {"type": "function", "function": {"name": "set_light"}},
            "set_light",
            "room",
        ),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "set_light"}}],
                },
            },
            "set_light",
            "room",
        ),
    ],
    ids=["required", "named", "allowed"],
)
def test_a_forced_call_has_the_form_of_the_tool(create, tool_choice, name, key):
    # It asks for the weather, even where only the light may be set.
    answer = create(messages=ask(WANT_WEATHER), tools=TOOLS, tool_choice=tool_choice)
    choice = answer.choices[0]
    ((called, arguments),) = calls_of(choice.message)
    assert name == called
    assert [key] == list(arguments)
    assert isinstance(arguments[key], str)
    assert choice.message.content is None


def test_a_call_is_forced_on_a_question_that_needs_none(choose):
    choice = choose(messages=ask(WANT_SUM), tools=TOOLS, tool_choice="required")
    assert "tool_calls" == choice.finish_reason
    ((name, arguments),) = calls_of(choice.message)
    assert {"get_weather": ["city"], "set_light": ["room"]}[name] == list(arguments)


def test_allowed_tools_leaves_the_choice_to_the_model_in_mode_auto(choose):
    allowed = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [WEATHER]},
    }
    choice = choose(messages=ask(WANT_SUM), tools=TOOLS, tool_choice=allowed)
    assert SUM == choice.message.content
    choice = choose(messages=ask(WANT_WEATHER), tools=TOOLS, tool_choice=allowed)
    assert [("get_weather", {"city": "Zurich"})] == calls_of(choice.message)


def test_tool_choice_none_never_calls(choose):
    choice = choose(messages=ask(WANT_WEATHER), tools=TOOLS, tool_choice="none")
    assert "stop" == choice.finish_reason
    assert choice.message.tool_calls is None


def test_several_calls_come_in_one_answer(choose, for_several_calls):
    choice = choose(**for_several_calls)
    assert "tool_calls" == choice.finish_reason
    calls = calls_of(choice.message)
    assert len(calls) > 1
    assert ("get_weather", {"city": "Zurich"}) == calls[0]
    ids = [call.id for call in choice.message.tool_calls]
    assert len(ids) == len(set(ids))


def test_parallel_tool_calls_false_ends_after_one_call(choose, for_several_calls):
    choice = choose(**for_several_calls, parallel_tool_calls=False)
    assert "tool_calls" == choice.finish_reason
    assert [("get_weather", {"city": "Zurich"})] == calls_of(choice.message)


@pytest.fixture
def streamed(create, for_several_calls):
    """The chunks of an answer that has several calls."""
    return list(
        create(**for_several_calls, stream=True, stream_options={"include_usage": True})
    )


def test_a_stream_of_calls_ends_with_its_reason_and_then_its_usage(streamed):
    *body, last = streamed
    assert [] == last.choices
    assert last.usage.total_tokens == (
        last.usage.prompt_tokens + last.usage.completion_tokens
    )
    assert {None} == {chunk.usage for chunk in body}
    assert 1 == len({chunk.id for chunk in streamed})
    assert "tool_calls" == body[-1].choices[0].finish_reason
    assert {None} == {chunk.choices[0].finish_reason for chunk in body[:-1]}


def test_streamed_calls_have_the_shape_that_accumulators_need(streamed):
    steps = [chunk.choices[0].delta for chunk in streamed[:-1]]
    assert [] not in [step.tool_calls for step in steps]
    deltas = [delta for step in steps for delta in step.tool_calls or []]
    first = [delta for delta in deltas if delta.id is not None]
    assert len(first) > 1
    assert list(range(len(first))) == [delta.index for delta in first]
    assert [delta.index for delta in deltas] == sorted(d.index for d in deltas)
    assert {("function", "")} == {(d.type, d.function.arguments) for d in first}
    later = [delta for delta in deltas if delta.id is None]
    assert {(None, None)} == {(d.type, d.function.name) for d in later}
    assert all(delta.function.arguments for delta in later)
    texts = ["" for _ in first]
    for delta in deltas:
        texts[delta.index] += delta.function.arguments
    assert {"city": "Zurich"} == json.loads(texts[0])
    assert all(isinstance(json.loads(text), dict) for text in texts)
    # As they are generated, and not in one piece at the end.
    assert len([delta for delta in later if delta.index == 0]) > 2


def test_the_streaming_helper_puts_calls_together(chat, for_several_calls):
    with chat.stream(model=MODEL, temperature=0, **for_several_calls) as stream:
        events = list(stream)
    message = stream.get_final_completion().choices[0].message
    calls = message.tool_calls
    assert len(calls) > 1
    assert City(city="Zurich") == calls[0].function.parsed_arguments
    done = [e for e in events if e.type == "tool_calls.function.arguments.done"]
    assert [c.function.arguments for c in calls] == [e.arguments for e in done]
    assert list(range(len(calls))) == [e.index for e in done]
    deltas = [e for e in events if e.type == "tool_calls.function.arguments.delta"]
    assert calls[0].function.arguments == "".join(
        e.arguments_delta for e in deltas if e.index == 0
    )


def test_the_pydantic_tool_helper_gives_parsed_arguments(chat):
    tool = openai.pydantic_function_tool(City, name="get_weather")
    assert tool["function"]["strict"] is True
    choice = chat.parse(
        model=MODEL, messages=ask(WANT_WEATHER), temperature=0, tools=[tool]
    ).choices[0]
    (call,) = choice.message.tool_calls
    assert City(city="Zurich") == call.function.parsed_arguments


def test_a_forced_strict_call_validates_against_a_nested_schema(chat):
    tool = openai.pydantic_function_tool(Lamps, name="set_lamps")
    choice = chat.parse(
        model=MODEL,
        messages=ask("Use set_lamps with level 3."),
        temperature=0,
        tools=[tool],
        tool_choice="required",
        max_tokens=400,
    ).choices[0]
    (call,) = choice.message.tool_calls
    assert isinstance(call.function.parsed_arguments, Lamps)


def test_a_whole_loop_of_an_agent_ends_in_an_answer(choose):
    weather = {"Zurich": "42"}
    messages = ask(WANT_WEATHER)
    message = choose(messages=messages, tools=TOOLS).message
    (call,) = message.tool_calls
    result = weather[json.loads(call.function.arguments)["city"]]
    # The message goes back as the client has it: with content null and all.
    messages.append(message)
    messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    choice = choose(messages=messages, tools=TOOLS)
    assert "stop" == choice.finish_reason
    assert "The result is 42." == choice.message.content


@pytest.mark.parametrize("name", ["get-weather", "weather.get", "my:Weather"])
def test_a_name_comes_back_as_it_was_given(choose, name):
    tool = {"type": "function", "function": {"name": name}}
    choice = choose(
        messages=ask(WANT_WEATHER), tools=[tool], tool_choice="required", max_tokens=100
    )
    assert name == choice.message.tool_calls[0].function.name


def test_every_one_of_n_choices_has_its_own_calls(create):
    answer = create(messages=ask(WANT_WEATHER), tools=TOOLS, n=2)
    assert [0, 1] == [choice.index for choice in answer.choices]
    for choice in answer.choices:
        assert "tool_calls" == choice.finish_reason
        assert [("get_weather", {"city": "Zurich"})] == calls_of(choice.message)
    ids = {choice.message.tool_calls[0].id for choice in answer.choices}
    assert 2 == len(ids)


def test_every_one_of_n_streamed_choices_has_its_own_calls(create):
    texts = {0: "", 1: ""}
    for chunk in create(messages=ask(WANT_WEATHER), tools=TOOLS, n=2, stream=True):
        for choice in chunk.choices:
            for delta in choice.delta.tool_calls or []:
                assert 0 == delta.index
                texts[choice.index] += delta.function.arguments
    assert {key: {"city": "Zurich"} for key in (0, 1)} == {
        index: json.loads(text) for index, text in texts.items()
    }


def test_tools_count_as_prompt(create):
    without = create(messages=ask(WANT_SUM)).usage
    with_tools = create(messages=ask(WANT_SUM), tools=TOOLS).usage
    assert with_tools.prompt_tokens > without.prompt_tokens + 50

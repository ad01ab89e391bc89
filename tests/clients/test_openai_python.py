"""The official Python client: tools, reasoning and structured output."""

import json
from enum import StrEnum
from typing import Literal

import pytest
from pydantic import BaseModel

from tests.clients.conftest import MODEL

openai = pytest.importorskip("openai", reason="needs openai: run make test-clients")

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
LIGHT = {
    "type": "function",
    "function": {
        "name": "set_light",
        "description": "Set the light of a room.",
        "parameters": {
            "type": "object",
            "properties": {"room": {"type": "string"}},
            "required": ["room"],
        },
    },
}
TOOLS = [WEATHER, LIGHT]
ASK_WEATHER = [{"role": "user", "content": "Use get_weather with city Zurich."}]
ASK_LIGHT = [{"role": "user", "content": "Use set_light with room Kitchen."}]
ASK_PERSON = [
    {
        "role": "user",
        "content": "Give me a JSON object with name Ada and city Zurich.",
    }
]
ASK_BOTH = [
    {
        "role": "user",
        "content": "Use get_weather with city Zurich and set_light with room Kitchen.",
    }
]
ASK_SUM = [{"role": "user", "content": "What is 12 + 31?"}]
THINK = {"chat_template_kwargs": {"enable_thinking": True}}


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


@pytest.fixture
def chat(server):
    with openai.OpenAI(
        base_url=server.api, api_key="unused", max_retries=0, timeout=60
    ) as client:
        yield client.chat.completions


@pytest.fixture
def more_calls(server):
    """A bias against the end of an answer: Novice writes several calls then."""
    return {str(server.tokenize("<|im_end|>")[0]): -16}


def calls_of(message):
    return [
        (call.function.name, json.loads(call.function.arguments))
        for call in message.tool_calls or []
    ]


def create(chat, messages, **more):
    return chat.create(model=MODEL, messages=messages, temperature=0, **more)


# Tools


def test_a_tool_is_called_when_the_model_wants_to(chat):
    answer = create(chat, ASK_WEATHER, tools=TOOLS)
    choice = answer.choices[0]
    assert "tool_calls" == choice.finish_reason
    assert [("get_weather", {"city": "Zurich"})] == calls_of(choice.message)
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    assert "function" == call.type
    assert call.id


def test_no_tool_is_called_when_the_model_does_not_want_to(chat):
    choice = create(chat, ASK_SUM, tools=TOOLS).choices[0]
    assert "stop" == choice.finish_reason
    assert "12 + 31 = 40 + 3 = 43" == choice.message.content
    # Absent, as OpenAI has it: an empty list reads as a call in some clients.
    assert choice.message.tool_calls is None


def test_the_right_one_of_two_tools_is_called(chat):
    choice = create(chat, ASK_LIGHT, tools=TOOLS).choices[0]
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
def test_a_forced_call_has_the_form_of_the_tool(chat, tool_choice, name, key):
    # It asks for the weather, even where only the light may be set.
    answer = create(chat, ASK_WEATHER, tools=TOOLS, tool_choice=tool_choice)
    choice = answer.choices[0]
    ((called, arguments),) = calls_of(choice.message)
    assert name == called
    assert [key] == list(arguments)
    assert isinstance(arguments[key], str)
    assert choice.message.content is None


def test_a_call_is_forced_on_a_question_that_needs_none(chat):
    choice = create(chat, ASK_SUM, tools=TOOLS, tool_choice="required").choices[0]
    assert "tool_calls" == choice.finish_reason
    ((name, arguments),) = calls_of(choice.message)
    assert {"get_weather": ["city"], "set_light": ["room"]}[name] == list(arguments)


def test_allowed_tools_leaves_the_choice_to_the_model_in_mode_auto(chat):
    allowed = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [WEATHER]},
    }
    choice = create(chat, ASK_SUM, tools=TOOLS, tool_choice=allowed).choices[0]
    assert "12 + 31 = 40 + 3 = 43" == choice.message.content
    choice = create(chat, ASK_WEATHER, tools=TOOLS, tool_choice=allowed).choices[0]
    assert [("get_weather", {"city": "Zurich"})] == calls_of(choice.message)


def test_tool_choice_none_never_calls(chat):
    choice = create(chat, ASK_WEATHER, tools=TOOLS, tool_choice="none").choices[0]
    assert "stop" == choice.finish_reason
    assert choice.message.tool_calls is None


def test_several_calls_come_in_one_answer(chat, more_calls):
    answer = create(
        chat,
        ASK_BOTH,
        tools=TOOLS,
        tool_choice="required",
        logit_bias=more_calls,
        max_tokens=200,
    )
    choice = answer.choices[0]
    assert "tool_calls" == choice.finish_reason
    calls = calls_of(choice.message)
    assert len(calls) > 1
    assert ("get_weather", {"city": "Zurich"}) == calls[0]
    ids = [call.id for call in choice.message.tool_calls]
    assert len(ids) == len(set(ids))


def test_parallel_tool_calls_false_ends_after_one_call(chat, more_calls):
    answer = create(
        chat,
        ASK_BOTH,
        tools=TOOLS,
        tool_choice="required",
        parallel_tool_calls=False,
        logit_bias=more_calls,
        max_tokens=200,
    )
    choice = answer.choices[0]
    assert "tool_calls" == choice.finish_reason
    assert [("get_weather", {"city": "Zurich"})] == calls_of(choice.message)


def test_streamed_calls_have_the_shape_that_accumulators_need(chat, more_calls):
    chunks = list(
        create(
            chat,
            ASK_BOTH,
            tools=TOOLS,
            tool_choice="required",
            logit_bias=more_calls,
            max_tokens=200,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *body, last = chunks
    assert [] == last.choices
    assert last.usage.total_tokens == (
        last.usage.prompt_tokens + last.usage.completion_tokens
    )
    assert {None} == {chunk.usage for chunk in body}
    assert 1 == len({chunk.id for chunk in chunks})
    assert "tool_calls" == body[-1].choices[0].finish_reason
    assert {None} == {chunk.choices[0].finish_reason for chunk in body[:-1]}
    assert [] == [c for c in body if c.choices[0].delta.tool_calls == []]
    deltas = [
        delta for chunk in body for delta in chunk.choices[0].delta.tool_calls or []
    ]
    first = [delta for delta in deltas if delta.id is not None]
    assert list(range(len(first))) == [delta.index for delta in first]
    assert len(first) > 1
    assert [delta.index for delta in deltas] == sorted(d.index for d in deltas)
    assert {("function", "")} == {(d.type, d.function.arguments) for d in first}
    for delta in deltas:
        if delta.id is None:
            assert (None, None) == (delta.type, delta.function.name)
            assert delta.function.arguments
    texts = ["" for _ in first]
    for delta in deltas:
        texts[delta.index] += delta.function.arguments
    assert {"city": "Zurich"} == json.loads(texts[0])
    assert all(isinstance(json.loads(text), dict) for text in texts)
    # As they are generated, and not in one piece at the end.
    assert len([d for d in deltas if d.index == 0]) > 3


def test_the_streaming_helper_puts_calls_together(chat, more_calls):
    with chat.stream(
        model=MODEL,
        messages=ASK_BOTH,
        temperature=0,
        tools=[openai.pydantic_function_tool(City, name="get_weather")],
        tool_choice="required",
        logit_bias=more_calls,
        max_tokens=200,
    ) as stream:
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


class City(BaseModel):
    """Get the weather of a city."""

    city: str


class Lamp(BaseModel):
    """Set the lamps of a house."""

    rooms: list[Room]
    level: int
    mode: Literal["warm", "cold"]


def test_the_pydantic_tool_helper_gives_parsed_arguments(chat):
    tool = openai.pydantic_function_tool(City, name="get_weather")
    assert tool["function"]["strict"] is True
    choice = chat.parse(
        model=MODEL, messages=ASK_WEATHER, temperature=0, tools=[tool]
    ).choices[0]
    (call,) = choice.message.tool_calls
    assert City(city="Zurich") == call.function.parsed_arguments


def test_a_forced_strict_call_validates_against_a_nested_schema(chat):
    tool = openai.pydantic_function_tool(Lamp, name="set_lamps")
    choice = chat.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "Use set_lamps with level 3."}],
        temperature=0,
        tools=[tool],
        tool_choice="required",
        max_tokens=400,
    ).choices[0]
    (call,) = choice.message.tool_calls
    assert isinstance(call.function.parsed_arguments, Lamp)


def test_a_whole_loop_of_an_agent_ends_in_an_answer(chat):
    messages = [*ASK_WEATHER]
    message = create(chat, messages, tools=TOOLS).choices[0].message
    (call,) = message.tool_calls
    city = json.loads(call.function.arguments)["city"]
    # The message goes back as the client has it: with content null and all.
    messages += [
        message,
        {"role": "tool", "tool_call_id": call.id, "content": f"{city}: 42"},
    ]
    messages[-1]["content"] = {"Zurich": "42"}[city]
    choice = create(chat, messages, tools=TOOLS).choices[0]
    assert "stop" == choice.finish_reason
    assert "The result is 42." == choice.message.content


@pytest.mark.parametrize("name", ["get-weather", "weather.get", "my:Weather"])
def test_a_name_comes_back_as_it_was_given(chat, name):
    tool = {"type": "function", "function": {"name": name}}
    choice = create(
        chat, ASK_WEATHER, tools=[tool], tool_choice="required", max_tokens=100
    ).choices[0]
    assert name == choice.message.tool_calls[0].function.name


def test_every_one_of_n_choices_has_its_own_calls(chat):
    answer = create(chat, ASK_WEATHER, tools=TOOLS, n=2)
    assert [0, 1] == [choice.index for choice in answer.choices]
    for choice in answer.choices:
        assert "tool_calls" == choice.finish_reason
        assert [("get_weather", {"city": "Zurich"})] == calls_of(choice.message)
    ids = {choice.message.tool_calls[0].id for choice in answer.choices}
    assert 2 == len(ids)


def test_every_one_of_n_streamed_choices_has_its_own_calls(chat):
    texts = {0: "", 1: ""}
    for chunk in create(chat, ASK_WEATHER, tools=TOOLS, n=2, stream=True):
        for choice in chunk.choices:
            for delta in choice.delta.tool_calls or []:
                assert 0 == delta.index
                texts[choice.index] += delta.function.arguments
    assert dict.fromkeys((0, 1), {"city": "Zurich"}) == {
        index: json.loads(text) for index, text in texts.items()
    }


def test_tools_count_as_prompt(chat):
    without = create(chat, ASK_SUM).usage
    with_tools = create(chat, ASK_SUM, tools=TOOLS).usage
    assert with_tools.prompt_tokens > without.prompt_tokens + 50


# Structured output


def test_parse_gives_an_object(chat):
    answer = chat.parse(
        model=MODEL, messages=ASK_PERSON, temperature=0, response_format=Person
    )
    choice = answer.choices[0]
    assert "stop" == choice.finish_reason
    assert Person(name="Ada", city="Zurich") == choice.message.parsed
    assert choice.message.refusal is None
    assert choice.message.reasoning_content if _has_reasoning(choice) else True


def _has_reasoning(choice):
    return getattr(choice.message, "reasoning_content", None) is not None


def test_parse_holds_a_nested_schema_whatever_the_question(chat):
    answer = chat.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "Who are you?"}],
        temperature=0,
        response_format=House,
        max_tokens=600,
    )
    assert isinstance(answer.choices[0].message.parsed, House)


def test_the_streaming_helper_parses_as_it_goes(chat):
    with chat.stream(
        model=MODEL, messages=ASK_PERSON, temperature=0, response_format=Person
    ) as stream:
        events = list(stream)
    deltas = [e for e in events if e.type == "content.delta"]
    (done,) = [e for e in events if e.type == "content.done"]
    assert Person(name="Ada", city="Zurich") == done.parsed
    assert done.content == "".join(e.delta for e in deltas)
    assert len(deltas) > 3
    final = stream.get_final_completion()
    assert Person(name="Ada", city="Zurich") == final.choices[0].message.parsed


def test_json_object_gives_an_object(chat):
    choice = create(
        chat, ASK_PERSON, response_format={"type": "json_object"}
    ).choices[0]
    assert {"name": "Ada", "city": "Zurich"} == json.loads(choice.message.content)


def test_the_text_format_constrains_nothing(chat):
    choice = create(chat, ASK_SUM, response_format={"type": "text"}).choices[0]
    assert "12 + 31 = 40 + 3 = 43" == choice.message.content


@pytest.mark.parametrize("strict", [True, False, "true", None])
def test_a_schema_holds_however_strict_is_written(chat, strict):
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    json_schema = {"name": "colour", "schema": schema}
    if strict is not None:
        json_schema["strict"] = strict
    choice = create(
        chat,
        ASK_SUM,
        response_format={"type": "json_schema", "json_schema": json_schema},
    ).choices[0]
    answer = json.loads(choice.message.content)
    assert ["colour"] == list(answer)
    assert answer["colour"] in {"red", "green"}


def test_reasoning_stands_apart_from_a_structured_answer(chat):
    answer = chat.parse(
        model=MODEL,
        messages=ASK_PERSON,
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


def test_streamed_reasoning_comes_before_a_structured_answer(chat):
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
        chat,
        ASK_PERSON,
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


def test_a_model_may_think_before_it_calls(chat):
    message = create(chat, ASK_WEATHER, tools=TOOLS, extra_body=THINK).choices[0].message
    assert [("get_weather", {"city": "Zurich"})] == calls_of(message)
    assert message.reasoning_content.startswith("The tool is ")
    assert message.content is None


def test_echoed_reasoning_is_accepted(chat):
    first = create(chat, ASK_SUM, extra_body=THINK).choices[0].message
    assert first.reasoning_content
    again = create(chat, [*ASK_SUM, first, *ASK_SUM], extra_body=THINK).choices[0]
    assert "stop" == again.finish_reason


def test_each_token_of_a_structured_answer_has_its_logprob(chat):
    answer = chat.parse(
        model=MODEL,
        messages=ASK_PERSON,
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
    assert all(len(entry.top_logprobs) <= 3 for entry in tokens)
    assert any(entry.logprob < 0 for entry in tokens)


# Refusals


def refuse(chat, **more):
    with pytest.raises(openai.BadRequestError) as caught:
        create(chat, ASK_WEATHER, **more)
    error = caught.value
    assert "invalid_request_error" == error.type
    return error


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "function"}, "tools[0].function"),
        ({"type": "function", "function": {}}, "tools[0].function.name"),
        (
            {"type": "function", "function": {"name": "a b"}},
            "tools[0].function.name",
        ),
        (
            {"type": "function", "function": {"name": "f", "parameters": []}},
            "tools[0].function.parameters",
        ),
    ],
    ids=["no function", "no name", "bad name", "bad parameters"],
)
def test_a_bad_tool_is_refused_by_its_place(chat, tool, param):
    error = refuse(chat, tools=[tool])
    assert param == error.param
    assert error.code


def test_two_tools_of_one_name_are_refused(chat):
    error = refuse(chat, tools=[WEATHER, WEATHER])
    assert error.param.startswith("tools")


def test_a_choice_of_a_tool_that_is_not_offered_is_refused(chat):
    choice = {"type": "function", "function": {"name": "nope"}}
    error = refuse(chat, tools=TOOLS, tool_choice=choice)
    assert error.param.startswith("tool_choice")
    assert "nope" in error.message


def test_a_required_call_without_tools_is_refused(chat):
    error = refuse(chat, tool_choice="required")
    assert "tool_choice" == error.param


@pytest.mark.parametrize(
    ("response_format", "param"),
    [
        ({"type": "xml"}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema"),
    ],
    ids=["type", "no schema"],
)
def test_a_bad_response_format_is_refused(chat, response_format, param):
    error = refuse(chat, response_format=response_format)
    assert param == error.param
    assert error.code


def test_a_schema_that_nothing_fulfils_is_refused_before_the_answer(chat):
    json_schema = {
        "name": "none",
        "strict": True,
        "schema": {"type": "object", "properties": {"a": False}, "required": ["a"]},
    }
    error = refuse(
        chat,
        response_format={"type": "json_schema", "json_schema": json_schema},
        stream=True,
    )
    assert error.param.startswith("response_format")

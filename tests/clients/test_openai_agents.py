"""The OpenAI Agents SDK over chat completions: tools, output types, streams."""

import pytest
from pydantic import BaseModel, Field

from tests.clients.questions import (
    MODEL,
    SUM,
    WANT_PERSON,
    WANT_SUM,
    WANT_WEATHER,
    WHO,
)

agents = pytest.importorskip(
    "agents", reason="needs openai-agents: run make test-clients"
)
openai = pytest.importorskip("openai", reason="same")

pytestmark = pytest.mark.anyio


class Person(BaseModel):
    """A person; the bounds keep short what Novice makes of other questions."""

    name: str = Field(max_length=20)
    city: str = Field(max_length=20)


@pytest.fixture
async def model(server):
    agents.set_tracing_disabled(disabled=True)
    async with openai.AsyncOpenAI(
        base_url=server.api, api_key="unused", max_retries=0, timeout=60
    ) as client:
        yield agents.OpenAIChatCompletionsModel(model=MODEL, openai_client=client)


@pytest.fixture
def make(model):
    """Make an agent of Novice that answers the same each time."""

    def make_agent(instructions=None, *, settings=None, **more):
        return agents.Agent(
            name="Test",
            instructions=instructions,
            model=model,
            model_settings=agents.ModelSettings(temperature=0, **(settings or {})),
            **more,
        )

    return make_agent


@pytest.fixture
def seen():
    """Cities that the tool was asked for."""
    return []


@pytest.fixture
def get_weather(seen):
    @agents.function_tool
    def get_weather(city: str) -> str:
        """Get the weather of a city."""
        seen.append(city)
        return "42"

    return get_weather


async def test_an_agent_answers(make):
    result = await agents.Runner.run(make(), WANT_SUM)
    assert SUM == result.final_output


async def test_an_agent_calls_its_tool_and_reports(make, get_weather, seen):
    result = await agents.Runner.run(make(tools=[get_weather]), WANT_WEATHER)
    assert ["Zurich"] == seen
    assert "The result is 42." == result.final_output
    assert 2 == result.context_wrapper.usage.requests


async def test_a_required_tool_is_called_whatever_is_asked(make, get_weather, seen):
    agent = make(
        settings={"tool_choice": "required"},
        tools=[get_weather],
        tool_use_behavior="stop_on_first_tool",
    )
    result = await agents.Runner.run(agent, WHO)
    assert 1 == len(seen)
    assert "42" == result.final_output


async def test_a_streamed_agent_calls_its_tool_and_reports(make, get_weather, seen):
    result = agents.Runner.run_streamed(make(tools=[get_weather]), WANT_WEATHER)
    events = [event async for event in result.stream_events()]
    assert ["Zurich"] == seen
    assert "The result is 42." == result.final_output
    raw = [event.data for event in events if event.type == "raw_response_event"]
    texts = [e.delta for e in raw if e.type == "response.output_text.delta"]
    assert "The result is 42." == "".join(texts)
    arguments = [
        e.delta for e in raw if e.type == "response.function_call_arguments.delta"
    ]
    assert '{"city": "Zurich"}' == "".join(arguments)
    assert ["tool_called", "tool_output", "message_output_created"] == [
        event.name for event in events if event.type == "run_item_stream_event"
    ]


async def test_an_output_type_is_an_object(make):
    result = await agents.Runner.run(make(output_type=Person), WANT_PERSON)
    assert Person(name="Ada", city="Zurich") == result.final_output


async def test_an_output_type_holds_whatever_is_asked(make):
    result = await agents.Runner.run(make(output_type=Person), WHO)
    assert isinstance(result.final_output, Person)


async def test_an_output_type_is_streamed(make):
    result = agents.Runner.run_streamed(make(output_type=Person), WANT_PERSON)
    kinds = [
        event.data.type
        async for event in result.stream_events()
        if event.type == "raw_response_event"
    ]
    assert Person(name="Ada", city="Zurich") == result.final_output
    assert kinds.count("response.output_text.delta") > 3


async def test_tools_on_offer_leave_an_output_type_its_form(make, get_weather, seen):
    agent = make(tools=[get_weather], output_type=Person)
    result = await agents.Runner.run(agent, WANT_PERSON)
    assert [] == seen
    assert Person(name="Ada", city="Zurich") == result.final_output

"""Pydantic AI: agents with tools and structured output, run and streamed."""

import pytest
from pydantic import BaseModel, Field

from tests.clients.questions import (
    MODEL,
    SUM,
    WANT_LIGHT,
    WANT_PERSON,
    WANT_PERSON_BY,
    WANT_SUM,
    WANT_WEATHER,
    WHO,
)

ai = pytest.importorskip(
    "pydantic_ai", reason="needs pydantic-ai-slim: run make test-clients"
)
models = pytest.importorskip("pydantic_ai.models.openai", reason="same")
providers = pytest.importorskip("pydantic_ai.providers.openai", reason="same")
messages = pytest.importorskip("pydantic_ai.messages", reason="same")

pytestmark = pytest.mark.anyio


class Person(BaseModel):
    """A person; the bounds keep short what Novice makes of other questions."""

    name: str = Field(max_length=20)
    city: str = Field(max_length=20)


BY_FORM = [
    ("ToolOutput", WANT_PERSON_BY.format(tool="final_result")),
    ("NativeOutput", WANT_PERSON),
]


@pytest.fixture
def model(server):
    return models.OpenAIChatModel(
        MODEL,
        provider=providers.OpenAIProvider(base_url=server.api, api_key="unused"),
        settings={"temperature": 0, "timeout": 60},
    )


@pytest.fixture
def seen():
    """Cities that the tool was asked for."""
    return []


@pytest.fixture
def agent(model, seen):
    """An agent with two tools; a wrong call ends its run."""
    made = ai.Agent(model, retries=0)

    @made.tool_plain
    def get_weather(city: str) -> str:
        """Get the weather of a city."""
        seen.append(city)
        return "42"

    @made.tool_plain
    def set_light(room: str) -> str:
        """Set the light of a room."""
        seen.append(room)
        return "12"

    return made


async def test_an_agent_answers(model):
    result = await ai.Agent(model).run(WANT_SUM)
    assert SUM == result.output
    assert result.usage.output_tokens > 0


@pytest.mark.parametrize(
    ("question", "argument", "answer"),
    [
        (WANT_WEATHER, "Zurich", "The result is 42."),
        (WANT_LIGHT, "Kitchen", "The result is 12."),
    ],
)
async def test_an_agent_calls_its_tool_and_reports(
    agent, seen, question, argument, answer
):
    result = await agent.run(question)
    assert [argument] == seen
    assert answer == result.output
    assert 2 == result.usage.requests


async def test_a_streamed_agent_calls_its_tool_and_reports(agent, seen):
    async with agent.run_stream(WANT_WEATHER) as result:
        pieces = [piece async for piece in result.stream_text(debounce_by=None)]
    assert ["Zurich"] == seen
    assert "The result is 42." == pieces[-1]
    assert len(pieces) > 3


@pytest.mark.parametrize(("form", "question"), BY_FORM)
async def test_an_output_type_is_an_object(model, form, question):
    agent = ai.Agent(model, output_type=getattr(ai, form)(Person), retries=0)
    result = await agent.run(question)
    assert Person(name="Ada", city="Zurich") == result.output


@pytest.mark.parametrize("form", ["ToolOutput", "NativeOutput"])
async def test_an_output_type_holds_whatever_is_asked(model, form):
    agent = ai.Agent(model, output_type=getattr(ai, form)(Person), retries=0)
    result = await agent.run(WHO)
    assert isinstance(result.output, Person)
    assert 1 == result.usage.requests


@pytest.mark.parametrize(("form", "question"), BY_FORM)
async def test_an_output_type_is_streamed(model, form, question):
    agent = ai.Agent(model, output_type=getattr(ai, form)(Person), retries=0)
    async with agent.run_stream(question) as result:
        parts = [part async for part in result.stream_output(debounce_by=None)]
    assert Person(name="Ada", city="Zurich") == parts[-1]
    assert len(parts) > 1


async def test_a_thought_is_a_part_of_its_own(model):
    agent = ai.Agent(model)
    result = await agent.run(
        WANT_SUM,
        model_settings={
            "extra_body": {"chat_template_kwargs": {"enable_thinking": True}}
        },
    )
    parts = result.new_messages()[-1].parts
    assert [messages.ThinkingPart, messages.TextPart] == [type(part) for part in parts]
    assert "The tens make 40, the ones make 3." == parts[0].content
    assert SUM == result.output

"""Instructor: objects by tools, JSON and schemas, whole and in parts."""

from typing import Literal

import pytest
from pydantic import BaseModel

from tests.clients.questions import MODEL, WANT_PERSON, WHO, ask

instructor = pytest.importorskip(
    "instructor", reason="needs instructor: run make test-clients"
)
openai = pytest.importorskip("openai", reason="same")

MODES = ["TOOLS", "JSON", "JSON_SCHEMA"]


class Person(BaseModel):
    """A person."""

    name: str
    city: str


class Ticket(BaseModel):
    """What somebody asks for."""

    kind: Literal["question", "complaint"]
    urgency: Literal[1, 2, 3]
    is_open: bool


@pytest.fixture
def connect(server):
    """Give a client of a mode that never asks twice."""
    with openai.OpenAI(
        base_url=server.api, api_key="unused", max_retries=0, timeout=60
    ) as client:
        yield lambda mode: instructor.from_openai(client, mode=instructor.Mode[mode])


def request(question, **more):
    return {
        "model": MODEL,
        "messages": ask(question),
        "temperature": 0,
        "max_retries": 0,
        **more,
    }


@pytest.mark.parametrize("mode", MODES)
def test_an_object_is_made_of_a_question(connect, mode):
    client = connect(mode)
    person = client.chat.completions.create(
        **request(WANT_PERSON), response_model=Person
    )
    assert Person(name="Ada", city="Zurich") == person


# What is asked has no such object in it: the server alone makes the form right.
@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_an_object_has_its_form_whatever_is_asked(connect, mode):
    ticket, completion = connect(mode).chat.completions.create_with_completion(
        **request(WHO), response_model=Ticket
    )
    assert isinstance(ticket, Ticket)
    reason = completion.choices[0].finish_reason
    assert {"TOOLS": "tool_calls", "JSON_SCHEMA": "stop"}[mode] == reason


@pytest.mark.parametrize("mode", MODES)
def test_a_partial_object_grows_while_it_is_streamed(connect, mode):
    parts = list(
        connect(mode).chat.completions.create_partial(
            **request(WANT_PERSON), response_model=Person
        )
    )
    names = [part.name for part in parts if part.name is not None]
    assert names == sorted(names, key=len)
    assert len(set(names)) > 1
    assert ("Ada", "Zurich") == (parts[-1].name, parts[-1].city)


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_an_iterable_gives_objects_of_the_form(connect, mode):
    people = list(
        connect(mode).chat.completions.create_iterable(
            **request(WANT_PERSON, max_tokens=400), response_model=Person
        )
    )
    assert people
    assert {Person} == {type(person) for person in people}

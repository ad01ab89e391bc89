"""Instructor: objects by tools, JSON and schemas, whole and in parts."""

from typing import Literal

import pytest
from pydantic import BaseModel, Field

from tests.clients.questions import MODEL, WANT_PERSON, WANT_PERSON_BY, WHO, ask

instructor = pytest.importorskip(
    "instructor", reason="needs instructor: run make test-clients"
)
openai = pytest.importorskip("openai", reason="same")

WANT_BY_MODE = {
    "TOOLS": WANT_PERSON_BY.format(tool="Person"),
    "JSON": WANT_PERSON,
    "JSON_SCHEMA": WANT_PERSON,
}
ADA = {"name": "Ada", "city": "Zurich"}


class Person(BaseModel):
    """A person."""

    name: str
    city: str


class People(BaseModel):
    """A list whose bounds the server must hold as well."""

    people: list[Person] = Field(min_length=2, max_length=3)


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


@pytest.mark.parametrize("mode", WANT_BY_MODE)
def test_an_object_is_made_of_a_question(connect, mode):
    client = connect(mode)
    person = client.chat.completions.create(
        **request(WANT_BY_MODE[mode]), response_model=Person
    )
    # A model of the client's own that derives from ours.
    assert isinstance(person, Person)
    assert ADA == person.model_dump()


# What is asked has no such object in it: the server alone makes the form right.
@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_an_object_has_its_form_whatever_is_asked(connect, mode):
    ticket, completion = connect(mode).chat.completions.create_with_completion(
        **request(WHO), response_model=Ticket
    )
    assert isinstance(ticket, Ticket)
    reason = completion.choices[0].finish_reason
    assert {"TOOLS": "tool_calls", "JSON_SCHEMA": "stop"}[mode] == reason


@pytest.mark.parametrize("mode", WANT_BY_MODE)
def test_a_partial_object_grows_while_it_is_streamed(connect, mode):
    parts = list(
        connect(mode).chat.completions.create_partial(
            **request(WANT_BY_MODE[mode]), response_model=Person
        )
    )
    names = [part.name for part in parts if part.name is not None]
    assert names == sorted(names, key=len)
    assert len(set(names)) > 1
    assert ADA == parts[-1].model_dump()


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_a_list_has_as_many_entries_as_it_must(connect, mode):
    *_, people = connect(mode).chat.completions.create_partial(
        **request(WHO), response_model=People
    )
    assert 2 <= len(people.people) <= 3


@pytest.mark.parametrize("mode", ["JSON", "JSON_SCHEMA"])
def test_an_iterable_gives_objects_of_the_form(connect, mode):
    people = list(
        connect(mode).chat.completions.create_iterable(
            **request(WANT_PERSON, max_tokens=400), response_model=Person
        )
    )
    assert people
    assert {Person} == {type(person) for person in people}

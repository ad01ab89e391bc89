"""What a parser reports, in the order of the text.

`begin` counts the characters of the whole output, marks and all: the reader
finds by it which tokens belong to a text.
"""

from msgspec import Struct


class Answer(Struct, frozen=True):
    """More of the answer: the characters from `begin` on, unchanged."""

    begin: int
    text: str


class Thought(Struct, frozen=True):
    """More of a thought: the characters from `begin` on, unchanged."""

    begin: int
    text: str


class ThoughtBegan(Struct, frozen=True):
    """A thought was opened; it may stay empty."""


class CallBegan(Struct, frozen=True):
    """A tool call begins; `index` counts from 0."""

    index: int
    id: str
    name: str


class CallArguments(Struct, frozen=True):
    """More of the JSON text of a call's arguments, never empty."""

    index: int
    text: str


class CallDone(Struct, frozen=True):
    """A call is over; `arguments` is all that `CallArguments` told of it.

    It is valid JSON if the model wrote valid arguments and came to their end.
    """

    index: int
    arguments: str


CallEvent = CallBegan | CallArguments | CallDone
ParserEvent = Answer | Thought | ThoughtBegan | CallEvent

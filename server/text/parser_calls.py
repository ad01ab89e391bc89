"""The calls of one answer: their numbers, ids, names and arguments so far."""

import re
import secrets
import string
from collections.abc import Callable, Mapping
from typing import Any

from server.core.requests import Tool
from server.text.parser_cursor import Cursor, NoCall
from server.text.parser_events import (
    CallArguments,
    CallBegan,
    CallDone,
    ParserEvent,
)

MAX_NAME_CHARACTERS = 256
MAX_ID_CHARACTERS = 128

_NAME = re.compile(r"[\w.:/@+-]+")
_NAME_IN_ID = re.compile(r"(?:functions\.)?(.+?):\d+")
_ID_CHARACTERS = string.ascii_letters + string.digits
_ID_LENGTH = 9


def draw_id() -> str:
    """Return a fresh id for a call.

    Nine letters and digits, since the templates of Mistral's models accept
    nothing else when the call is sent back.
    """
    return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))


def split_id(text: str) -> tuple[str, str]:
    """Return name and id of a call whose name is part of its id.

    "functions.NAME:INDEX" is an id; anything else is only a name.
    """
    found = _NAME_IN_ID.fullmatch(text)
    if found is None:
        return text.removeprefix("functions."), ""
    return found[1], text


class CallSink:
    """Takes what a grammar finds of calls, and makes events of it.

    Args:
        cursor: Is told to hold no text while arguments come.
        tools: The tools that the request named.
        draw: Makes ids for calls that the model gave none.
        on_begin: Is told of each call, just before its text is let go.
    """

    def __init__(
        self,
        cursor: Cursor,
        tools: tuple[Tool, ...],
        draw: Callable[[], str],
        on_begin: Callable[[], None],
    ) -> None:
        self._cursor = cursor
        self._on_begin = on_begin
        self._draw = draw
        self._ids: set[str] = set()
        self._new: list[str] = []
        self._arguments: list[str] = []
        self._events: list[ParserEvent] = []
        self._schemas = {tool.name: tool.parameters or {} for tool in tools}
        self.names = frozenset(self._schemas)
        self.count = 0
        self.is_open = False
        self.closing = ""
        """Completes the arguments if the output ends here."""

    def check_name(self, name: str, *, must_be_known: bool = False) -> str:
        """Return the name without white space at its ends.

        Raises:
            NoCall: This cannot be the name of a function.
        """
        name = name.strip()
        if name in self.names:
            return name
        is_possible = len(name) <= MAX_NAME_CHARACTERS and _NAME.fullmatch(name)
        if must_be_known or not is_possible:
            raise NoCall
        return name

    def find_schema(self, name: str) -> Mapping[str, Any]:
        """Return the schema of a tool's parameters, empty where unknown."""
        return self._schemas.get(name, {})

    def begin(self, name: str, call_id: str = "") -> None:
        """Report a call; from here on nothing of it is given back."""
        is_good = 0 < len(call_id) <= MAX_ID_CHARACTERS and call_id.isprintable()
        if not is_good or call_id in self._ids:
            call_id = self._draw()
        self._ids.add(call_id)
        self._events.append(CallBegan(self.count, call_id, name))
        self.count += 1
        self.is_open = True
        self.closing = ""
        self._on_begin()
        self._cursor.let_go()

    def write(self, text: str) -> None:
        """Report more of the arguments' JSON text."""
        self._new.append(text)

    def finish(self) -> None:
        """Report the end of the open call, and hold what follows."""
        self._flush()
        self._events.append(CallDone(self.count - 1, "".join(self._arguments)))
        self._arguments.clear()
        self.is_open = False
        self.closing = ""
        self._cursor.hold()

    def cut(self) -> None:
        """Report the end of a call that the output's end cuts off."""
        self.write(self.closing)
        self.finish()

    def take(self) -> list[ParserEvent]:
        """Return and forget what happened since the last time."""
        self._flush()
        events, self._events = self._events, []
        return events

    def _flush(self) -> None:
        text = "".join(self._new)
        self._new.clear()
        if text:
            self._arguments.append(text)
            self._events.append(CallArguments(self.count - 1, text))

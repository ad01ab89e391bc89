"""Messages as the plain values that chat templates read."""
# ruff: noqa: ANN401 variables of a template are JSON values

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from server.core.requests import Message, Text

_OWN_WORDS: Final = frozenset(
    {
        "system",
        "user",
        "assistant",
        "tool",
        "role",
        "content",
        "name",
        "tool_call_id",
        "reasoning_content",
        "tool_calls",
        "id",
        "type",
        "function",
        "arguments",
    }
)
"""Roles and keys, which templates look for and which are never changed."""


class JsonArguments(dict[str, Any]):
    """A tool call's arguments: a mapping that is its JSON text where asked.

    Templates index it, iterate over it, or put it between other text.
    """

    def __init__(self, values: dict[str, Any], text: str) -> None:
        super().__init__(values)
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __add__(self, other: object) -> str:
        return self._text + other if isinstance(other, str) else NotImplemented

    def __radd__(self, other: object) -> str:
        return other + self._text if isinstance(other, str) else NotImplemented


def make_turn(message: Message) -> dict[str, Any]:
    """Write a message with the keys that templates know."""
    turn: dict[str, Any] = {"role": message.role}
    turn["content"] = "".join(part.text for part in message.content or ())
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.reasoning is not None:
        turn["reasoning_content"] = message.reasoning
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": _parse_arguments(call.arguments),
                },
            }
            for call in message.tool_calls
        ]
    return turn


def _parse_arguments(text: str) -> JsonArguments | str:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return JsonArguments(values, text) if isinstance(values, dict) else text


def fold_system_messages(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Put system messages before the text of the user message that follows.

    Those that no user message follows become one of their own at the end.
    """
    folded: list[Message] = []
    waiting: list[str] = []
    for message in messages:
        text = "".join(part.text for part in message.content or ())
        if message.role == "system":
            waiting.append(text)
        elif message.role == "user" and waiting:
            folded.append(_make_user_message([*waiting, text], message.name))
            waiting = []
        else:
            folded.append(message)
    if waiting:
        folded.append(_make_user_message(waiting, None))
    return tuple(folded)


def _make_user_message(texts: list[str], name: str | None) -> Message:
    return Message("user", (Text("\n\n".join(filter(None, texts))),), name)


def walk_strings(value: Any) -> Iterator[str]:
    """Yield every string of a JSON value, keys included, in no fixed order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from walk_strings(item)
    elif isinstance(value, dict):
        if isinstance(value, JsonArguments):
            yield str(value)
        for key, item in value.items():
            yield key
            yield from walk_strings(item)


def map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """Copy a JSON value with every string changed that is not our own."""
    if isinstance(value, str):
        return value if value in _OWN_WORDS else change(value)
    if isinstance(value, list):
        return [map_strings(item, change) for item in value]
    if isinstance(value, dict):
        copy = {
            map_strings(key, change): map_strings(item, change)
            for key, item in value.items()
        }
        if isinstance(value, JsonArguments):
            return JsonArguments(copy, change(str(value)))
        return copy
    return value

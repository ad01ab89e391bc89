"""Messages as the plain values that chat templates read."""
# ruff: noqa: ANN401 variables of a template are JSON values

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from msgspec.structs import replace

from server.core.requests import Message, Text, Tool, ToolCall

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
        "description",
        "parameters",
        "properties",
        "required",
        "items",
        "enum",
        "object",
        "array",
        "string",
        "integer",
        "number",
        "boolean",
        "null",
    }
)
"""Roles and keys, which templates look for and which are never changed."""


_SIMPLE_TYPES: Final = frozenset(
    {"object", "array", "string", "integer", "number", "boolean"}
)


class JsonMapping(dict[str, Any]):
    """A mapping that is JSON where a template puts it into text."""

    def __str__(self) -> str:
        return json.dumps(self, ensure_ascii=False)

    __repr__ = __str__


class JsonList(list[Any]):
    """A list that is JSON where a template puts it into text."""

    def __str__(self) -> str:
        return json.dumps(self, ensure_ascii=False)

    __repr__ = __str__


class JsonArguments(JsonMapping):
    """A tool call's arguments: a mapping that is its JSON text where asked.

    Templates index it, iterate over it, or put it between other text.
    """

    def __init__(self, values: dict[str, Any], text: str) -> None:
        super().__init__(values)
        self._text = text

    def __str__(self) -> str:
        return self._text

    __repr__ = __str__

    def __add__(self, other: object) -> str:
        return self._text + other if isinstance(other, str) else NotImplemented

    def __radd__(self, other: object) -> str:
        return other + self._text if isinstance(other, str) else NotImplemented


def join_text(message: Message) -> str:
    """Return the text of a message; "" where it has none."""
    return "".join(part.text for part in message.content or ())


def make_turn(message: Message) -> dict[str, Any]:
    """Write a message with the keys that templates know."""
    turn: dict[str, Any] = {"role": message.role, "content": join_text(message)}
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
    if not text.strip():
        return JsonArguments({}, "{}")  # how clients send that there are none
    try:
        values = json.loads(text)
        return (
            JsonArguments({k: _mark_json(v) for k, v in values.items()}, text)
            if isinstance(values, dict)
            else text
        )
    except (ValueError, RecursionError):
        return text


def _mark_json(value: Any) -> Any:
    if isinstance(value, dict):
        return JsonMapping({key: _mark_json(item) for key, item in value.items()})
    if isinstance(value, list):
        return JsonList(map(_mark_json, value))
    return value


def make_tool(tool: Tool) -> dict[str, Any]:
    """Describe a tool as OpenAI's API does.

    A description and an object of properties are always there, because most
    templates read them without asking.
    """
    parameters = {"type": "object", "properties": {}, **(tool.parameters or {})}
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description or "",
            "parameters": parameters,
        },
    }


def simplify_tool(tool: Tool) -> Tool:
    """Describe parameters with single, known types.

    Templates that turn types into another notation fail on others.
    """
    return replace(tool, parameters=_simplify(tool.parameters or {}))


def _simplify(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_simplify(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _simplify(value) for key, value in schema.items()}
    if "type" in schema and not isinstance(schema["type"], dict):
        plain["type"] = _simplify_type(schema["type"])
    return plain


def _simplify_type(kind: Any) -> str:
    kinds = kind if isinstance(kind, list) else [kind]
    known = [k for k in kinds if isinstance(k, str) and k in _SIMPLE_TYPES]
    return known[0] if known else "string"


def complete_ids(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Give calls and results the ids they lack, and results the tool's name.

    A result without an id answers the oldest call that none has answered.
    """
    complete: list[Message] = []
    names: dict[str, str] = {}
    waiting: list[str] = []
    n_calls = 0
    for message in messages:
        if message.role == "tool":
            call_id = message.tool_call_id or (waiting[0] if waiting else "")
            if call_id in waiting:
                waiting.remove(call_id)
            complete.append(
                replace(
                    message,
                    tool_call_id=call_id or None,
                    name=message.name or names.get(call_id),
                )
            )
            continue
        calls: list[ToolCall] = []
        for call in message.tool_calls:
            n_calls += 1
            calls.append(call if call.id else replace(call, id=f"call{n_calls:05d}"))
            names[calls[-1].id] = call.name
            waiting.append(calls[-1].id)
        complete.append(replace(message, tool_calls=tuple(calls)) if calls else message)
    return tuple(complete)


def fold_system_messages(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Put system messages before the text of the user message that follows.

    Those that no user message follows become one of their own at the end.
    """
    folded: list[Message] = []
    waiting: list[str] = []
    for message in messages:
        text = join_text(message)
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
        items = (map_strings(item, change) for item in value)
        return JsonList(items) if isinstance(value, JsonList) else list(items)
    if isinstance(value, dict):
        copy = {
            map_strings(key, change): map_strings(item, change)
            for key, item in value.items()
        }
        if isinstance(value, JsonArguments):
            return JsonArguments(copy, change(str(value)))
        return JsonMapping(copy) if isinstance(value, JsonMapping) else copy
    return value


def wrap_arguments(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Make every call's arguments an object, also those that are broken JSON.

    They come from a model that was cut off, and back in the conversation.
    """
    return tuple(
        replace(message, tool_calls=tuple(map(_wrap_call, message.tool_calls)))
        if message.tool_calls
        else message
        for message in messages
    )


def _wrap_call(call: ToolCall) -> ToolCall:
    if isinstance(_parse_arguments(call.arguments), JsonArguments):
        return call
    return replace(call, arguments=json.dumps({"arguments": call.arguments}))

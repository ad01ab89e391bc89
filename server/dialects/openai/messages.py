"""A conversation as OpenAI's clients write it, read into messages. Pure.

What clients echo is taken as they echo it: content that is null, a string or
parts, calls without ids, arguments as text or as an object, results of every
JSON type. A call without an id gets one, and a result without one gets that of
the call it answers, because some templates print ids; the same conversation
always gets the same ids.
"""

from typing import Any

import msgspec

from server.core.requests import Message, Text, ToolCall
from server.dialects.json_body import InvalidField, missing, wrong_type
from server.dialects.openai.wire import CalledFunction, ChatMessage, PastToolCall

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
"""Roles of the wire and what they are to the model."""

TEXT_PARTS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
}
"""Types of parts that hold text, and the field that holds it."""

MEDIA_PARTS = {
    "image_url": "has no vision",
    "image": "has no vision",
    "input_image": "has no vision",
    "input_audio": "cannot hear",
    "video_url": "has no vision",
    "file": "reads no files",
}
"""Types of parts that real clients send and that text models cannot take."""


def decode_messages(wire: list[ChatMessage]) -> tuple[Message, ...]:
    """Read a conversation in order.

    Raises:
        InvalidRequest: No message, an unknown role, content of the wrong
            type, missing or not text, or a call that is none.
    """
    if not wire:
        raise InvalidField(
            "Invalid 'messages': the array is empty. Send at least one message.",
            param="messages",
        )
    ids = _CallIds(wire)
    return tuple(
        _message(message, f"messages[{number}]", ids)
        for number, message in enumerate(wire)
    )


class _CallIds:
    """Gives ids to calls that have none, and remembers what is unanswered."""

    def __init__(self, wire: list[ChatMessage]) -> None:
        self._taken = {
            call.id for message in wire for call in message.tool_calls or () if call.id
        }
        self._n_made = 0
        self._open: list[ToolCall] = []

    def add(self, calls: tuple[ToolCall, ...]) -> None:
        """Take the calls of an assistant's turn; older ones stay unanswered."""
        self._open = list(calls)

    def make(self) -> str:
        """Make an id of nine letters and digits, as Mistral's templates want."""
        while True:
            call_id = f"call{self._n_made:05d}"
            self._n_made += 1
            if call_id not in self._taken:
                return call_id

    def answer(self, call_id: str | None, name: str | None) -> str | None:
        """Find which call a result belongs to: by id, by name, then in order."""
        if call_id:
            self._open = [call for call in self._open if call.id != call_id]
            return call_id
        named = [call for call in self._open if call.name == name] or self._open
        if not named:
            return None
        found = named[0]
        self._open.remove(found)
        return found.id


def _message(wire: ChatMessage, param: str, ids: _CallIds) -> Message:
    role = ROLES.get(wire.role)
    match role:
        case None:
            raise InvalidField(
                f"Invalid '{param}.role': expected one of {', '.join(ROLES)}.",
                param=f"{param}.role",
            )
        case "assistant":
            return _assistant(wire, param, ids)
        case "tool":
            return _result(wire, param, ids)
        case _:
            content = _content(wire.content, f"{param}.content")
            if content is None:
                raise _no_content(param)
            return Message(role=role, content=content, name=wire.name)


def _assistant(wire: ChatMessage, param: str, ids: _CallIds) -> Message:
    calls = _tool_calls(wire, param, ids)
    ids.add(calls)
    reasoning = wire.reasoning_content or wire.reasoning
    content = _content(wire.content, f"{param}.content")
    if content is None and wire.refusal is not None:
        content = (Text(wire.refusal),)
    if content is None and not calls and not reasoning:
        raise _no_content(param)
    return Message(
        role="assistant",
        content=content,
        name=wire.name,
        reasoning=reasoning,
        tool_calls=calls,
    )


def _result(wire: ChatMessage, param: str, ids: _CallIds) -> Message:
    """Read what a tool gave back; nothing at all is an empty text."""
    content: tuple[Text, ...] | None
    if isinstance(wire.content, dict):
        content = (Text(_json_text(wire.content)),)
    else:
        content = _content(wire.content, f"{param}.content")
    return Message(
        role="tool",
        content=content or (Text(""),),
        name=wire.name,
        tool_call_id=ids.answer(wire.tool_call_id, wire.name),
    )


def _content(value: object, param: str) -> tuple[Text, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return (Text(value),)
    if not isinstance(value, list):
        raise wrong_type(param, "a string or an array of parts", value)
    return tuple(_part(part, f"{param}[{number}]") for number, part in enumerate(value))


def _part(part: object, param: str) -> Text:
    if not isinstance(part, dict):
        raise wrong_type(param, "an object", part)
    fields: dict[str, Any] = part
    if "type" not in fields:
        raise missing(f"{param}.type")
    kind = fields["type"]
    if not isinstance(kind, str):
        raise wrong_type(f"{param}.type", "a string", kind)
    if kind in MEDIA_PARTS:
        raise InvalidField(
            f"Unsupported content: '{param}' is of type {kind}, but this model "
            f"{MEDIA_PARTS[kind]}. Send text parts only.",
            code="unsupported_content",
            param=param,
        )
    if kind not in TEXT_PARTS:
        raise InvalidField(
            f"Invalid '{param}.type': expected 'text'.", param=f"{param}.type"
        )
    field = TEXT_PARTS[kind]
    if field not in fields:
        raise missing(f"{param}.{field}")
    text = fields[field]
    if not isinstance(text, str):
        raise wrong_type(f"{param}.{field}", "a string", text)
    return Text(text)


def _tool_calls(wire: ChatMessage, param: str, ids: _CallIds) -> tuple[ToolCall, ...]:
    calls = tuple(
        _tool_call(call, f"{param}.tool_calls[{number}]", ids)
        for number, call in enumerate(wire.tool_calls or ())
    )
    if calls or wire.function_call is None:
        return calls
    return (_called(wire.function_call, ids.make(), f"{param}.function_call"),)


def _tool_call(call: PastToolCall, param: str, ids: _CallIds) -> ToolCall:
    if call.type not in (None, "", "function"):
        raise InvalidField(
            f"Invalid '{param}.type': expected 'function'.", param=f"{param}.type"
        )
    if call.function is None:
        raise missing(f"{param}.function")
    return _called(call.function, call.id or ids.make(), f"{param}.function")


def _called(function: CalledFunction, call_id: str, param: str) -> ToolCall:
    """Read a call; text that is no JSON stays, for the model may have written it."""
    match function.arguments:
        case None | "":
            text = "{}"
        case str(text):
            pass
        case dict() as fields:
            text = _json_text(fields)
        case other:
            raise wrong_type(f"{param}.arguments", "a JSON text or an object", other)
    return ToolCall(id=call_id, name=function.name, arguments=text)


def _json_text(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()


def _no_content(param: str) -> InvalidField:
    return InvalidField(
        f"Missing required parameter: '{param}.content'. Only an assistant "
        "message with tool_calls or reasoning_content may do without.",
        code="missing_required_parameter",
        param=f"{param}.content",
    )

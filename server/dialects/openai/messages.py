"""A conversation as OpenAI's clients write it, read into messages. Pure."""

from typing import Any

from server.core.requests import Message, Text, ToolCall
from server.dialects.json_body import InvalidField, missing, wrong_type
from server.dialects.openai.wire import ChatMessage, PastToolCall

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
"""Roles of the wire and what they are to the model."""

TEXT_PARTS = {"text": "text", "refusal": "refusal"}
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
            type, missing or not text.
    """
    if not wire:
        raise InvalidField(
            "Invalid 'messages': the array is empty. Send at least one message.",
            param="messages",
        )
    return tuple(
        _message(message, f"messages[{number}]") for number, message in enumerate(wire)
    )


def _message(wire: ChatMessage, param: str) -> Message:
    role = ROLES.get(wire.role)
    if role is None:
        raise InvalidField(
            f"Invalid '{param}.role': expected one of {', '.join(ROLES)}.",
            param=f"{param}.role",
        )
    calls = _tool_calls(wire, param) if role == "assistant" else ()
    reasoning = wire.reasoning_content or wire.reasoning
    content = _content(wire.content, f"{param}.content")
    if content is None and not (role == "assistant" and (calls or reasoning)):
        raise InvalidField(
            f"Missing required parameter: '{param}.content'. Only an assistant "
            "message with tool_calls or reasoning_content may do without.",
            code="missing_required_parameter",
            param=f"{param}.content",
        )
    return Message(
        role=role,
        content=content,
        name=wire.name,
        reasoning=reasoning if role == "assistant" else None,
        tool_calls=calls,
        tool_call_id=wire.tool_call_id,
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


def _tool_calls(wire: ChatMessage, param: str) -> tuple[ToolCall, ...]:
    calls = tuple(
        _tool_call(call, f"{param}.tool_calls[{number}]")
        for number, call in enumerate(wire.tool_calls or ())
    )
    if calls or wire.function_call is None:
        return calls
    old = wire.function_call
    return (ToolCall(id="", name=old.name, arguments=old.arguments),)


def _tool_call(call: PastToolCall, param: str) -> ToolCall:
    if call.type not in (None, "function"):
        raise InvalidField(
            f"Invalid '{param}.type': expected 'function'.", param=f"{param}.type"
        )
    if call.function is None:
        raise missing(f"{param}.function")
    return ToolCall(
        id=call.id or "", name=call.function.name, arguments=call.function.arguments
    )

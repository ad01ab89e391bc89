"""Whether the last message is continued or answered. Pure.

As llama.cpp's server does, a conversation that ends with the assistant's words
goes on from there: what the client put into the model's mouth. A turn that
called tools is complete, so it is never continued by itself.

Source: llama.cpp, tools/server/README.md, `--prefill-assistant`; Transformers
documentation, `continue_final_message` and `add_generation_prompt`.
"""

from server.core.requests import Message
from server.dialects.json_body import InvalidField
from server.dialects.openai.wire import ChatRequest

_FIELD = "continue_final_message"


def decode_continuation(wire: ChatRequest, messages: tuple[Message, ...]) -> bool:
    """Tell whether the last message goes on.

    Raises:
        InvalidRequest: The last message cannot go on, or is asked both to go on
            and to be followed by a new one.
    """
    last = messages[-1]
    opens, goes_on = wire.add_generation_prompt, wire.continue_final_message
    if goes_on and opens:
        raise InvalidField(
            f"Invalid '{_FIELD}': it is true, and so is 'add_generation_prompt'. The "
            "last message either goes on or is followed by a new one.",
            param=_FIELD,
        )
    if goes_on:
        _check_open(last, _FIELD)
        return True
    if opens is False and goes_on is None:
        _check_open(last, "add_generation_prompt")
        return True
    if opens is False:
        raise InvalidField(
            f"Invalid 'add_generation_prompt': it is false, and so is '{_FIELD}', so "
            "the model would have nothing to write. Leave one of them out.",
            param="add_generation_prompt",
        )
    if goes_on is False or opens:
        return False
    return last.role == "assistant" and not last.tool_calls


def _check_open(last: Message, param: str) -> None:
    if last.role != "assistant":
        raise InvalidField(
            f"Invalid '{param}': only an assistant message can go on, but the last "
            f"one is of the role {last.role}.",
            param=param,
        )
    if last.tool_calls:
        raise InvalidField(
            f"Invalid '{param}': the last message calls tools, so it is complete. "
            "Send their results as tool messages.",
            param=param,
        )

"""Formats that a template does not show, each with its source.

An override is recognised by what stands in the template's text, never by the
name of a model. All but the one of harmony are only asked where nothing was
found by rendering.
"""

from typing import Final

from msgspec import Struct

from server.text.format import (
    ArgumentStyle,
    CallSyntax,
    ChatFormat,
    ReasoningSyntax,
)


class Override(Struct, frozen=True):
    """A format known beforehand.

    Args:
        marks: Texts that all stand in the template.
        chat_format: The format; without `reasoning` the one found is kept.
        comes_first: It is taken whatever rendering shows.
    """

    marks: tuple[str, ...]
    chat_format: ChatFormat
    comes_first: bool = False


HARMONY: Final = Override(
    marks=("<|channel|>", "<|message|>", "<|call|>", "<|start|>"),
    comes_first=True,
    chat_format=ChatFormat(
        reasoning=ReasoningSyntax(
            begin="<|channel|>analysis<|message|>", end="<|end|><|start|>assistant"
        ),
        calls=CallSyntax(
            ArgumentStyle.JSON,
            call_begin="<|channel|>commentary to=functions.",
            name_end=" <|constrain|>json<|message|>",
            call_end="<|call|>",
            is_parallel=False,
        ),
        answer_begin="<|channel|>final<|message|>",
        channels=True,
        turn_begins=("<|start|>assistant",),
        source="override harmony",
    ),
)
"""Thoughts, answers and calls are messages on channels.

The template renders a call with its recipient before the channel; models put
it after.

Source: OpenAI, "OpenAI Harmony Response Format", sections Message format and
Receiving tool calls.
"""

_GRANITE_3: Final = Override(
    marks=("<|tool_call|> followed by a JSON list",),
    chat_format=ChatFormat(
        reasoning=ReasoningSyntax(
            "<think>", "</think>", can_disable=True, switch="thinking"
        ),
        calls=CallSyntax(
            ArgumentStyle.JSON_CALL, section_begin="<|tool_call|>", is_array=True
        ),
        answer_begin="<response>",
        answer_end="</response>",
        source="override granite 3",
    ),
)
"""The template says in words how to call and think, and renders neither.

Source: the system messages inside the chat template of IBM's Granite 3.3.
"""

_GRANITE_3_CALLS: Final = Override(
    marks=("<|tool_call|>", "JSON list", "<|start_of_role|>"),
    chat_format=ChatFormat(
        reasoning=None,
        calls=CallSyntax(
            ArgumentStyle.JSON_CALL, section_begin="<|tool_call|>", is_array=True
        ),
        source="override granite 3",
    ),
)

_LIQUID: Final = Override(
    marks=("<|tool_list_start|>",),
    chat_format=ChatFormat(
        reasoning=None,
        calls=CallSyntax(
            ArgumentStyle.PYTHON,
            section_begin="<|tool_call_start|>",
            section_end="<|tool_call_end|>",
            is_array=True,
        ),
        source="override liquid",
    ),
)
"""The template lists the tools and leaves calls to the assistant's text.

Source: Liquid AI, model card of LFM2-8B-A1B, section Tool use.
"""

_PHI_4: Final = Override(
    marks=("<|tool|>", "<|/tool|>"),
    chat_format=ChatFormat(
        reasoning=None,
        calls=CallSyntax(
            ArgumentStyle.JSON_CALL,
            section_begin="<|tool_call|>",
            section_end="<|/tool_call|>",
            is_array=True,
        ),
        source="override phi 4",
    ),
)
"""The template takes tools inside a system message and renders no calls.

Source: Microsoft, model card of Phi-4-mini-instruct, section Tool-enabled
function-calling format.
"""

OVERRIDES: Final = (HARMONY, _GRANITE_3, _GRANITE_3_CALLS, _LIQUID, _PHI_4)


def find_override(source: str, *, comes_first: bool) -> ChatFormat | None:
    """Return the first format whose marks all stand in a template's text."""
    for override in OVERRIDES:
        if override.comes_first is comes_first and all(
            mark in source for mark in override.marks
        ):
            return override.chat_format
    return None

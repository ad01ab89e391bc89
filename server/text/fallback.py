"""Tools for templates that know none, or know only half of it.

What a template does not do is done in text: the tools are described in a
system message, past calls stand in the assistant's text as the model would
write them, and results are told by the user. A model whose template knows
nothing of calls is told LM Studio's format.

All texts of clients that come here are protected already
(`server.text.controls`); the marks of calls are added as they are, because
the model has to see them as what they are.
"""

import json
from typing import Any, Final

from server.core.requests import ToolChoice
from server.text.call_text import WrittenCall, write_calls
from server.text.format import ArgumentStyle, CallSyntax
from server.text.shapes import Turn, TurnShape

FALLBACK_CALLS: Final = CallSyntax(
    ArgumentStyle.JSON_CALL,
    separator="\n",
    call_begin="[TOOL_REQUEST]",
    call_end="[END_TOOL_REQUEST]",
)
"""Calls of models whose template knows none.

Source: LM Studio, documentation of its local server, "Tool use", section
Default tool use format.
"""


def describe_tools(
    tools: list[dict[str, Any]], choice: ToolChoice, syntax: CallSyntax
) -> str:
    """Tell a model which tools there are and how to call them."""
    lines = [json.dumps(tool["function"], ensure_ascii=False) for tool in tools]
    example = WrittenCall("tool_name", {"argument": "value"}, '{"argument": "value"}')
    several = (
        "You may make several calls, one after the other."
        if choice.parallel and syntax.is_parallel
        else "Make one call at a time."
    )
    must = (
        "You must call a tool now."
        if choice.mode == "required"
        else "Call a tool only where it helps; otherwise answer as usual."
    )
    return "\n".join(
        (
            "You can call these tools. Their parameters are JSON Schemas:",
            "",
            *lines,
            "",
            "To call a tool, write exactly in this form and then wait for the result:",
            "",
            write_calls(syntax, [example]),
            "",
            f"{several} {must}",
        )
    )


def add_description(turns: list[Turn], text: str, *, has_system: bool) -> list[Turn]:
    """Put a description into the system message, or before the first question.

    Args:
        turns: The conversation.
        text: The description.
        has_system: Whether the template takes system messages.
    """
    role = "system" if has_system else "user"
    for index, turn in enumerate(turns):
        if turn["role"] != role:
            continue
        old = turn["content"]
        parts = (old, text) if has_system else (text, old)
        new = {**turn, "content": "\n\n".join(filter(None, parts))}
        return [*turns[:index], new, *turns[index + 1 :]]
    return [{"role": role, "content": text}, *turns]


def write_turns(turns: list[Turn], syntax: CallSyntax, shape: TurnShape) -> list[Turn]:
    """Write calls and results as text where the template does not."""
    if not shape.shows_calls:
        turns = [_write_calls(turn, syntax) for turn in turns]
    if not shape.shows_results:
        turns = _tell_results(turns)
    return turns


def _write_calls(turn: Turn, syntax: CallSyntax) -> Turn:
    calls = turn.get("tool_calls")
    if not calls:
        return turn
    written = []
    for call in calls:
        function = call["function"]
        arguments = function["arguments"]
        is_mapping = isinstance(arguments, dict)
        written.append(
            WrittenCall(
                function["name"],
                arguments if is_mapping else {},
                str(arguments) if is_mapping else json.dumps(arguments),
                call["id"],
            )
        )
    text = "\n".join(filter(None, (turn["content"], write_calls(syntax, written))))
    return {
        **{key: value for key, value in turn.items() if key != "tool_calls"},
        "content": text,
    }


def _tell_results(turns: list[Turn]) -> list[Turn]:
    """Let the user tell results, together with what they say next."""
    told: list[Turn] = []
    is_telling = False
    for turn in turns:
        is_result = turn["role"] == "tool"
        content = _tell(turn) if is_result else turn["content"]
        if is_telling and (is_result or turn["role"] == "user"):
            told[-1] = {**told[-1], "content": f"{told[-1]['content']}\n{content}"}
        elif is_result:
            told.append({"role": "user", "content": content})
        else:
            told.append(turn)
        is_telling = is_result
    return told


def _tell(turn: Turn) -> str:
    name = f" {turn['name']}" if turn.get("name") else ""
    return f"[TOOL_RESULT{name}]\n{turn['content']}\n[END_TOOL_RESULT]"

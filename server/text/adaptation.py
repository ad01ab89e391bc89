"""What a request for tools, thoughts or results makes of a conversation.

The template gets all that it shows itself; the rest is written as text.
"""

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from server.core.requests import ChatPrompt, Message, Reasoning, Tool
from server.text.analysis import Study
from server.text.analysis_thought import TEXT_SWITCH
from server.text.fallback import add_description, describe_tools, write_turns
from server.text.shapes import Turn, shape_turns
from server.text.turns import fold_system_messages, simplify_tool, wrap_arguments


class Form(Struct, frozen=True):
    """A form in which a conversation is offered to a template.

    Args:
        messages: The messages, perhaps folded or mended.
        tools: The tools, perhaps with simpler schemas.
        has_system: Whether a system message may be added.
        describes_tools: They are told in text, whatever the template can show.
        has_own_tools: The tools are as the client sent them.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    has_system: bool = True
    describes_tools: bool = False
    has_own_tools: bool = True


class Adaptation(Struct, frozen=True):
    """What a conversation is brought into the template's form with.

    `tools` are protected.
    """

    prompt: ChatPrompt
    tools: list[dict[str, Any]]
    study: Study
    form: Form

    @property
    def shows_tools(self) -> bool:
        """Whether the template is given the tools."""
        return self.study.shape.shows_tools and not self.form.describes_tools


def list_forms(prompt: ChatPrompt, study: Study | None) -> list[Form]:
    """List forms of a conversation, the first as the client sent it.

    What a template refuses may be system messages, arguments that are no
    object, or schemas of tools that it cannot write in its own notation.
    """
    messages, tools = prompt.messages, prompt.tools
    folded, mended = fold_system_messages(messages), wrap_arguments(messages)
    shows_tools = study is not None and study.shape.shows_tools
    forms = [Form(messages, tools)]
    if folded != messages or (tools and not shows_tools):
        forms.append(Form(folded, tools, has_system=False))
    if mended != messages:
        forms.append(Form(mended, tools))
    if not tools or not shows_tools:
        return forms
    simple = tuple(map(simplify_tool, tools))
    simpler = [replace(f, tools=simple, has_own_tools=False) for f in forms]
    told = [replace(f, describes_tools=True, has_own_tools=False) for f in forms]
    last = replace(forms[0], messages=folded, has_system=False)
    last = replace(last, describes_tools=True, has_own_tools=False)
    return [*forms, *simpler, *told, *([last] if last not in told else [])]


def needs_study(prompt: ChatPrompt) -> bool:
    """Tell whether there is anything that templates do in different ways."""
    return bool(
        prompt.tools
        or prompt.continues
        or prompt.reasoning.enabled is False
        or any(
            message.tool_calls or message.role == "tool" or message.reasoning
            for message in prompt.messages
        )
    )


def select_tools(prompt: ChatPrompt) -> tuple[Tool, ...]:
    """Return the tools that the model is shown."""
    choice = prompt.tool_choice
    if choice.mode == "none":
        return ()
    if choice.names is None:
        return prompt.tools
    return tuple(tool for tool in prompt.tools if tool.name in choice.names)


def adapt_turns(turns: list[Turn], adaptation: Adaptation) -> list[Turn]:
    """Write what the template cannot show, and shape the rest."""
    prompt, study = adaptation.prompt, adaptation.study
    syntax, reasoning = study.chat_format.calls, study.chat_format.reasoning
    turns = write_turns(turns, syntax, study.shape)
    added = []
    if adaptation.tools and not adaptation.shows_tools:
        added.append(describe_tools(adaptation.tools, prompt.tool_choice, syntax))
    if (
        prompt.reasoning.enabled is False
        and reasoning is not None
        and reasoning.switch == TEXT_SWITCH
    ):
        added.append(TEXT_SWITCH)
    if added:
        text = "\n\n".join(added)
        turns = add_description(turns, text, has_system=adaptation.form.has_system)
    return shape_turns(turns, study.shape)


def make_thinking_variables(reasoning: Reasoning) -> dict[str, Any]:
    """Return the variables by which templates switch thoughts.

    All are given, since a template that does not know one does not read it.
    """
    variables: dict[str, Any] = {}
    if reasoning.enabled is not None:
        variables["enable_thinking"] = reasoning.enabled
        variables["thinking"] = reasoning.enabled
    if reasoning.enabled is False:
        variables["thinking_budget"] = 0
    elif reasoning.budget_tokens is not None:
        variables["thinking_budget"] = reasoning.budget_tokens
    if reasoning.effort is not None:
        variables["reasoning_effort"] = reasoning.effort
    return variables

"""Tool calls: choose one of the tools offered, copy its arguments.

Names of tools and parameters and what they are about are made-up words most
of the time. A user asks for a tool by its name, or by its subject, which
stands in its name or description alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from scripts.novice.rendering import Turn, answer, call, user
from scripts.novice.words import Words, expand

_VERBS: Final = (
    "get",
    "find",
    "set",
    "send",
    "read",
    "show",
    "open",
    "check",
    "search",
    "make",
)
_SUBJECTS: Final = (
    "weather",
    "time",
    "price",
    "file",
    "user",
    "order",
    "light",
    "door",
    "mail",
    "note",
    "map",
    "song",
    "news",
    "train",
    "address",
    "status",
    "log",
    "page",
    "task",
    "event",
)
_PARAMETERS: Final = (
    "city",
    "name",
    "path",
    "id",
    "query",
    "user",
    "place",
    "text",
    "date",
    "item",
    "number",
    "key",
    "topic",
    "room",
    "country",
    "location",
    "title",
    "url",
    "count",
)


Forms = Mapping[str, Sequence[str]]
"""The section `calls` of `texts/forms.toml`."""


@dataclass(frozen=True)
class Tool:
    """A function that is offered.

    `parameters` maps names to JSON types, `notes` some of them to what else
    their schema says.
    """

    name: str
    subject: str
    description: str
    parameters: dict[str, str]
    notes: dict[str, dict[str, str]]

    def describe(self) -> Turn:
        """Write it as the OpenAI API does."""
        schema = {
            "type": "object",
            "properties": {
                name: {"type": kind} | self.notes.get(name, {})
                for name, kind in self.parameters.items()
            },
            "required": list(self.parameters),
        }
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": schema,
        }
        return {"type": "function", "function": function}


def draw_tool(words: Words, descriptions: Sequence[str]) -> Tool:
    """Invent a tool with one or two parameters."""
    rng = words.rng
    made_up = words.held_out or rng.random() < 0.7  # noqa: PLR2004
    subject = words.word() if made_up else rng.choice(_SUBJECTS)
    n = rng.choice((1, 1, 1, 2))
    parameters = {
        rng.choice(_PARAMETERS) if rng.random() < 0.4 else words.word(): "string"  # noqa: PLR2004
        for _ in range(n)
    }
    first = next(iter(parameters))
    if not words.held_out and rng.random() < 0.2:  # noqa: PLR2004
        parameters[first] = "integer"
    verb = rng.choice(_VERBS)
    name = rng.choice(
        (f"{verb}_{subject}", f"{subject}_{verb}", verb + subject.title(), subject)
        if rng.random() < 0.6  # noqa: PLR2004
        else (words.identifier(),)
    )
    description = expand(rng, rng.choice(descriptions)).format(
        subject=subject, parameter=first
    )
    notes = {}
    if rng.random() < 0.2:  # noqa: PLR2004
        notes[first] = {"description": f"The {first}."}
    return Tool(name, subject, description, parameters, notes)


def draw_tools(words: Words, forms: Forms) -> list[Tool]:
    """Invent one to three tools that cannot be mistaken for each other."""
    n = words.rng.choice((1, 1, 1, 2, 2, 3))
    tools: list[Tool] = []
    while len(tools) < n:
        tool = draw_tool(words, forms["descriptions"])
        used = {each.subject for each in tools} | {each.name for each in tools}
        if tool.subject not in used and tool.name not in used:
            tools.append(tool)
    return tools


def make(words: Words, forms: Forms, tools: list[Tool]) -> tuple[Turn, Turn]:
    """Ask for one of the tools and call it."""
    rng = words.rng
    tool = rng.choice(tools)
    arguments: dict[str, Any] = {
        name: rng.randint(0, 999) if kind == "integer" else words.value()
        for name, kind in tool.parameters.items()
    }
    values = " and ".join(map(str, arguments.values()))
    joint = expand(rng, "[ | = |: | |]").ljust(1)
    quote = rng.choice(("", "", "", '"', "'"))
    args = " and ".join(
        f"{name}{joint}{value if isinstance(value, int) else quote + value + quote}"
        for name, value in arguments.items()
    )
    kind = "by_name" if rng.random() < 0.5 else "by_subject"  # noqa: PLR2004
    text = expand(rng, rng.choice(forms[kind])).format(
        tool=tool.name, args=args, subject=tool.subject, values=values
    )
    thought = f"The tool is {tool.name}; {args_of(arguments)}."
    return user(text), call(tool.name, arguments, thought)


def args_of(arguments: dict[str, Any]) -> str:
    """List arguments in a thought."""
    return ", ".join(f"{name} is {value}" for name, value in arguments.items())


def make_result(words: Words) -> tuple[Turn, Turn]:
    """Invent what a tool gave back, and the answer that reports it."""
    rng = words.rng
    value = rng.choice((words.value(), words.word(), str(rng.randint(0, 999))))
    key = words.word()
    content = rng.choice((value, value, f'{{"{key}": "{value}"}}'))
    text = f"The result is {value}."
    return {"role": "tool", "content": content}, answer(text, f"It gave {value}.")

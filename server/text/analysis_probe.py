"""Made-up conversations, rendered to see what a template makes of them.

All texts in them are unlike anything in a template, so that each is found
again in what was rendered. Only what follows the user's question is looked
at: before it stand descriptions of the tools, with the same names.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

from msgspec import Struct

from server.core.requests import Message, Text, Tool, ToolCall
from server.text.analysis_marks import Atoms
from server.text.shapes import Turn, TurnShape, shape_turns
from server.text.turns import complete_ids, make_tool, make_turn

QUESTION: Final = "Zqueryz"
ANSWER: Final = "Zreplyz"
THOUGHT: Final = "Zmusingz"
RESULT: Final = "Zoutcomez"
FOLLOWING: Final = "Zsequelz"


class MadeUpCall(Struct, frozen=True):
    """A call of a made-up conversation."""

    name: str
    arguments: dict[str, Any]
    id: str

    @property
    def text(self) -> str:
        """The arguments as JSON."""
        return json.dumps(self.arguments)


# The ids have nine letters and digits, which Mistral's templates ask for.
FIRST: Final = MadeUpCall(
    "zfirst_tool", {"zkey1": "Zval1z", "zkey2": "Zval2z"}, "zid000001"
)
SECOND: Final = MadeUpCall(
    "zother_tool", {"zkey3": "Zval3z", "zkey4": "Zval4z"}, "zid000002"
)
TYPED: Final = MadeUpCall(
    "zfirst_tool",
    {"zkey1": "Zval1z", "zkey2": 7261, "zkey3": True, "zkey4": {"zin": ["Zval4z"]}},
    "zid000001",
)
EMPTY: Final = MadeUpCall("zempty_tool", {}, "zid000003")
SHOWN_TOOL: Final = Tool("zshown_tool", "Zpurposez", {"properties": {}})
TOOLS: Final = tuple(
    Tool(
        call.name,
        "Zpurposez",
        {"properties": {key: {"type": "string"} for key in call.arguments}},
    )
    for call in (FIRST, SECOND, EMPTY)
)


class Drawable(Protocol):
    """A compiled template that can be tried out."""

    @property
    def source(self) -> str:
        """The template's text."""

    @property
    def control_texts(self) -> frozenset[str]:
        """The texts of the vocabulary's control tokens."""

    @property
    def eos(self) -> str:
        """The text of the token that ends a text, or ""."""

    def draw(
        self,
        turns: list[Turn],
        *,
        tools: list[dict[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = False,
    ) -> str | None:
        """Render turns as they are; None if the template fails on them."""


class Probe:
    """Renders made-up conversations in one shape.

    Args:
        template: The template that is tried.
        shape: How turns are given to it.
        variables: Variables that each rendering gets.
        has_tools: Whether tools are given.
    """

    def __init__(
        self,
        template: Drawable,
        shape: TurnShape,
        variables: Mapping[str, Any] | None = None,
        *,
        has_tools: bool = True,
    ) -> None:
        self.template = template
        self.shape = shape
        self.atoms = Atoms(template.control_texts)
        self._variables = dict(variables or {})
        self._tools = [make_tool(tool) for tool in TOOLS] if has_tools else None

    def draw_prompt(self, **variables: Any) -> str | None:  # noqa: ANN401
        """Render a question and the opening of the model's turn."""
        return self._draw((), add_generation_prompt=True, variables=variables)

    def draw_tail(self, *messages: Message, **variables: Any) -> str | None:  # noqa: ANN401
        """Render messages after a question; return what follows the question."""
        return cut_tail(self._draw(messages, variables=variables))

    def draw_prompt_tail(self, **variables: Any) -> str | None:  # noqa: ANN401
        """Render a question; return the opening of the model's turn."""
        return cut_tail(self.draw_prompt(**variables))

    def draw_reply_prompt(self, *messages: Message) -> str | None:
        """Render messages after a question and the opening of the next turn."""
        text = self._draw(messages, variables={}, add_generation_prompt=True)
        return cut_tail(text)

    def _draw(
        self,
        messages: tuple[Message, ...],
        *,
        variables: Mapping[str, Any],
        add_generation_prompt: bool = False,
    ) -> str | None:
        turns = [make_turn(m) for m in complete_ids((say("user", QUESTION), *messages))]
        return self.template.draw(
            shape_turns(turns, self.shape),
            tools=self._tools,
            variables={**self._variables, **variables},
            add_generation_prompt=add_generation_prompt,
        )


def cut_tail(text: str | None) -> str | None:
    """Return what follows the question; None if it is not shown."""
    if text is None or QUESTION not in text:
        return None
    return text.rpartition(QUESTION)[2]


def say(role: str, text: str) -> Message:
    """Make a message of one text."""
    return Message(role, (Text(text),))


def make_calls(
    *calls: MadeUpCall, text: str = "", thought: str | None = None
) -> Message:
    """Make an assistant's message that calls."""
    return Message(
        "assistant",
        (Text(text),) if text else None,
        reasoning=thought,
        tool_calls=tuple(ToolCall(call.id, call.name, call.text) for call in calls),
    )


def make_result(call: MadeUpCall) -> Message:
    """Make the result of a call."""
    return Message("tool", (Text(RESULT),), call.name, tool_call_id=call.id)

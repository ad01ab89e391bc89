"""Dialogues, and the text that a model sees of them.

Training text and prompts come from `template.jinja`, the file that goes into
the GGUF, run in an environment that is set up as the server's is
(`server.text.sandbox`) but for its metering: so the model is asked in exactly
the form that it was taught in.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATE: Final = Path(__file__).with_name("template.jinja")

Turn = dict[str, Any]


@dataclass(frozen=True)
class Dialogue:
    """A conversation, in the terms of the OpenAI API.

    `turns` are messages; those of the assistant may have `reasoning_content`
    and `tool_calls`. `tools` are descriptions of functions. `thinks` is
    `enable_thinking`.
    """

    category: str
    turns: tuple[Turn, ...]
    tools: tuple[Turn, ...] = ()
    thinks: bool = False

    def prompt(self) -> "Dialogue":
        """Leave out the last answer."""
        return replace(self, turns=self.turns[:-1])

    def user_texts(self) -> list[str]:
        """List what the user said."""
        return [turn["content"] for turn in self.turns if turn["role"] == "user"]


def user(text: str) -> Turn:
    """Write a user's message."""
    return {"role": "user", "content": text}


def answer(text: str, thought: str) -> Turn:
    """Write an assistant's message; the thought shows only where asked for."""
    return {"role": "assistant", "content": text, "reasoning_content": thought}


def call(name: str, arguments: dict[str, Any], thought: str) -> Turn:
    """Write an assistant's message that calls a tool."""
    function = {"name": name, "arguments": arguments}
    return {
        "role": "assistant",
        "content": "",
        "reasoning_content": thought,
        "tool_calls": [{"type": "function", "function": function}],
    }


class Renderer:
    """Runs the chat template."""

    def __init__(self) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True
        )
        environment.filters["tojson"] = _to_json
        self._template = environment.from_string(read_template())

    def render(self, dialogue: Dialogue, *, add_generation_prompt: bool = False) -> str:
        """Write a dialogue as text, optionally with an assistant turn opened."""
        return self._template.render(
            messages=list(dialogue.turns),
            tools=list(dialogue.tools) or None,
            enable_thinking=dialogue.thinks,
            add_generation_prompt=add_generation_prompt,
        )


def read_template() -> str:
    """Read the template's source, as it is put into the GGUF."""
    return TEMPLATE.read_text(encoding="utf-8")


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)

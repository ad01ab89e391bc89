"""The real chat templates that lie beside the project, and what they write."""

import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from server.core.requests import ChatPrompt, Message, Text, Tool, ToolCall
from server.text.analysis_marks import Atoms
from server.text.analysis_thought import strip_thought
from server.text.template import ChatTemplate, Segment

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
FOLDER = Path(__file__).parents[3] / "shared" / "chat-templates"
REAL = sorted(FOLDER.glob("*.jinja"))
SOURCES = {path.stem: path.read_text("utf-8") for path in REAL}
ABSENT = f"no real templates in {FOLDER}: only our own are tested"
TURN_ENDS = (
    "<EOS>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>\n",
    "<end_of_turn>",
    "<|END_OF_TURN_TOKEN|>",
    "<|tool_response>",
    "<|assistant_end|>",
    "<SPECIAL_12>",
    "<seed:eos>",
    "[e~[",
    "<｜end▁of▁sentence｜>",  # noqa: RUF001 a vocabulary with fullwidth bars
)
"""Control texts of these templates that end a generation."""


@cache
def make_template(
    source: str, control_texts: frozenset[str] = frozenset(), **options
) -> ChatTemplate:
    texts = {"bos": "<BOS>", "eos": "<EOS>", "control_texts": control_texts}
    return ChatTemplate(source, **texts, **options)


def say(role: str, text: str) -> Message:
    return Message(role, (Text(text),))


def call(*calls: tuple[str, str], text: str = "") -> Message:
    made = (
        ToolCall(f"call{index:05d}", name, arguments)
        for index, (name, arguments) in enumerate(calls)
    )
    return Message("assistant", (Text(text),) if text else None, tool_calls=tuple(made))


def join(segments: tuple[Segment, ...]) -> str:
    return "".join(segment.text for segment in segments)


def cut_model_part(
    template: ChatTemplate, message: Message, tools: tuple[Tool, ...]
) -> str:
    """Return what the model would have written to make an assistant's message."""
    results = tuple(
        Message("tool", (Text("done"),), tool_call_id=made.id)
        for made in message.tool_calls
    )
    part = ""
    # One template writes a last message as if it were to go on.
    for following in ((), results):
        question = say("user", "What now?")
        prompt = ChatPrompt((question,), tools=tools)
        before = join(template.render(prompt, now=NOW))
        whole = ChatPrompt((question, message, *following), tools=tools)
        after = join(template.render(whole, add_generation_prompt=False, now=NOW))
        part = after[Atoms(TURN_ENDS).count_prefix(before, after) :]
        part = strip_thought(part, template.format.reasoning)
        part = re.split("|".join(map(re.escape, TURN_ENDS)), part)[0]
        if all(made.name in part for made in message.tool_calls):
            break
    return part

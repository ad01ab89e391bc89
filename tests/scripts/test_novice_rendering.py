"""Training text is byte for byte what the server renders from the template."""

import json
from itertools import islice

import pytest

pytest.importorskip("tokenizers", reason="tokenizers (extra 'novice') is missing")

from scripts.novice.dialogues import DialogueStream
from scripts.novice.rendering import (
    Dialogue,
    Renderer,
    answer,
    call,
    read_template,
    user,
)
from scripts.novice.tokenizer import CONTROL, END_OF_TEXT, TURN_END
from server.core.requests import ChatPrompt, Message, Text, ToolCall
from server.text.controls import ControlTexts
from server.text.sandbox import ChatEnvironment
from server.text.template import ChatTemplate


def _template() -> ChatTemplate:
    return ChatTemplate(
        read_template(), bos=END_OF_TEXT, eos=TURN_END, control_texts=frozenset(CONTROL)
    )


def _messages(dialogue: Dialogue) -> tuple[Message, ...]:
    return tuple(
        Message(
            turn["role"],
            (Text(turn["content"]),),
            reasoning=turn.get("reasoning_content"),
            tool_calls=tuple(
                ToolCall("1", each["function"]["name"], _json(each))
                for each in turn.get("tool_calls", ())
            ),
        )
        for turn in dialogue.turns
    )


def _json(tool_call: dict) -> str:
    return json.dumps(tool_call["function"]["arguments"], ensure_ascii=False)


def test_server_renders_what_training_saw() -> None:
    template, renderer = _template(), Renderer()
    dialogues = [d for d in islice(DialogueStream(4), 250) if not d.tools]
    for dialogue in dialogues:
        for opened in (False, True):
            segments = template.render(
                ChatPrompt(_messages(dialogue), {"enable_thinking": dialogue.thinks}),
                add_generation_prompt=opened,
                now=None,
            )
            expected = renderer.render(dialogue, add_generation_prompt=opened)
            assert expected == "".join(part.text for part in segments)


def test_sandbox_renders_tools_as_training_saw_them() -> None:
    environment = ChatEnvironment(ControlTexts(frozenset(CONTROL)))
    environment.begin(sentinel="", limit_chars=10**7)
    template = environment.compile_bounded(read_template())
    renderer = Renderer()
    dialogues = [d for d in islice(DialogueStream(4), 300) if d.tools]
    assert len(dialogues) > 30
    for dialogue in dialogues:
        text = template.render(
            messages=list(dialogue.turns),
            tools=list(dialogue.tools),
            enable_thinking=dialogue.thinks,
            add_generation_prompt=False,
        )
        assert renderer.render(dialogue) == text


def test_a_prompt_is_the_beginning_of_the_training_text() -> None:
    renderer = Renderer()
    for dialogue in islice(DialogueStream(12), 400):
        if any(turn["role"] == "tool" for turn in dialogue.turns):
            continue
        prompt = renderer.render(dialogue.prompt(), add_generation_prompt=True)
        assert renderer.render(dialogue).startswith(prompt)


def test_tools_thoughts_and_calls_are_written_as_hermes_does() -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "get_x",
            "description": "Get it.",
            "parameters": {"type": "object", "properties": {"é": {"type": "string"}}},
            "strict": True,
        },
    }
    dialogue = Dialogue(
        "calls",
        (
            {"role": "system", "content": "Be brief."},
            user("x of y"),
            call("get_x", {"é": "y"}, "It is y."),
            {"role": "tool", "content": "7"},
            answer("The result is 7.", "It gave 7."),
        ),
        (tool,),
        thinks=True,
    )
    expected = (
        "<|im_start|>system\nBe brief.\n\n<tools>\n"
        '{"name": "get_x", "description": "Get it.", "parameters": '
        '{"type": "object", "properties": {"é": {"type": "string"}}}}\n</tools>\n'
        'Call: <tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>\n\n'
        "Think first.<|im_end|>\n"
        "<|im_start|>user\nx of y<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nIt is y.\n</think>\n\n"
        '<tool_call>\n{"name": "get_x", "arguments": {"é": "y"}}\n</tool_call>'
        "<|im_end|>\n"
        "<|im_start|>tool\n7<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nIt gave 7.\n</think>\n\n"
        "The result is 7.<|im_end|>\n"
    )
    assert expected == Renderer().render(dialogue)


def test_without_thinking_no_thought_is_written() -> None:
    dialogue = Dialogue("sums", (user("1 + 1"), answer("1 + 1 = 2", "1 + 1 = 2.")))
    expected = (
        "<|im_start|>user\n1 + 1<|im_end|>\n"
        "<|im_start|>assistant\n1 + 1 = 2<|im_end|>\n"
    )
    assert expected == Renderer().render(dialogue)

"""Known formats are recognised by their marks alone."""

import pytest

from server.core.requests import ChatPrompt, Message, Text
from server.text.overrides import OVERRIDES, find_override
from tests.text.real_templates import (
    ABSENT,
    NOW,
    SOURCES,
    call,
    join,
    make_template,
    say,
)

FOUND = {
    "openai-gpt-oss-120b": "override harmony",
    "LFM2-8B-A1B": "override liquid",
    "ibm-granite-granite-3.3-2B-Instruct": "override granite 3",
}


def test_overrides_are_the_few_that_rendering_cannot_show() -> None:
    if not SOURCES:
        pytest.skip(ABSENT)
    sources = {
        name: make_template(text).format.source for name, text in SOURCES.items()
    }
    overridden = {n: s for n, s in sources.items() if s.startswith("override")}
    assert FOUND == overridden


def test_all_marks_must_stand_in_the_text() -> None:
    for override in OVERRIDES:
        whole = " ".join(override.marks)
        found = find_override(whole, comes_first=override.comes_first)
        assert found is not None
        for mark in override.marks:
            less = " ".join(m for m in override.marks if mark not in m)
            left = find_override(less, comes_first=override.comes_first)
            assert left != override.chat_format
        assert None is find_override("", comes_first=override.comes_first)


def test_past_calls_are_written_with_marks_that_count() -> None:
    begin, end = "<|tool_call_start|>", "<|tool_call_end|>"
    source = (
        "<|tool_list_start|>{{ tools|tojson }}{% for m in messages %}<|im_start|>"
        "{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
    )
    template = make_template(source, frozenset({begin, end, "<|im_end|>"}))
    arguments = f'{{"a": "x{end}", "b": [true, null, {{"c": "\\""}}], "d": 2}}'
    messages = (say("user", "Hi"), call(("add", arguments), text=f"So {end}"))
    segments = template.render(ChatPrompt(messages), now=NOW)
    assert (
        f'So {end}\n{begin}[add(a="x{end}", b=[True, None, '
        f'{{"c": "\\""}}], d=2)]{end}<|im_end|>' in join(segments)
    )
    assert 1 == sum(segment.text.count(end) for segment in segments)


def test_harmony_splits_calls_and_keeps_thoughts() -> None:
    if not SOURCES:
        pytest.skip(ABSENT)
    template = make_template(SOURCES["openai-gpt-oss-120b"])
    calls = call(("add", '{"a": 1}'), ("sub", "{}"), text="First.")
    messages = (
        say("user", "Hi"),
        Message("assistant", (Text("First."),), None, "Hm.", calls.tool_calls),
        Message("tool", (Text("one"),), tool_call_id="call00000"),
        Message("tool", (Text("two"),), tool_call_id="call00001"),
    )
    text = join(template.render(ChatPrompt(messages), now=NOW))
    assert text.endswith(
        "<|start|>assistant<|channel|>analysis<|message|>Hm.\nFirst.<|end|>"
        "<|start|>assistant to=functions.add<|channel|>commentary json<|message|>"
        '{"a": 1}<|call|><|start|>functions.add to=assistant<|channel|>commentary'
        '<|message|>"one"<|end|>'
        "<|start|>assistant to=functions.sub<|channel|>commentary json<|message|>{}"
        "<|call|><|start|>functions.sub to=assistant<|channel|>commentary<|message|>"
        '"two"<|end|><|start|>assistant'
    )

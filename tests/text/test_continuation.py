"""The last message of the assistant is left open exactly where it ended."""

import pytest

from server.core.requests import ChatPrompt, Message, Reasoning, Text
from server.text.program import TemplateError
from server.text.thinking import starts_inside_thought
from tests.text.real_templates import (
    ABSENT,
    NOW,
    SOURCES,
    call,
    join,
    make_template,
    say,
)

QUESTION = say("user", "Why is it blue?")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ BODY }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = CHATML.replace(
    "{{ BODY }}",
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content|trim }}\n</think>\n\n"
    "{% endif %}{{ m.content }}",
)
HEAD = "<|im_start|>user\nWhy is it blue?<|im_end|>\n<|im_start|>assistant\n"


def prefill(text: str | None, thought: str | None = None) -> Message:
    content = None if text is None else (Text(text),)
    return Message("assistant", content, reasoning=thought)


def render(source: str, *messages: Message, **options) -> str:
    template = make_template(source, options.pop("control_texts", frozenset()))
    prompt = ChatPrompt((QUESTION, *messages), continues=True, **options)
    return join(template.render(prompt, now=NOW))


@pytest.mark.parametrize(
    "body", ["m.content", "m.content|trim", "m.content|tojson", "m.content ~ '!'"]
)
@pytest.mark.parametrize("text", ["The sky", "The sky ", "The sky\n\n", "Zonwardz", ""])
def test_the_prompt_ends_where_the_text_ended(body, text) -> None:
    source = CHATML.replace("BODY", body)
    quote = '"' if "tojson" in body else ""
    question = f"{quote}{QUESTION.content[0].text}{quote}" + "!" * ("~" in body)
    shown = text.replace("\n", "\\n") if quote else text
    head = HEAD.replace(QUESTION.content[0].text, question)
    assert f"{head}{quote}{shown}" == render(source, prefill(text))


@pytest.mark.parametrize(
    ("text", "thought", "expected", "is_inside"),
    [
        (None, "Hmm ", "<think>\nHmm ", True),
        ("", "Hmm", "<think>\nHmm", True),
        ("Well ", "Hmm", "<think>\nHmm\n</think>\n\nWell ", False),
        ("Well", "", "Well", False),
    ],
)
def test_a_thought_goes_on_or_is_closed(text, thought, expected, is_inside) -> None:
    text = render(THINKING, prefill(text, thought))
    assert HEAD + expected == text
    assert is_inside is starts_inside_thought(make_template(THINKING).format, text)


def test_a_thought_that_the_template_does_not_show_is_written() -> None:
    source = CHATML.replace("BODY", "m.content.split('</think>')[-1]").replace(
        "assistant\n{% endif %}", "assistant\n<think>\n{% endif %}"
    )
    opened = HEAD + "<think>\n"
    assert f"{opened}Hmm" == render(source, prefill(None, "Hmm"))
    assert f"{opened}Hmm\n</think>\n\nSo" == render(source, prefill("So", "Hmm"))
    assert f"{HEAD}So" == render(source, prefill("So"))


def test_without_any_form_of_thoughts_a_thought_is_left_out() -> None:
    source = CHATML.replace("BODY", "m.content")
    assert f"{HEAD}So" == render(source, prefill("So", "Hmm"))


def test_a_template_that_hides_the_text_gets_it_after_the_opening() -> None:
    hidden = CHATML.replace("{{ BODY }}", "{{ m.content if m.role == 'user' }}")
    refused = "{% if messages[-1].role != 'user' %}{{ raise_exception('user!') }}"
    refused += "{% endif %}" + CHATML.replace("BODY", "m.content")
    for source in (hidden, refused):
        assert f"{HEAD}So it " == render(source, prefill("So it "))


def test_control_texts_of_what_goes_on_stay_text() -> None:
    controls = frozenset({"<|im_end|>", "<|im_start|>", "<think>", "</think>"})
    template = make_template(THINKING, controls)
    for last in (prefill("a<|im_end|>b"), prefill("a", "x</think>y")):
        prompt = ChatPrompt((QUESTION, last), continues=True)
        segments = template.render(prompt, now=NOW)
        text = join(segments)
        n_ends = sum(segment.text.count("<|im_end|>") for segment in segments)
        n_thoughts = sum(segment.text.count("</think>") for segment in segments)
        assert (1, text.count("</think>") // 2) == (n_ends, n_thoughts)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ((QUESTION,), "Only a message of the assistant can be continued, and the"),
        ((QUESTION, call(("f", "{}"))), "A message that calls tools cannot be contin"),
        ((), "Only a message of the assistant can be continued, and the last mess"),
    ],
)
def test_what_cannot_go_on_is_refused(messages, expected) -> None:
    template = make_template(CHATML.replace("BODY", "m.content"))
    with pytest.raises(TemplateError, match=f"^{expected}"):
        template.render(ChatPrompt(messages, continues=True), now=NOW)


@pytest.fixture(params=sorted(SOURCES) or [None])
def source(request) -> str:
    if request.param is None:
        pytest.skip(ABSENT)
    return SOURCES[request.param]


def test_every_real_template_goes_on_with_a_text(source) -> None:
    text = render(source, prefill("The sky <b> is "))
    assert text.endswith("The sky <b> is ")
    assert not starts_inside_thought(make_template(source).format, text)


def test_every_real_template_that_knows_thoughts_goes_on_with_one(source) -> None:
    found = make_template(source).format
    if found.reasoning is None:
        pytest.skip("this template knows no thoughts")
    text = render(source, prefill(None, "Hmm, so"))
    assert text.endswith("Hmm, so")
    assert starts_inside_thought(found, text)
    closed = render(source, prefill("Well, ", "Hmm, so"))
    assert closed.endswith("Well, ")
    begin = closed.index("Hmm, so")
    assert found.reasoning.end.strip() in closed[begin:]
    assert not starts_inside_thought(found, closed)


def test_every_real_template_that_can_shuts_thoughts_off(source) -> None:
    template = make_template(source)
    reasoning = template.format.reasoning
    if reasoning is None or not reasoning.can_disable:
        pytest.skip("thoughts of this template cannot be switched off")

    def render_with(*, enabled: bool) -> str:
        prompt = ChatPrompt((QUESTION,), reasoning=Reasoning(enabled=enabled))
        return join(template.render(prompt, now=NOW))

    assert render_with(enabled=True) != render_with(enabled=False)
    off = render_with(enabled=False)
    assert not starts_inside_thought(template.format, off)

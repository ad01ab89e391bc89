"""Real templates render, hostile ones are stopped, clients cannot inject."""
# ruff: noqa: RUF001 some vocabularies have fullwidth bars

from datetime import UTC, datetime
from pathlib import Path

import pytest

from server.core.requests import ChatPrompt, Message, Text, ToolCall
from server.text.template import (
    CHATML,
    MAX_OUTPUT_CHARS,
    MAX_SOURCE_CHARS,
    ChatTemplate,
    Segment,
    TemplateError,
)
from server.text.turns import make_turn

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
FOLDER = Path(__file__).parents[3] / "shared" / "chat-templates"
REAL = sorted(FOLDER.glob("*.jinja"))
SOURCES = {"chatml": CHATML} | {p.stem: p.read_text("utf-8") for p in REAL}
CONTROL_TEXTS = frozenset(
    [
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<s>",
        "</s>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|python_tag|>",
        "<bos>",
        "<eos>",
        "<start_of_turn>",
        "<end_of_turn>",
        "<|turn>",
        "<turn|>",
        "<|channel>",
        "<channel|>",
        "[INST]",
        "[/INST]",
        "[SYSTEM_PROMPT]",
        "[/SYSTEM_PROMPT]",
        "[TOOL_CALLS]",
        "[TOOL_RESULTS]",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|end|>",
        "<|observation|>",
        "[gMASK]",
        "<sop>",
        "<|start|>",
        "<|message|>",
        "<|channel|>",
        "<|return|>",
        "<|call|>",
        "<|start_of_role|>",
        "<|end_of_role|>",
        "<|im_middle|>",
        "<|im_user|>",
        "<|im_assistant|>",
        "<|im_system|>",
        "<SPECIAL_10>",
        "<SPECIAL_11>",
        "<SPECIAL_12>",
        "<seed:bos>",
        "<seed:eos>",
        "]~b]",
        "]~!b[",
        "[e~[",
        "<|START_OF_TURN_TOKEN|>",
        "<|user_start|>",
        "<|END_OF_TURN_TOKEN|>",
        "<|USER_TOKEN|>",
        "<|user_end|>",
        "<|system_start|>",
        "<|system_end|>",
        "<｜User｜>",
        "<｜Assistant｜>",
        "<｜end▁of▁sentence｜>",
        "<｜begin▁of▁sentence｜>",
    ]
)
HARMLESS = "☃"


def make(source: str, **options) -> ChatTemplate:
    values = {"bos": "<BOS>", "eos": "<EOS>", "control_texts": CONTROL_TEXTS}
    return ChatTemplate(source, **(values | options))


def say(role: str, text: str) -> Message:
    return Message(role, (Text(text),))


def chat(*texts: str, system: str | None = None, **kwargs) -> ChatPrompt:
    roles = ["user", "assistant"] * len(texts)
    turns = [say(role, text) for role, text in zip(roles, texts, strict=False)]
    head = [] if system is None else [say("system", system)]
    return ChatPrompt((*head, *turns), kwargs)


def join(segments: tuple[Segment, ...]) -> str:
    return "".join(segment.text for segment in segments)


def render(source: str, prompt: ChatPrompt, **options) -> str:
    return join(make(source, **options).render(prompt, now=NOW))


@pytest.fixture(params=sorted(SOURCES))
def source(request) -> str:
    return SOURCES[request.param]


def test_the_real_templates_are_all_there() -> None:
    if not REAL:
        pytest.skip(f"no real templates in {FOLDER}: only our own are tested")
    assert len(REAL) == 29


@pytest.mark.parametrize("system", [None, "SYSTEM rules"])
def test_each_template_shows_all_turns_in_order(source, system) -> None:
    prompt = chat("First question", "First answer", "Second question", system=system)
    segments = make(source).render(prompt, now=NOW)
    assert len(segments) == 1
    text = segments[0].text
    places = [text.rindex(turn.content[0].text) for turn in prompt.messages]
    questions = places if system is None else places[1:]
    assert questions == sorted(questions)
    shorter = make(source).render(prompt, add_generation_prompt=False, now=NOW)
    assert "Second question" in join(shorter)
    assert len(join(shorter)) <= len(text) + len("<EOS>")


def test_each_template_keeps_all_control_texts_of_clients_apart(source) -> None:
    template = make(source)

    def render_with(text: str) -> tuple[Segment, ...]:
        prompt = chat(
            f"hello {text} there", f"so {text}", f"{text}", system=f"be {text} kind"
        )
        return template.render(prompt, now=NOW)

    harmless = join(render_with(HARMLESS))
    for control in sorted(CONTROL_TEXTS):
        segments = render_with(control)
        assert join(segments) == harmless.replace(HARMLESS, control)
        for known in CONTROL_TEXTS:
            count = sum(segment.text.count(known) for segment in segments)
            assert count == harmless.count(known)


def test_each_template_keeps_control_texts_in_tool_calls_apart(source) -> None:
    template = make(source)

    def render_with(text: str) -> tuple[Segment, ...] | None:
        arguments = f'{{"a": "x{text}", "b{text}": ["{text}y"]}}'
        call = ToolCall("call12345", f"find{text}", arguments)
        messages = (
            say("user", "look it up"),
            Message("assistant", None, None, f"I {text}", (call,)),
            Message("tool", (Text(f"found {text}!"),), "find", None, (), "call12345"),
            say("user", "thanks"),
        )
        try:
            return template.render(ChatPrompt(messages), now=NOW)
        except TemplateError:
            return None

    harmless = render_with(HARMLESS)
    if harmless is None:
        pytest.skip("this template knows no tool calls in this shape")
    for control in sorted(CONTROL_TEXTS):
        segments = render_with(control)
        assert segments is not None
        assert join(segments) == join(harmless).replace(HARMLESS, control)
        for known in CONTROL_TEXTS:
            count = sum(segment.text.count(known) for segment in segments)
            assert count == join(harmless).count(known)


def test_a_control_text_that_a_template_would_bring_together_is_cut() -> None:
    source = "<|im_start|>{{ messages[0].content.replace('/think', '') }}<|im_end|>"
    segments = make(source).render(chat("a <|im_/thinkend|> b"), now=NOW)
    assert [s.text for s in segments] == ["<|im_start|>a <", "|im_end|> b<|im_end|>"]


@pytest.mark.parametrize(
    "expression", ["content|trim", "content|upper|lower", "content|tojson", "content"]
)
def test_transforming_a_text_does_not_free_its_control_texts(expression) -> None:
    source = "{% set content = messages[0].content %}{{ " + expression + " }}"
    for text in (" <|im_end|> ", "<|IM_END|>", "<|im_<|im_end|>end|>"):
        segments = make(source).render(chat(text), now=NOW)
        assert not any("<|im_end|>" in segment.text for segment in segments)


def test_joined_parts_and_kwargs_and_names_are_protected() -> None:
    source = "{{ messages[0].content }}{{ messages[0].name }}{{ x.k[0] }}"
    message = Message("user", (Text("<|im_"), Text("end|>")), "</s>")
    prompt = ChatPrompt((message,), {"x": {"k": ["<s>"]}})
    segments = make(source).render(prompt, now=NOW)
    assert join(segments) == "<|im_end|></s><s>"
    assert not any(c in s.text for s in segments for c in CONTROL_TEXTS)


def test_a_noncharacter_of_the_client_is_kept_while_another_is_free() -> None:
    text = "\ufdd0<s>\ufdd1"
    segments = make("{{ messages[0].content }}").render(chat(text), now=NOW)
    assert [s.text for s in segments] == ["\ufdd0<", "s>\ufdd1"]


def test_one_noncharacter_is_dropped_when_a_client_uses_all_of_them() -> None:
    every = "".join(map(chr, range(0xFDD0, 0xFDF0)))
    source = "{{ messages[0].content }}"
    segments = make(source).render(chat(every + "<s>"), now=NOW)
    assert [s.text for s in segments] == [every[1:] + "<", "s>"]


def test_the_sentinel_is_none_that_the_template_writes() -> None:
    source = "{{ '\\ufdd0' }}\ufdd1{{ messages[0].content }}"
    segments = make(source).render(chat("<s>"), now=NOW)
    assert [s.text for s in segments] == ["\ufdd0\ufdd1<", "s>"]


def test_chatml_is_written_exactly() -> None:
    assert render(CHATML, chat("Hi", "Ho", "Go", system="Be brief")) == (
        "<|im_start|>system\nBe brief<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHo<|im_end|>\n<|im_start|>user\nGo<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_variables_of_the_server_and_of_the_client_arrive() -> None:
    source = (
        "{{ bos_token }}{{ eos_token }}{{ tools is none }}{{ add_generation_prompt }}"
        "{{ strftime_now('%d %b %Y') }}{{ enable_thinking }}{{ messages[0].content }}"
    )
    text = render(source, chat("x", enable_thinking=False))
    assert text == "<BOS><EOS>TrueTrue04 Mar 2026Falsex"


def test_without_a_time_strftime_now_is_undefined() -> None:
    source = "{{ strftime_now is defined }}{{ messages[0].content }}"
    assert join(make(source).render(chat("x"), now=None)) == "Falsex"


def test_reserved_names_cannot_be_set_by_a_client() -> None:
    expected = "^The chat template variable 'bos_token' is set by the server"
    with pytest.raises(TemplateError, match=expected):
        make(CHATML).render(chat("x", tools=[], bos_token="y"), now=NOW)


def test_a_template_without_system_role_gets_it_in_the_first_question() -> None:
    source = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}"
    )
    assert render(source, chat("Hi", system="Rules")) == "[user:Rules\n\nHi]"


def test_a_refused_conversation_says_so_in_the_templates_words() -> None:
    source = (
        "{% if messages|length > 1 %}{{ raise_exception('Only one, please.') }}"
        "{% endif %}{{ messages[0].content }}"
    )
    with pytest.raises(TemplateError) as caught:
        make(source).render(chat("a", "b", "c", system="d"), now=NOW)
    assert caught.value.message == (
        "The model's chat template refuses this conversation: Only one, please. "
        "Change the messages to what it asks for."
    )


def test_a_template_that_takes_only_parts_gets_parts() -> None:
    source = (
        "{% for m in messages %}{% for part in m.content %}"
        "{% if part.type == 'text' %}[{{ part.text }}]{% endif %}"
        "{% endfor %}{% endfor %}"
    )
    assert render(source, chat("a", "b", "c")) == "[a][b][c]"


def test_a_template_that_insists_on_tools_gets_none_of_them() -> None:
    source = "{% for t in tools %}t{% endfor %}{{ functions }} {{ datetime }}"
    text = render(source + "{{ messages[0].content }}", chat("x"))
    assert text == "[] 2026-03-04 05:06:07x"


def test_arguments_work_as_mapping_and_as_text() -> None:
    call = ToolCall("i", "f", '{"a":  1, "b": [true, {"c": "d"}]}')
    turns = [make_turn(Message("assistant", tool_calls=(call,)))]
    head = "{% set a = messages[0].tool_calls[0].function.arguments %}"
    for expression, expected in (
        ("a.a", "1"),
        ("a.b", '[true, {"c": "d"}]'),
        ("a.b[1]|string", '{"c": "d"}'),
        ("a|tojson", '{"a": 1, "b": [true, {"c": "d"}]}'),
        ("'<' + a + '>'", f"<{call.arguments}>"),
        ("a ~ '!'", f"{call.arguments}!"),
        ("a", call.arguments),
        ("a is mapping", "True"),
    ):
        source = head + "{{ " + expression + " }}"
        assert expected == make(source)._program.draw(turns)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "{{ 1 +\n }}",
            r"is broken at line 2: unexpected 'end of print statement'\. Use",
        ),
        (
            "{% if x %}",
            r"is broken at line 1: Unexpected end of template\. .* is 'if'\. Use",
        ),
        (
            "{{ x|striptags }}",
            r"is broken at line 1: No filter named 'striptags'\. Use",
        ),
        (
            "x" * (MAX_SOURCE_CHARS + 1),
            r"has 262145 characters, more than the 262144 allowed\. Use",
        ),
        (
            "{{" + "(" * 5000 + "1" + ")" * 5000 + "}}",
            r"template failed: \w+Error: .* use",
        ),
    ],
)
def test_a_broken_template_says_where_and_what_to_do(source, expected) -> None:
    with pytest.raises(
        TemplateError, match=expected + r" another file of this model\.$"
    ):
        make(source)


LATER = "{{ messages[0].content }}{% if messages|length > 1 %}BODY{% endif %}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{{ 'x' * 10**9 }}", "it makes more than 268435456 characters of text"),
        (
            "{% for i in range(40) %}{{ 'x' * 1000000 }}{% endfor %}",
            f"its output has more than {MAX_OUTPUT_CHARS} characters",
        ),
        (
            (
                "{% for i in range(99999) %}{% for j in range(99999) %}"
                "{% endfor %}{% endfor %}"
            ),
            "not finished after 0.3 s",
        ),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
        ("{{ nothing.at.all }}", "UndefinedError: 'nothing' is undefined"),
    ],
)
def test_a_hostile_or_faulty_render_ends_in_a_named_error(body, expected) -> None:
    limit_s = 0.3 if expected.endswith("0.3 s") else 10.0
    template = make(LATER.replace("BODY", body), limit_s=limit_s)
    assert join(template.render(chat("fine"), now=NOW)) == "fine"
    with pytest.raises(TemplateError) as caught:
        template.render(chat("a", "b", "c"), now=NOW)
    assert expected in caught.value.message
    assert join(template.render(chat("fine again"), now=NOW)) == "fine again"


def test_kwargs_nested_too_deep_end_in_an_error() -> None:
    nested: list = []
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(TemplateError, match="RecursionError"):
        make(CHATML).render(chat("x", deep=nested), now=NOW)


def test_a_long_error_text_is_cut_and_free_of_sentinels() -> None:
    source = LATER.replace("BODY", "{{ raise_exception(messages[0].content) }}")
    with pytest.raises(TemplateError) as caught:
        make(source).render(chat("<s>" * 1000, "b", "c"), now=NOW)
    assert "\ufdd0" not in caught.value.message
    assert len(caught.value.message) < 1200


def test_an_empty_output_has_no_segments() -> None:
    assert make("").render(chat("x"), now=NOW) == ()

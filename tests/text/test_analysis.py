"""How models write is found from templates that nobody told us of."""

import msgspec
import pytest

from server.text.analysis import analyse
from server.text.format import ArgumentStyle, CallSyntax, ReasoningSyntax
from server.text.shapes import IdStyle
from tests.text.real_templates import ABSENT, SOURCES, make_template

HEAD = (
    "{% if tools %}<sys>{{ tools|tojson }}</sys>{% endif %}"
    "{% for m in messages %}{% if m.role == 'tool' %}<res>{{ m.content }}</end>"
    "{% elif m.role == 'user' %}<usr>{{ m.content }}</end>"
    "{% elif m.role == 'system' %}<sys>{{ m.content }}</end>{% else %}<bot>"
)
TAIL = "</end>{% endif %}{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
LOOP = "{% for c in m.tool_calls or [] %}{% set f = c.function %}"
PYTHON_ARGUMENTS = (
    "{% for k, v in f.arguments.items() %}{{ k }}="
    "{% if v is string %}{{ v|tojson }}{% else %}{{ v }}{% endif %}"
    "{{ ', ' if not loop.last }}{% endfor %}"
)
OBJECT = '{"name": {{ f.name|tojson }}, "arguments": {{ f.arguments|tojson }}}'


def dialogue(calls: str, text: str = "{{ m.content or '' }}") -> str:
    return HEAD + text + calls + TAIL


def listed(item: str, begin: str, end: str) -> str:
    return (
        "{% if m.tool_calls %}" + begin + "[" + LOOP + item + "{{ ', ' if not loop.last"
        " }}{% endfor %}]" + end + "{% endif %}"
    )


JSON_CALL, JSON = ArgumentStyle.JSON_CALL, ArgumentStyle.JSON
TEMPLATES = {
    "JSON objects in tags": (
        LOOP + "<call>" + OBJECT + "</call>{% endfor %}",
        CallSyntax(JSON_CALL, call_begin="<call>", call_end="</call>"),
    ),
    "lines of JSON in one section": (
        "{% if m.tool_calls %}<calls>\n"
        + LOOP
        + OBJECT
        + "\n{% endfor %}</calls>{% endif %}",
        CallSyntax(
            JSON_CALL,
            section_begin="<calls>\n",
            section_end="\n</calls>",
            separator="\n",
        ),
    ),
    "a list of JSON": (
        listed(OBJECT, "[CALLS]", "[/CALLS]"),
        CallSyntax(
            JSON_CALL, section_begin="[CALLS]", section_end="[/CALLS]", is_array=True
        ),
    ),
    "a list of JSON and nothing else": (
        listed(OBJECT, "", ""),
        CallSyntax(JSON_CALL, is_array=True),
    ),
    "calls as OpenAI's API has them": (
        listed("{{ c|tojson }}", "<c>", "</c>"),
        CallSyntax(
            JSON_CALL,
            section_begin="<c>",
            section_end="</c>",
            is_array=True,
            wrapper_key="function",
        ),
    ),
    "other keys, the id first": (
        listed(
            '{"call_id": "{{ c.id }}", "tool": "{{ f.name }}", "input": '
            "{{ f.arguments|tojson }}}",
            "<c>",
            "</c>",
        ),
        CallSyntax(
            JSON_CALL,
            section_begin="<c>",
            section_end="</c>",
            is_array=True,
            name_key="tool",
            arguments_key="input",
            id_key="call_id",
            is_id_first=True,
        ),
    ),
    "the name is the key": (
        LOOP
        + '<c>{"{{ f.name }}": {{ f.arguments|tojson }}}</c>'
        + "{{ '\n' if not loop.last }}{% endfor %}",
        CallSyntax(
            JSON_CALL,
            call_begin="<c>",
            call_end="</c>",
            separator="\n",
            name_key="",
            arguments_key="",
        ),
    ),
    "arguments are a text inside JSON": (
        LOOP
        + '<c>{"name": "{{ f.name }}", "arguments": '
        + "{{ (f.arguments|tojson)|tojson }}}</c>{% endfor %}",
        CallSyntax(JSON_CALL, call_begin="<c>", call_end="</c>", args_as_text=True),
    ),
    "JSON after the name": (
        LOOP + "<fn={{ f.name }}>{{ f.arguments|tojson }}</fn>{% endfor %}",
        CallSyntax(JSON, call_begin="<fn=", name_end=">", call_end="</fn>"),
    ),
    "JSON after name and id": (
        LOOP + "<fn>{{ f.name }}<id>{{ c.id }}<args>{{ f.arguments|tojson }}</fn>"
        "{% endfor %}",
        CallSyntax(
            JSON, call_begin="<fn>", name_end="<id>", id_end="<args>", call_end="</fn>"
        ),
    ),
    "JSON in a code block": (
        "{% if m.tool_calls %}<|calls|>{% endif %}"
        + LOOP
        + "<|call|>function<|sep|>{{ f.name }}\n```json\n{{ f.arguments|tojson }}"
        "\n```<|done|>{% endfor %}{% if m.tool_calls %}<|all|>{% endif %}",
        CallSyntax(
            JSON,
            section_begin="<|calls|>",
            section_end="<|all|>",
            call_begin="<|call|>function<|sep|>",
            name_end="\n```json\n",
            call_end="\n```<|done|>",
        ),
    ),
    "the id holds the name": (
        LOOP + "<|call|>{{ c.id }}<|args|>{{ f.arguments|tojson }}<|done|>{% endfor %}",
        CallSyntax(
            JSON,
            call_begin="<|call|>",
            name_end="<|args|>",
            call_end="<|done|>",
            id_holds_name=True,
        ),
    ),
    "arguments in tags": (
        LOOP + '<do name="{{ f.name }}">\n{% for k, v in f.arguments.items() %}'
        '<p k="{{ k }}">{{ v if v is string else v|tojson }}</p>\n{% endfor %}'
        "</do>\n{% endfor %}",
        CallSyntax(
            ArgumentStyle.TAGGED,
            call_begin='<do name="',
            call_end="</do>\n",
            name_end='">\n',
            key_begin='<p k="',
            key_end='">',
            value_end="</p>\n",
        ),
    ),
    "a list of Python calls": (
        listed("{{ f.name }}(" + PYTHON_ARGUMENTS + ")", "<py>", "</py>"),
        CallSyntax(
            ArgumentStyle.PYTHON,
            section_begin="<py>",
            section_end="</py>",
            is_array=True,
        ),
    ),
    "Python calls line by line": (
        "{% if m.tool_calls %}<py>\n"
        + LOOP
        + "{{ f.name }}("
        + PYTHON_ARGUMENTS
        + ")\n{% endfor %}</py>{% endif %}",
        CallSyntax(
            ArgumentStyle.PYTHON,
            section_begin="<py>\n",
            section_end="\n</py>",
            separator="\n",
        ),
    ),
    "quotes of their own": (
        LOOP + "<c>{{ f.name }}{% for k, v in f.arguments.items() %}"
        "{{ '{' if loop.first }}{{ k }}:{% if v is string %}<q>{{ v }}<q>{% elif v is "
        "boolean %}{{ 'true' if v else 'false' }}{% elif v is mapping %}"
        "{% for a, b in v.items() %}{{ '{' ~ a ~ ':[<q>' ~ b[0] ~ '<q>]}' }}"
        "{% endfor %}{% else %}{{ v }}{% endif %}{{ ',' if not loop.last else '}' }}"
        "{% endfor %}</c>{% endfor %}",
        CallSyntax(
            ArgumentStyle.QUOTED, call_begin="<c>", call_end="</c>", quote="<q>"
        ),
    ),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_syntax_of_calls_is_found(name) -> None:
    calls, expected = TEMPLATES[name]
    found = make_template(dialogue(calls)).format
    assert ("analysis", expected) == (found.source, found.calls)


@pytest.mark.parametrize("name", TEMPLATES)
def test_it_is_found_where_texts_are_dropped_and_calls_wait_for_results(name) -> None:
    calls, expected = TEMPLATES[name]
    text = "{% if not m.tool_calls %}{{ m.content }}{% endif %}"
    waiting = (
        "{% if m.tool_calls and messages[-1].role == 'tool' %}" + calls + "{% endif %}"
    )
    found = make_template(dialogue(waiting, text)).format
    assert ("analysis", expected) == (found.source, found.calls)


def test_a_mark_is_never_cut_in_its_middle() -> None:
    calls = "{% if m.tool_calls %}<tool_all>" + LOOP + "<tool_one>" + OBJECT
    calls += "<tool_end>{% endfor %}<tool_out>{% endif %}"
    found = make_template(dialogue(calls)).format.calls
    assert ("<tool_all>", "<tool_out>") == (found.section_begin, found.section_end)
    assert ("<tool_one>", "<tool_end>") == (found.call_begin, found.call_end)


def test_a_control_text_is_no_place_to_cut_however_it_looks() -> None:
    calls = "{% if m.tool_calls %}]~a]{% endif %}" + LOOP + "]~b]" + OBJECT + "]~c]"
    calls += "{% endfor %}{% if m.tool_calls %}]~d]{% endif %}"
    from_text = make_template(dialogue(calls)).format.calls
    assert "]~a" == from_text.section_begin
    controls = frozenset({"]~a]", "]~b]", "]~c]", "]~d]"})
    found = make_template(dialogue(calls), controls).format.calls
    assert ("]~a]", "]~d]") == (found.section_begin, found.section_end)
    assert ("]~b]", "]~c]") == (found.call_begin, found.call_end)


def test_one_call_a_turn_is_seen_whether_others_are_dropped_or_refused() -> None:
    one = "{% set f = m.tool_calls[0].function %}<c>" + OBJECT + "</c>"
    refuse = "{% if m.tool_calls|length > 1 %}{{ raise_exception('one!') }}{% endif %}"
    for body in (one, refuse + one):
        template = make_template(
            dialogue("{% if m.tool_calls %}" + body + "{% endif %}")
        )
        expected = CallSyntax(
            JSON_CALL, call_begin="<c>", call_end="</c>", is_parallel=False
        )
        assert expected == template.format.calls
        assert template.study.shape.splits_calls


def test_what_a_template_insists_on_is_found() -> None:
    short = "{% if c.id|length != 9 %}{{ raise_exception('nine!') }}{% endif %}"
    call = "<c>" + OBJECT + "</c>{% endfor %}"
    text = "{% if f.arguments is not string %}{{ raise_exception('text!') }}{% endif %}"
    written = '<c>{"name": "{{ f.name }}", "arguments": {{ f.arguments }}}</c>'
    null = "{% if m.content is not none %}<said>{{ m.content }}</said>{% endif %}"

    def shape(calls: str, content: str = ""):
        return make_template(dialogue(calls, content)).study.shape

    assert IdStyle.SHORT is shape(LOOP + short + call).id_style
    assert IdStyle.AS_GIVEN is shape(LOOP + call).id_style
    assert shape(LOOP + text + written + "{% endfor %}").arguments_as_text
    assert shape(LOOP + call, null).null_content
    assert not shape(LOOP + call, "{{ m.content }}").null_content


@pytest.mark.parametrize(
    "calls",
    [
        "",
        "{% for c in m.tool_calls or [] %}{{ c.function.name }} was called{% endfor %}",
        LOOP + "{{ f.name }}{{ f.arguments|tojson }}{% endfor %}",
        LOOP + "<c>{{ f.arguments.values()|join(f.name) }}</c>{% endfor %}",
        "{% if m.tool_calls %}{{ raise_exception('no tools') }}{% endif %}",
    ],
)
def test_what_is_like_no_call_known_is_left_to_the_fallback(calls) -> None:
    template = make_template(dialogue(calls))
    assert "fallback" == template.format.source
    assert not template.format.knows_tools
    assert "[TOOL_REQUEST]" == template.format.calls.call_begin
    assert not template.study.shape.shows_calls


THINK = (
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n"
    "{% endif %}{{ m.content }}"
)
DROP = "{{ (m.content or '').split('</think>')[-1] }}"


def prompt(end: str) -> str:
    return (HEAD + DROP + TAIL).replace(
        "<bot>{% endif %}", "<bot>" + end + "{% endif %}"
    )


THOUGHTS = {
    "it is rendered": (
        dialogue("", THINK),
        ReasoningSyntax("<think>\n", "\n</think>\n\n"),
    ),
    "an empty one stands in each turn": (
        dialogue("", "<think>{{ m.reasoning_content or '' }}</think>{{ m.content }}"),
        ReasoningSyntax("<think>", "</think>"),
    ),
    "under another key": (
        dialogue("", "[THINK]{{ m.thinking or '' }}[/THINK]{{ m.content }}"),
        ReasoningSyntax("[THINK]", "[/THINK]"),
    ),
    "in parts": (
        dialogue(
            "",
            "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content"
            " %}{% if p.type == 'thinking' %}[THINK]{{ p.thinking[0].text }}[/THINK]"
            "{% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}",
        ),
        ReasoningSyntax("[THINK]", "[/THINK]"),
    ),
    "it is dropped and the prompt opens one": (
        prompt("<think>\n"),
        ReasoningSyntax("<think>\n", "\n</think>\n\n"),
    ),
    "it is dropped and can be empty": (
        prompt("{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"),
        ReasoningSyntax(
            "<think>\n", "\n</think>\n\n", can_disable=True, switch="enable_thinking"
        ),
    ),
    "only the prompt has it": (
        (HEAD + "{{ m.content }}" + TAIL).replace(
            "<bot>{% endif %}",
            "<bot>{% if thinking is defined and not thinking %}<|muse|>\n<|end_muse|>"
            "{% endif %}{% endif %}",
        ),
        ReasoningSyntax(
            "<|muse|>\n", "<|end_muse|>", can_disable=True, switch="thinking"
        ),
    ),
    "there is none": (dialogue("", "{{ m.content }}"), None),
}


@pytest.mark.parametrize("name", THOUGHTS)
def test_the_marks_of_thoughts_are_found(name) -> None:
    source, expected = THOUGHTS[name]
    assert expected == make_template(source).format.reasoning


def test_a_thought_is_no_part_of_the_marks_of_calls() -> None:
    calls, expected = TEMPLATES["JSON objects in tags"]
    text = "<think>{{ m.reasoning_content or '' }}</think>\n{{ m.content or '' }}"
    assert expected == make_template(dialogue(calls, text)).format.calls


def test_marks_around_an_answer_are_found() -> None:
    calls, expected = TEMPLATES["JSON objects in tags"]
    text = "{% if not m.tool_calls %}<say>{{ m.content }}</say>{% endif %}"
    found = make_template(dialogue(calls, text)).format
    assert ("<say>", "</say>") == (found.answer_begin, found.answer_end)
    assert expected == found.calls


def test_a_hostile_template_costs_no_more_than_its_time() -> None:
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
    endless += "{% endfor %}"
    calls = "{% if m.tool_calls %}" + endless + "{% endif %}"
    template = make_template(dialogue(calls), limit_s=0.5)
    assert "fallback" == template.format.source


def test_a_template_is_tried_out_once() -> None:
    template = make_template(dialogue(TEMPLATES["a list of JSON"][0]))
    assert analyse(template) is analyse(template)
    assert template.study is template.study


EXPECTED = {
    "Apertus-8B-Instruct": ("json_call", "<|tools_prefix|>"),
    "google-gemma-4-31B-it": ("quoted", "<|tool_call>call:"),
    "meta-llama-Llama-3.1-8B-Instruct": ("json_call", ""),
    "MiniMax-M2": ("tagged", "<minimax:tool_call>"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_real_templates_need_no_model_names(name) -> None:
    if not SOURCES:
        pytest.skip(ABSENT)
    found = make_template(SOURCES[name]).format
    assert EXPECTED[name] == (found.calls.arguments, found.calls.trigger)
    assert "analysis" == found.source


@pytest.mark.parametrize("name", sorted(SOURCES) or [None])
def test_a_format_is_plain_data(name) -> None:
    if name is None:
        pytest.skip(ABSENT)
    found = make_template(SOURCES[name]).format
    assert found == msgspec.convert(msgspec.to_builtins(found), type(found))

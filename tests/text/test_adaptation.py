"""Tools, choices and switches reach the template, or the text beside it."""

import json

import pytest

from server.core.requests import (
    ChatPrompt,
    Message,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from server.text.adaptation import make_thinking_variables, select_tools
from server.text.template import TemplateError
from tests.text.real_templates import (
    ABSENT,
    NOW,
    SOURCES,
    call,
    join,
    make_template,
    say,
)

ADD = Tool("add", "Adds <|im_end|> numbers.", {"properties": {"a": {"type": "number"}}})
SUB = Tool("sub.it-1")
HERMES = (
    "{% if tools %}<tools>{{ tools|tojson }}</tools>{% endif %}{% for m in messages %}"
    "<|im_start|>{{ m.role }}\n{{ m.content or '' }}{% for c in m.tool_calls or [] %}"
    '<call>{"name": {{ c.function.name|tojson }}, "arguments": '
    "{{ c.function.arguments|tojson }}}</call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN = (
    "{% for m in messages %}{% if m.role not in ['user', 'assistant'] %}"
    "{{ raise_exception('Only two roles.') }}{% endif %}"
    "[{{ m.role }}:{{ m.content }}]{% endfor %}"
)
ASK = say("user", "Hi")


def render(source: str, prompt: ChatPrompt, controls=frozenset()) -> str:
    return join(make_template(source, controls).render(prompt, now=NOW))


def read_tools(text: str) -> list:
    return json.loads(text.partition("<tools>")[2].partition("</tools>")[0])


def test_tools_are_given_as_openai_gives_them() -> None:
    text = render(HERMES, ChatPrompt((ASK,), tools=(ADD, SUB)))
    empty = {"type": "object", "properties": {}}
    assert read_tools(text) == [
        {
            "type": "function",
            "function": {
                "name": "add",
                "description": ADD.description,
                "parameters": {**empty, **ADD.parameters},
            },
        },
        {
            "type": "function",
            "function": {"name": "sub.it-1", "description": "", "parameters": empty},
        },
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (ToolChoice("auto"), ["add", "sub.it-1"]),
        (ToolChoice("required"), ["add", "sub.it-1"]),
        (ToolChoice("required", ("sub.it-1",)), ["sub.it-1"]),
        (ToolChoice("auto", ("add", "other")), ["add"]),
        (ToolChoice("none"), []),
    ],
)
def test_the_choice_decides_which_tools_are_shown(choice, expected) -> None:
    prompt = ChatPrompt((ASK,), tools=(ADD, SUB), tool_choice=choice)
    assert expected == [tool.name for tool in select_tools(prompt)]
    text = render(HERMES, prompt)
    if expected:
        assert expected == [tool["function"]["name"] for tool in read_tools(text)]
    else:
        assert "<tools>" not in text


@pytest.mark.parametrize("source", [HERMES, PLAIN])
def test_control_texts_in_schemas_and_descriptions_stay_text(source) -> None:
    control = "<|im_end|>"
    tool = Tool(
        f"f{control}",
        f"Do {control}.",
        {"properties": {f"k{control}": {"enum": [control, f"x{control}"]}}},
    )
    template = make_template(source, frozenset({control, "<|im_start|>"}))
    segments = template.render(ChatPrompt((ASK,), tools=(tool,)), now=NOW)
    assert 5 == join(segments).count(control) - (source is HERMES)
    n_meant = sum(segment.text.count(control) for segment in segments)
    assert (source is HERMES) == n_meant


def test_a_template_without_tools_or_system_role_is_told_by_the_user() -> None:
    conversation = (
        ASK,
        call(("add", '{"a": 1}'), ("sub.it-1", "{}"), text="Let me see."),
        Message("tool", (Text("2"),), tool_call_id="call00001"),
        Message("tool", (Text("1"),), tool_call_id="call00000"),
        say("user", "And?"),
    )
    text = render(PLAIN, ChatPrompt(conversation, tools=(ADD, SUB)))
    first, _, rest = text.partition("Hi]")
    assert first.startswith("[user:You can call these tools.")
    assert json.dumps({"name": "add", "description": ADD.description})[:-1] in first
    assert '[TOOL_REQUEST]{"name": "tool_name", "arguments": {"argument"' in first
    assert rest == (
        '[assistant:Let me see.\n[TOOL_REQUEST]{"name": "add", "arguments": {"a": 1}}'
        '[END_TOOL_REQUEST]\n[TOOL_REQUEST]{"name": "sub.it-1", "arguments": {}}'
        "[END_TOOL_REQUEST]][user:[TOOL_RESULT sub.it-1]\n2\n[END_TOOL_RESULT]\n"
        "[TOOL_RESULT add]\n1\n[END_TOOL_RESULT]\nAnd?]"
    )


def test_a_template_that_shows_calls_and_no_tools_is_told_them_in_its_format() -> None:
    source = HERMES.partition("{% endif %}")[2]
    messages = (say("system", "Be kind."), ASK)
    prompt = ChatPrompt(messages, tools=(ADD,), tool_choice=ToolChoice("required"))
    text = render(source, prompt)
    assert "system\nBe kind.\n\nYou can call these tools." in text
    example = '{"name": "tool_name", "arguments": {"argument": "value"}}'
    assert f"\n<call>{example}</call>\n" in text
    assert "You must call a tool now." in text
    assert "[TOOL_REQUEST]" not in text


def test_schemas_that_a_template_cannot_write_are_made_simpler() -> None:
    picky = (
        "{% for t in tools or [] %}{% for k, v in t.function.parameters.properties"
        ".items() %}{% if v.type not in ['number', 'string'] %}"
        "{{ raise_exception('unknown type') }}{% endif %}{{ k }}:{{ v.type }} "
        "{% endfor %}{% endfor %}"
    )
    properties = {
        "a": {"type": ["null", "number"]},
        "b": {"type": "null"},
        "c": {"type": "string"},
    }
    prompt = ChatPrompt((ASK,), tools=(Tool("f", None, {"properties": properties}),))
    assert render(picky + HERMES, prompt).startswith("a:number b:string c:string ")
    hopeless = "{% if tools %}{% for t in tools %}{{ raise_exception(t.function.name"
    hopeless += " if t.function.name == 'f' else '') if t.function.name == 'f' }}"
    hopeless += "{% endfor %}{% endif %}"
    assert "You can call these tools." in render(hopeless + HERMES, prompt)


def test_what_a_template_says_of_the_clients_own_messages_is_told() -> None:
    prompt = ChatPrompt((say("developer", "x"), ASK), tools=(ADD,))
    with pytest.raises(TemplateError, match="refuses this conversation: Only two"):
        render(PLAIN, prompt)


def test_missing_ids_names_and_broken_arguments_are_mended() -> None:
    strict = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}"
        "{% if c.function.arguments is not mapping or not c.id %}"
        "{{ raise_exception('mapping!') }}{% endif %}({{ c.id }}){% endfor %}"
        "{% if m.role == 'tool' %}({{ m.name }} {{ m.tool_call_id }}){% endif %}"
        "{% endfor %}"
    )
    calls = (ToolCall("", "add", '{"a": '), ToolCall("x", "sub.it-1", ""))
    messages = (
        ASK,
        Message("assistant", tool_calls=calls),
        Message("tool", (Text("1"),)),
        Message("tool", (Text("2"),), tool_call_id="x"),
    )
    text = render(strict + HERMES, ChatPrompt(messages))
    assert text.startswith("(call00001)(x)(add call00001)(sub.it-1 x)")
    assert '{"name": "add", "arguments": {"arguments": "{\\"a\\": "}}' in text
    assert '{"name": "sub.it-1", "arguments": {}}' in text


def test_switches_and_effort_become_variables() -> None:
    def variables(**wishes):
        return make_thinking_variables(Reasoning(**wishes))

    on = {"enable_thinking": True, "thinking": True}
    off = {"enable_thinking": False, "thinking": False, "thinking_budget": 0}
    assert {} == variables()
    assert on == variables(enabled=True)
    assert off == variables(enabled=False, budget_tokens=9)
    assert {"thinking_budget": 9} == variables(budget_tokens=9)
    assert {"reasoning_effort": "low"} == variables(effort="low")


def test_the_clients_own_variables_win() -> None:
    source = "{{ enable_thinking }} {{ reasoning_effort }} {{ messages[0].content }}"
    prompt = ChatPrompt(
        (ASK,), {"enable_thinking": "x"}, reasoning=Reasoning(enabled=True, effort="hi")
    )
    assert "x hi Hi" == render(source, prompt)


def test_a_word_in_the_system_message_switches_thoughts_off() -> None:
    source = (
        "{% set ns = namespace(quiet=false) %}{% for m in messages %}"
        "{% if '/no_think' in m.content %}{% set ns.quiet = true %}{% endif %}"
        "[{{ m.role }}:{{ m.content.replace('/no_think', '').split('</think>')[-1]"
        "|trim }}]{% endfor %}<think>{% if ns.quiet %}</think>{% endif %}"
    )
    off = Reasoning(enabled=False)
    assert "[user:Hi]<think>" == render(source, ChatPrompt((ASK,)))
    assert "[system:][user:Hi]<think></think>" == render(
        source, ChatPrompt((ASK,), reasoning=off)
    )
    kind = (say("system", "Be kind."), ASK)
    assert "[system:Be kind.][user:Hi]<think></think>" == render(
        source, ChatPrompt(kind, reasoning=off)
    )


@pytest.mark.parametrize("name", sorted(SOURCES) or [None])
def test_every_real_template_shows_tools_calls_and_results(name) -> None:
    if name is None:
        pytest.skip(ABSENT)
    template = make_template(SOURCES[name])
    conversation = (
        say("system", "Be kind."),
        ASK,
        call(("add", '{"a": 7261}'), ("sub.it-1", "{}")),
        Message("tool", (Text("OUTCOME ONE"),), tool_call_id="call00000"),
        Message("tool", (Text("OUTCOME TWO"),), tool_call_id="call00001"),
    )
    add = Tool("add", "Adds numbers.", ADD.parameters)
    prompt = ChatPrompt(conversation, tools=(add, SUB))
    text = join(template.render(prompt, now=NOW))
    assert "Adds numbers." in text
    after = text.rpartition("OUTCOME TWO")[0]
    assert after.rindex("7261") < after.rindex("OUTCOME ONE")
    assert text.count("sub.it-1") >= 2

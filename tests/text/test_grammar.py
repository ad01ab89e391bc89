"""Grammars take what templates write, and nothing else."""

import json
from pathlib import Path

import pytest

from server.core.errors import InvalidRequest
from server.core.requests import (
    ChatPrompt,
    Generate,
    Grammar,
    JsonSchema,
    OneOf,
    Regex,
    TextPrompt,
    Tool,
    ToolChoice,
)
from server.text.analysis import analyse
from server.text.call_text import WrittenCall, write_calls
from server.text.format import ChatFormat, ReasoningSyntax
from server.text.grammar import write_grammar
from server.text.overrides import HARMONY
from server.text.template import ChatTemplate
from tests.text.call_syntaxes import CALLS, SYNTAXES, TOOLS, Style
from tests.worker import constraint_walk as walks

TEMPLATES = Path(__file__).parents[3] / "shared/chat-templates"
CONTROL = walks.CONTROL
THOUGHTS = ReasoningSyntax("<think>\n", "\n</think>\n\n")


@pytest.fixture(scope="module")
def constrainer():
    return walks.make_constrainer()


def ask(*, mode="required", tools=TOOLS, constraint=None, prompt=None, **choice):
    chat = ChatPrompt((), tools=tools, tool_choice=ToolChoice(mode, **choice))
    return Generate("i", "m", prompt or chat, constraint=constraint)


def plan(request, chat, thinking="none", control=CONTROL, **more):
    return write_grammar(request, chat, thinking=thinking, control=control, **more)


@pytest.mark.parametrize("name", SYNTAXES)
@pytest.mark.parametrize(
    ("thinking", "before"),
    [
        ("none", ""),
        ("open", "hm, <think> {\n</think>\n\n"),
        ("optional", "<think>\nhm\n</think>\n\n"),
        ("optional", ""),
    ],
)
def test_demanded_calls_are_taken_as_templates_write_them(
    constrainer, name, thinking, before
):
    syntax = SYNTAXES[name]
    made = plan(ask(), ChatFormat(THOUGHTS, syntax), thinking)
    assert not made.lazy
    for count in (1, 2) if syntax.is_parallel else (1,):
        text = before + write_calls(syntax, CALLS[:count])
        assert walks.takes(constrainer, made.grammar, text)


@pytest.mark.parametrize("name", SYNTAXES)
def test_free_calls_are_taken_from_their_first_mark_on(constrainer, name):
    syntax = SYNTAXES[name]
    made = plan(ask(mode="auto"), ChatFormat(THOUGHTS, syntax), "open")
    assert made.lazy
    text = write_calls(syntax, CALLS[:1]).strip()
    assert text.startswith(syntax.trigger)
    assert walks.takes(constrainer, made.grammar, text)


@pytest.mark.parametrize("name", [n for n, s in SYNTAXES.items() if s.is_parallel])
def test_one_call_alone_where_calls_must_not_be_parallel(constrainer, name):
    syntax = SYNTAXES[name]
    made = plan(ask(parallel=False), ChatFormat(None, syntax))
    assert walks.takes(constrainer, made.grammar, write_calls(syntax, CALLS[:1]))
    assert not walks.takes(constrainer, made.grammar, write_calls(syntax, CALLS))


@pytest.mark.parametrize("name", SYNTAXES)
def test_only_named_tools_and_valid_arguments_are_taken(constrainer, name):
    syntax = SYNTAXES[name]
    made = plan(ask(names=("now",)), ChatFormat(None, syntax))
    assert walks.takes(constrainer, made.grammar, write_calls(syntax, CALLS[1:]))
    assert not walks.takes(constrainer, made.grammar, write_calls(syntax, CALLS[:1]))
    for wrong in ({"days": 3}, {"city": "x", "days": 99}, {"city": "x", "unit": "k"}):
        call = WrittenCall("get_weather", wrong, json.dumps(wrong), "abc")
        made = plan(ask(), ChatFormat(None, syntax))
        assert not walks.takes(constrainer, made.grammar, write_calls(syntax, [call]))


# A text without quotes ends where its mark comes, which chance does not find.
@pytest.mark.parametrize(
    "name",
    [n for n, s in SYNTAXES.items() if s.arguments not in (Style.TAGGED, Style.QUOTED)],
)
def test_random_calls_are_complete(constrainer, name):
    syntax = SYNTAXES[name]
    made = plan(ask(names=("get_weather",)), ChatFormat(None, syntax))
    for seed in range(3):
        tokens = walks.walk(constrainer, made.grammar, seed)
        assert tokens is not None
        assert walks.takes(constrainer, made.grammar, walks.to_text(tokens))


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name":"now","arguments":{}}</tool_call>',
        '<tool_call>\n{ "name" : "now",\n "arguments" : { }\n}\n\n</tool_call>',
    ],
)
def test_free_calls_may_have_other_white_space(constrainer, text):
    chat = ChatFormat(None, SYNTAXES["hermes"])
    free, demanded = plan(ask(mode="auto"), chat), plan(ask(), chat)
    assert walks.takes(constrainer, free.grammar, text)
    assert not walks.takes(constrainer, demanded.grammar, text)


def test_tagged_texts_obey_their_schema_and_need_no_quotes(constrainer):
    parameters = {
        "type": "object",
        "properties": {
            "code": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["code", "note"],
    }
    syntax = SYNTAXES["tagged"]
    tools = (Tool("f", parameters=parameters, strict=True),)
    made = plan(ask(tools=tools), ChatFormat(None, syntax))
    free = plan(ask(mode="auto", tools=tools), ChatFormat(None, syntax))
    for code, note, taken in (
        ("abc", "hello", True),
        ("abc", None, True),
        ("abcd", "x", False),
        ("ab1", "x", False),
        # It would be read as a number, which is not allowed.
        ("abc", "5", False),
    ):
        call = WrittenCall("f", {"code": code, "note": note}, "")
        text = write_calls(syntax, [call])
        assert taken == walks.takes(constrainer, made.grammar, text)
        assert taken == walks.takes(constrainer, free.grammar, text)
        bare = text.replace("=code>\n", "=code>").replace("\n</par", "</par")
        assert taken == walks.takes(constrainer, free.grammar, bare)


def test_a_bad_tool_alone_falls_back_to_any_object(constrainer):
    tools = (
        TOOLS[1],
        Tool("bad", parameters={"$ref": "https://example.com/x"}),
        Tool("text", parameters={"type": "string"}),
    )
    made = plan(ask(tools=tools), ChatFormat(None, SYNTAXES["hermes"]))
    assert 2 == len(made.warnings)
    assert (
        "Tool 'bad': Its arguments may be any object. '$ref' at #" in made.warnings[0]
    )
    call = WrittenCall("bad", {}, '{"z": [1]}')
    text = write_calls(SYNTAXES["hermes"], [call])
    assert walks.takes(constrainer, made.grammar, text)


def test_a_bad_strict_tool_is_named(constrainer):
    parameters = {"properties": {"a": {"type": "array", "uniqueItems": True}}}
    tools = (TOOLS[1], Tool("bad", parameters=parameters, strict=True))
    place = "'uniqueItems' at #/properties/a cannot"
    with pytest.raises(InvalidRequest, match=place) as raised:
        plan(ask(tools=tools), ChatFormat(None, SYNTAXES["hermes"]))
    assert "tools[1].function.parameters" == raised.value.param


def test_nothing_is_constrained_where_nothing_is_asked():
    chat = ChatFormat(None, SYNTAXES["hermes"])
    assert None is plan(ask(mode="none"), chat)
    assert None is plan(ask(tools=()), chat)
    assert None is plan(ask(prompt=TextPrompt("x")), None)


def test_a_choice_of_an_unknown_tool_is_named():
    with pytest.raises(InvalidRequest, match="names 'z', which is none") as raised:
        plan(ask(names=("z",)), ChatFormat(None, SYNTAXES["hermes"]))
    assert "tool_choice" == raised.value.param


ANSWERS = {
    "schema": (JsonSchema({"type": "integer"}), ["5", "-12"], ["a", "5.5", " 5"]),
    "object": (JsonSchema({"type": "object"}), ['{"a": [1]}', "{}"], ["[]", "{ }"]),
    "regex": (Regex("[a-c]+(-\\d{2})?"), ["abc", "a-12"], ["", "d", "a-1"]),
    "anchored regex": (Regex("^ab?$"), ["a", "ab"], ["abb"]),
    "choice": (OneOf(("yes", "yes, please", "né\n")), ["yes", "yes, please"], ["ye"]),
    "lark": (Grammar('start: "a" | start "b"', "lark"), ["a", "abb"], ["b"]),
    "gbnf": (Grammar('root ::= "a" root? "b"'), ["ab", "aabb"], ["aab"]),
}


@pytest.mark.parametrize(("constraint", "good", "bad"), ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize(
    ("chat", "thinking", "before", "after"),
    [
        (None, "none", "", ""),
        (ChatFormat(THOUGHTS, SYNTAXES["hermes"]), "open", "hm</think>\n\n", ""),
        (ChatFormat(THOUGHTS, SYNTAXES["hermes"]), "optional", "", ""),
        (
            ChatFormat(THOUGHTS, SYNTAXES["hermes"], "<|a|>", "<|b|>"),
            "optional",
            "<think>\nhm</think>\n\n<|a|>",
            "<|b|>",
        ),
        (ChatFormat(None, SYNTAXES["hermes"], "<r>", "</r>"), "none", "<r>", "</r>"),
        (ChatFormat(None, SYNTAXES["hermes"], "<r>", "</r>"), "none", "", ""),
    ],
)
def test_answers_have_their_form_after_the_thought(  # noqa: PLR0917
    constrainer, constraint, good, bad, chat, thinking, before, after
):
    made = plan(ask(mode="none", constraint=constraint), chat, thinking)
    assert not made.lazy
    for texts, taken in ((good, True), (bad, False)):
        for text in texts:
            whole = f"{before}{text}{after}"
            assert taken == walks.takes(constrainer, made.grammar, whole)


def test_with_free_tools_an_answer_is_constrained_or_a_call(constrainer):
    chat = ChatFormat(None, SYNTAXES["hermes"])
    schema = JsonSchema({"type": "integer"})
    made = plan(ask(mode="auto", constraint=schema), chat)
    assert not made.lazy
    for text in ("5", write_calls(SYNTAXES["hermes"], CALLS)):
        assert walks.takes(constrainer, made.grammar, text)
    assert not walks.takes(constrainer, made.grammar, "hello")
    demanded = plan(ask(constraint=schema), chat)
    assert not walks.takes(constrainer, demanded.grammar, "5")


def test_a_mark_that_ends_generation_is_left_to_the_end(constrainer):
    syntax = SYNTAXES["wrapped"]
    text = write_calls(syntax, CALLS[:1]).removesuffix("<|b|>")
    request = ask(parallel=False)
    ends = frozenset({CONTROL["<|b|>"]})
    made = plan(request, ChatFormat(None, syntax), ends=ends)
    assert walks.takes(constrainer, made.grammar, text)
    kept = plan(request, ChatFormat(None, syntax))
    assert not walks.takes(constrainer, kept.grammar, text)


HARMONY_CONTROL = dict(
    zip(("<|channel|>", "<|message|>"), CONTROL.values(), strict=True)
)


@pytest.mark.parametrize("thought", ["", "<|channel|>analysis<|message|>hm"])
def test_harmony_thinks_and_answers_on_channels(constrainer, thought):
    def spell(text):
        for name, stand_in in zip(HARMONY_CONTROL, CONTROL, strict=True):
            text = text.replace(name, stand_in)
        return text

    chat = HARMONY.chat_format
    before = thought + "<|end|><|start|>assistant" * bool(thought)
    answer = plan(
        ask(mode="none", constraint=JsonSchema({"type": "integer"})),
        chat,
        "optional",
        HARMONY_CONTROL,
    )
    text = before + "<|channel|>final<|message|>5"
    assert walks.takes(constrainer, answer.grammar, spell(text))
    call = plan(ask(), chat, "optional", HARMONY_CONTROL)
    text = before + write_calls(chat.calls, CALLS[:1])
    assert walks.takes(constrainer, call.grammar, spell(text))


@pytest.mark.parametrize(
    ("constraint", "param", "said"),
    [
        (JsonSchema(schema=False), "response_format", "allows no value"),
        (JsonSchema({"minItems": 10**6}, strict=True), "response_format", "'minItems'"),
        (Regex("(?<=a)b"), "regex", "look-around"),
        (OneOf(()), "choice", "has 0 texts"),
        (Grammar("x ::= 1"), "grammar", "no rule 'root'|cannot be read"),
        (Grammar("a" * 300_000), "grammar", "300000 characters, but at most 262144"),
    ],
)
def test_what_cannot_be_asked_is_named(constraint, param, said):
    with pytest.raises(InvalidRequest, match=said) as raised:
        plan(ask(mode="none", constraint=constraint), None)
    assert param == raised.value.param


@pytest.mark.skipif(not TEMPLATES.is_dir(), reason=f"{TEMPLATES} is not there")
@pytest.mark.parametrize(
    ("schema", "text", "is_taken"),
    [
        ({"type": "integer"}, "9" * 15, True),
        ({"type": "integer"}, "-" + "9" * 15, True),
        ({"type": "integer"}, "9" * 17, False),
        ({"type": "integer", "minimum": 0}, "9" * 17, False),
        ({"type": "integer", "maximum": 5}, "-" + "9" * 17, False),
        ({"items": {"type": "integer"}, "type": "array"}, f"[{'1' * 17}]", False),
        ({"type": "number"}, "9" * 17, True),
    ],
)
def test_an_integer_has_an_end(constrainer, schema, text, is_taken):
    made = plan(ask(constraint=JsonSchema(schema), mode="none"), None)
    assert is_taken == walks.takes(constrainer, made.grammar, text)


@pytest.mark.parametrize(
    "path", sorted(TEMPLATES.glob("*.jinja")), ids=lambda path: path.stem
)
def test_calls_of_real_templates_are_taken(constrainer, path):
    template = ChatTemplate(
        path.read_text(), bos="<s>", eos="</s>", control_texts=frozenset()
    )
    chat = analyse(template)
    syntax = chat.calls
    # The order of QUOTED is the alphabet's; the others' is the schema's.
    calls = CALLS if syntax.is_parallel else CALLS[:1]
    made = plan(ask(tools=TOOLS[:2]), chat, control={})
    assert walks.takes(constrainer, made.grammar, write_calls(syntax, calls))
    free = plan(ask(mode="auto", tools=TOOLS[:2]), chat, control={})
    text = write_calls(syntax, CALLS[:1]).strip()
    assert walks.takes(constrainer, free.grammar, text)

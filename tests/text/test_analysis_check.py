"""A syntax is believed only if it reads the template's text back exactly."""

from itertools import product

import pytest
from msgspec.structs import replace

from server.text.analysis_check import is_confirmed
from server.text.analysis_probe import EMPTY, FIRST, SECOND, TYPED
from server.text.call_text import WrittenCall, write_calls
from server.text.format import ArgumentStyle, CallSyntax

MARKS = {
    "section_begin": "<s>",
    "section_end": "</s>",
    "call_begin": "<c>",
    "call_end": "</c>",
    "separator": ";",
}
TAGS = {"name_end": ">", "key_begin": "<k>", "key_end": "<v>", "value_end": "</v>"}
SYNTAXES = {
    "json call": CallSyntax(ArgumentStyle.JSON_CALL, **MARKS),
    "json list": CallSyntax(
        ArgumentStyle.JSON_CALL, section_begin="<s>", section_end="</s>", is_array=True
    ),
    "json": CallSyntax(ArgumentStyle.JSON, name_end="[A]", **MARKS),
    "json with id": CallSyntax(
        ArgumentStyle.JSON, name_end="[I]", id_end="[A]", **MARKS
    ),
    "named id": CallSyntax(
        ArgumentStyle.JSON, name_end="[A]", id_holds_name=True, **MARKS
    ),
    "tagged": CallSyntax(ArgumentStyle.TAGGED, **MARKS, **TAGS),
    "quoted": CallSyntax(ArgumentStyle.QUOTED, quote="<q>", **MARKS),
    "python": CallSyntax(ArgumentStyle.PYTHON, **MARKS),
}
CALLS = ((FIRST,), (FIRST, SECOND), (TYPED,), (EMPTY,))


def write(syntax: CallSyntax, calls) -> str:
    made = (WrittenCall(c.name, c.arguments, c.text, c.id) for c in calls)
    return write_calls(syntax, made)


@pytest.mark.parametrize("name", SYNTAXES)
def test_what_was_written_is_confirmed_and_nothing_more(name) -> None:
    syntax = SYNTAXES[name]
    for calls in CALLS:
        text = write(syntax, calls)
        assert is_confirmed(syntax, text, calls)
        if calls == (TYPED,) and name in {"tagged", "python"}:
            continue  # how other values are written is up to the parser
        if calls != (EMPTY,):
            for wrong in (text[1:], text[:-1], text + "x", text.replace("z", "y")):
                assert not is_confirmed(syntax, wrong, calls)
        others = [other for other in CALLS if other != calls]
        assert not any(
            is_confirmed(syntax, text, other)
            for other in others
            if other != (TYPED,) or name not in {"tagged", "python"}
        )


@pytest.mark.parametrize(("name", "other"), list(product(SYNTAXES, SYNTAXES)))
def test_one_syntax_does_not_read_another(name, other) -> None:
    text = write(SYNTAXES[name], (FIRST,))
    is_same = name == other
    assert is_same is is_confirmed(SYNTAXES[other], text, (FIRST,))


def test_without_a_section_a_turn_may_end_in_its_own_way() -> None:
    bare = replace(SYNTAXES["json"], section_begin="", section_end="")
    text = write(bare, (FIRST,))
    assert is_confirmed(bare, f"{text}<|end|>", (FIRST,))

"""Calls are written in every style."""

import pytest

from server.text.call_text import WrittenCall, write_calls
from server.text.format import ArgumentStyle, CallSyntax

ONE = WrittenCall("f", {"b": 'x "y"', "a": [True, None]}, '{"b": …}', "id1")
TWO = WrittenCall("g", {}, "{}", "id2")
MARKS = {
    "section_begin": "<s>",
    "section_end": "</s>",
    "call_begin": "<c>",
    "call_end": "</c>",
    "separator": "\n",
}
JSON_CALL, JSON = ArgumentStyle.JSON_CALL, ArgumentStyle.JSON


@pytest.mark.parametrize(
    ("syntax", "expected"),
    [
        (
            CallSyntax(JSON_CALL, **MARKS),
            (
                '<s><c>{"name": "f", "arguments": {"b": …}}</c>\n'
                '<c>{"name": "g", "arguments": {}}</c></s>'
            ),
        ),
        (
            CallSyntax(
                JSON_CALL,
                section_begin="<s>",
                is_array=True,
                name_key="n",
                arguments_key="p",
                id_key="i",
                wrapper_key="w",
            ),
            (
                '<s>[{"w": {"n": "f", "p": {"b": …}, "i": "id1"}}, '
                '{"w": {"n": "g", "p": {}, "i": "id2"}}]'
            ),
        ),
        (
            CallSyntax(JSON_CALL, separator=";", id_key="i", is_id_first=True),
            (
                '{"i": "id1", "name": "f", "arguments": {"b": …}};'
                '{"i": "id2", "name": "g", "arguments": {}}'
            ),
        ),
        (
            CallSyntax(JSON_CALL, separator=";", name_key="", args_as_text=True),
            '{"f": "{\\"b\\": …}"};{"g": "{}"}',
        ),
        (
            CallSyntax(JSON, name_end=">", **MARKS),
            '<s><c>f>{"b": …}</c>\n<c>g>{}</c></s>',
        ),
        (
            CallSyntax(JSON, name_end="[ID]", id_end="[A]", separator=" "),
            'f[ID]id1[A]{"b": …} g[ID]id2[A]{}',
        ),
        (
            CallSyntax(JSON, name_end=">", id_holds_name=True, separator=" "),
            'functions.f:0>{"b": …} functions.g:1>{}',
        ),
        (
            CallSyntax(
                ArgumentStyle.TAGGED,
                name_end=">",
                key_begin="<k>",
                key_end="<v>",
                value_end="</v>",
                **MARKS,
            ),
            '<s><c>f><k>b<v>x "y"</v><k>a<v>[true, null]</v></c>\n<c>g></c></s>',
        ),
        (
            CallSyntax(ArgumentStyle.QUOTED, quote="<q>", **MARKS),
            '<s><c>f{a:[true,null],b:<q>x "y"<q>}</c>\n<c>g{}</c></s>',
        ),
        (
            CallSyntax(ArgumentStyle.PYTHON, is_array=True),
            '[f(b="x \\"y\\"", a=[True, None]), g()]',
        ),
    ],
)
def test_two_calls(syntax, expected) -> None:
    assert expected == write_calls(syntax, [ONE, TWO])

"""GBNF means the same after it was written anew."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidRequest
from server.text.gbnf_lark import translate_gbnf
from tests.worker import constraint_walk as walks

JSON_GRAMMAR = r"""
# a comment with "quotes"
root   ::= object
value  ::= object | array | text | number | ("true" | "false" | "null") ws
object ::= "{" ws (
             text ":" ws value
             ("," ws text ":" ws value)*
           )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
text   ::= "\"" char* "\"" ws
char   ::= [^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})
number ::= "-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]+)? ([eE] [-+]? [0-9]+)? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"""
# name: (grammar, what it takes, what it does not, whether lexemes are safe)
GRAMMARS = {
    "json": (
        JSON_GRAMMAR,
        ["{}", '{"a": [1, -2.5e3, {"b": null}], "é\\u00e9": "x"}\n'],
        ['{"a"}', "[1]", '{"a": 01}', '{"a": 1,}'],
        True,
    ),
    "sums": (
        """
        root ::= (sum "=" ws sum ";")+
        sum ::= term ([-+*/] ws term)*
        term ::= name | [0-9]+ ws | "(" ws sum ")" ws
        name ::= [a-z] [a-z0-9_]* ws
        ws ::= [ \\t]*
        """,
        ["a + b1= 3;", "(a*(b+1)) =c ;x=y;"],
        ["a+=b;", "a=b"],
        True,
    ),
    "greedy without recursion": (
        'root ::= word "b"\nword ::= [a-z]+',
        ["aab", "bb"],
        ["b", "aa"],
        True,
    ),
    "greedy with recursion": (
        'root ::= word | "(" root ")" "b"\nword ::= [a-z]+ more\nmore ::= root | "b"',
        ["aab", "(xb)b", "a(bb)b"],
        ["b", "(x)b"],
        False,
    ),
    "space before a line end": (
        'root ::= item+\nitem ::= [a-z]+ ws "\\n" | "{" item "}"\nws ::= [ \\n]*',
        ["a \n", "{a\n\n}b\n"],
        ["a", "a "],
        True,
    ),
    "keywords and names": (
        'root ::= x | "<" root ">"\nx ::= "if" | [a-z]+ "f"',
        ["if", "<if>", "aif", "<<zzf>>"],
        ["f", "<i>"],
        True,
    ),
    "nesting": ('root ::= "a" root "b" | "ab"', ["ab", "aaabbb"], ["aab"], None),
    "left recursion": (
        'root ::= root "+" n | n\nn ::= [0-9]+ ("." [0-9]+)?',
        ["1+2.5+33"],
        ["1+", "+1"],
        True,
    ),
    "escapes": (
        r'root ::= "\u00e9\U0001F600\x41" [^a-y]{2} . "/\"\\\t"',
        ['é😀AzZ\n/"\\\t'],
        ['é😀AaZ\n/"\\\t'],
        None,
    ),
    "brackets in classes": (r"root ::= [\[\]^-]+", ["[]^-"], ["a"], None),
    "tokens": ("root ::= <|a|> [a-z]* <[258]>", ["<|a|>xy<|b|>"], ["xy<|b|>"], None),
    "unknown token as text": ("root ::= <think> [a-z]", ["<think>x"], ["x"], None),
    "lines": (
        'root ::= ("a" |\n "b")\n| "c" # x\n\nother ::= "z"',
        ["a", "b", "c"],
        ["z"],
        None,
    ),
    "counts": (
        """
        root ::= "1." (" " move){2} x{0,1} y{2,}
        move ::= [a-h] [1-8]
        x ::= "x"
        y ::= "y"
        """,
        ["1. e4 e5yy", "1. e4 e5xyyy"],
        ["1. e4yy", "1. e4 e5y"],
        None,
    ),
    "empty": ('root ::= [a-z]{2,} "" | "x"?', ["", "x", "ab"], ["a"], None),
}


@pytest.fixture(scope="module")
def constrainer():
    return walks.make_constrainer()


@pytest.mark.parametrize(
    ("grammar", "good", "bad", "safe"), GRAMMARS.values(), ids=GRAMMARS
)
def test_the_same_texts_are_taken(constrainer, grammar, good, bad, safe):
    lark = translate_gbnf(grammar, walks.CONTROL)
    assert good == [text for text in good if walks.takes(constrainer, lark, text)]
    assert [] == [text for text in bad if walks.takes(constrainer, lark, text)]


@pytest.mark.parametrize("name", [n for n, g in GRAMMARS.items() if g[3] is not None])
def test_lexemes_are_long_where_that_is_safe(name):
    grammar, _, _, safe = GRAMMARS[name]
    lark = translate_gbnf(grammar, {})
    terminals = re.findall(r"^T\d+: /(.*)/$", lark, re.MULTILINE)
    one = r"\[[^\]]*\]|\\x\{[0-9a-f]+\}|[A-Za-z0-9]"
    is_by_character = all(re.fullmatch(one, text) for text in terminals)
    assert safe != is_by_character


def test_random_answers_of_the_json_grammar_are_json(constrainer):
    lark = translate_gbnf(JSON_GRAMMAR, {})
    for seed in range(10):
        tokens = walks.walk(constrainer, lark, seed)
        assert isinstance(walks.read_json(tokens), dict)


@pytest.mark.parametrize(
    ("grammar", "said"),
    [
        ('x ::= "a"', "has no rule 'root'"),
        ("root ::= bar", "a rule 'bar' that it does not define"),
        ('root ::= "a', "line 1, .* a text or class is not closed"),
        ("root ::= [a", "a text or class is not closed"),
        ('root ::= "a"\nx ::= "a"{3,2}', "line 2, .*a maximum below the minimum"),
        ('root ::= "a"{,}', "the braces hold no numbers"),
        ('root ::= "a"{9999}', "more than 2000 repetitions"),
        ("root ::= (", "'\\)' was expected"),
        ('root "a"', "'::=' was expected"),
        ('root ::= "\\q"', "unknown escape '\\\\q'"),
        ('root ::= "\\u12"', "needs 4 hexadecimal digits"),
        ('root ::= "\\ud800"', "is no character"),
        ("root ::= [b-a]", "a range in a class is not in order"),
        ("root ::= !<nothing>", "<nothing> is no control token"),
        ("root ::= " + "(" * 200 + '"a"' + ")" * 200, "more than 100 brackets"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(grammar, said):
    with pytest.raises(InvalidRequest, match=said) as raised:
        translate_gbnf(grammar, {})
    assert "grammar" == raised.value.param


@given(st.text('rot=:|"[]a-z(){}*+?0,^\\\\\n .<>!'))
def test_any_text_is_a_grammar_or_an_error(text):
    with contextlib.suppress(InvalidRequest):
        assert translate_gbnf(f"root ::= {text}", {}).startswith("start: r0")

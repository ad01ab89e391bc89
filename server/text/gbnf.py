r"""Grammars in llama.cpp's GBNF, read and written anew for llguidance.

    root  ::= (expr "=" ws term "\n")+
    expr  ::= term ([-+*/] term)*

GBNF speaks of characters; llguidance has a lexer, which takes the longest
match and does not look back. What is written here means the same: parts
without recursion become one lexeme each, and `gbnf_lexemes` finds out whether
a lexeme could swallow what belongs to its neighbour. Where it could, every
character becomes a lexeme of its own, which is always right and forty times
as slow (13 ms against 0.3 ms for a mask at 150,000 tokens).

Source: llama.cpp, grammars/README.md and src/llama-grammar.cpp.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from server.core.errors import InvalidRequest

MAX_REPETITIONS = 2_000
"""The largest number in braces; llama.cpp has the same bound."""

MAX_NESTING = 100
"""Brackets inside of brackets."""

MAX_RULES = 2_000
LAST_CODE_POINT = 0x10FFFF
SURROGATES = range(0xD800, 0xE000)
"""Halves of pairs in UTF-16, no characters."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_BRACES = re.compile(r"\{\s*(\d{1,9})?\s*(?:(,)\s*(\d{1,9})?\s*)?\}")
_TOKEN = re.compile(r"(!?)<(?:\[(\d{1,9})\]|([^\[<>\s][^<>\s]*))>")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_INLINE_SPACE = re.compile(r"(?:[ \t]|#[^\n]*)*")
_RULE_AHEAD = re.compile(r"[A-Za-z0-9_-]+[ \t]*::=")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "[": "[", "]": "]"}
_HEX = {"x": 2, "u": 4, "U": 8}
Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Chars:
    """One character out of ranges of code points, sorted and apart."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the vocabulary, or with `negated` any other."""

    token: int
    negated: bool


@dataclass(frozen=True, slots=True)
class Ref:
    """A rule by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Seq:
    """Parts that follow each other; empty for nothing."""

    parts: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Alt:
    """Parts of which one is taken."""

    parts: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Repeat:
    """A part several times; `most` None for any number."""

    part: "Node"
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Lexeme:
    """A part that the lexer matches as a whole; no references inside."""

    node: "Node"


Node = Chars | Token | Ref | Seq | Alt | Repeat | Lexeme


def read_gbnf(text: str, control: Mapping[str, int]) -> dict[str, Node]:
    """Read a grammar.

    Args:
        text: The grammar.
        control: Texts of control tokens and their ids.

    Returns:
        The rules that `root` needs, `root` first.

    Raises:
        InvalidRequest: It is no grammar; the text says where and why.
    """
    rules = _Reader(text, control).read()
    if "root" not in rules:
        raise InvalidRequest(
            "The grammar has no rule 'root'. Add one: it is where an answer begins.",
            param="grammar",
        )
    needed: dict[str, Node] = {}
    waiting = ["root"]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        if name not in rules:
            raise InvalidRequest(
                f"The grammar uses a rule '{name}' that it does not define. Add it.",
                param="grammar",
            )
        needed[name] = rules[name]
        waiting.extend(list_refs(rules[name]))
    return needed


def list_refs(node: Node) -> Iterator[str]:
    """List the rules that a part uses."""
    match node:
        case Ref():
            yield node.name
        case Seq() | Alt():
            for part in node.parts:
                yield from list_refs(part)
        case Repeat():
            yield from list_refs(node.part)
        case Chars() | Token() | Lexeme():
            pass


def make_ranges(ranges: list[tuple[int, int]], *, negated: bool = False) -> Ranges:
    """Sort and join ranges; with `negated` take all other code points."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    if not negated:
        return tuple(joined)
    gaps, start = [], 0
    for low, high in joined:
        if start < low:
            gaps.append((start, low - 1))
        start = high + 1
    if start <= LAST_CODE_POINT:
        gaps.append((start, LAST_CODE_POINT))
    return tuple(gaps)


class _Reader:
    """Reads a grammar from left to right."""

    def __init__(self, text: str, control: Mapping[str, int]) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._control = control

    def read(self) -> dict[str, Node]:
        """Read all rules."""
        rules: dict[str, Node] = {}
        self._skip(_SPACE)
        while self._at < len(self._text):
            name = self._read_name()
            self._skip(_INLINE_SPACE)
            self._expect("::=")
            self._skip(_SPACE)
            rules[name] = self._read_alternatives()
            self._skip(_SPACE)
            if len(rules) > MAX_RULES:
                self._fail(f"there are more than {MAX_RULES} rules")
        return rules

    def _read_alternatives(self) -> Node:
        parts = [self._read_sequence()]
        while self._peek("|"):
            self._at += 1
            self._skip(_SPACE)
            parts.append(self._read_sequence())
        return parts[0] if len(parts) == 1 else Alt(tuple(parts))

    def _read_sequence(self) -> Node:
        parts: list[Node] = []
        while True:
            self._skip(_SPACE if self._depth else _INLINE_SPACE)
            if self._at >= len(self._text) or self._text[self._at] in "|)\r\n":
                if self._continues():
                    continue
                break
            if not self._depth and _RULE_AHEAD.match(self._text, self._at):
                break
            parts.append(self._read_repeated())
        return parts[0] if len(parts) == 1 else Seq(tuple(parts))

    def _continues(self) -> bool:
        """Step over line ends before a "|", which goes on with the rule."""
        if self._at >= len(self._text) or self._text[self._at] not in "\r\n":
            return False
        match = _SPACE.match(self._text, self._at)
        end = match.end() if match else self._at
        if self._text.startswith("|", end):
            self._at = end
        return False

    def _read_repeated(self) -> Node:
        node = self._read_atom()
        while True:
            match = None
            sign = self._text[self._at : self._at + 1]
            if sign in ("*", "+", "?"):
                least = int(sign == "+")
                node = Repeat(node, least, 1 if sign == "?" else None)
                self._at += 1
                continue
            if sign == "{":
                match = _BRACES.match(self._text, self._at)
                if match is None or not (match[1] or match[3]):
                    self._fail("the braces hold no numbers")
                node = self._repeat(node, match)
                continue
            return node

    def _repeat(self, node: Node, match: re.Match[str]) -> Node:
        least = int(match[1] or 0)
        most = int(match[3]) if match[3] else None if match[2] else least
        if max(least, most or 0) > MAX_REPETITIONS:
            self._fail(f"more than {MAX_REPETITIONS} repetitions")
        if most is not None and most < least:
            self._fail("the braces hold a maximum below the minimum")
        self._at = match.end()
        return Repeat(node, least, most)

    def _read_atom(self) -> Node:
        char = self._text[self._at]
        if char == '"':
            return self._read_literal()
        if char == "[":
            return self._read_class()
        if char == "(":
            return self._read_group()
        if char == ".":
            self._at += 1
            return Chars(((0, LAST_CODE_POINT),))
        if char in "<!":
            return self._read_token()
        return Ref(self._read_name())

    def _read_group(self) -> Node:
        self._at += 1
        self._depth += 1
        if self._depth > MAX_NESTING:
            self._fail(f"more than {MAX_NESTING} brackets inside of brackets")
        self._skip(_SPACE)
        node = self._read_alternatives()
        self._skip(_SPACE)
        self._expect(")")
        self._depth -= 1
        return node

    def _read_literal(self) -> Node:
        self._at += 1
        chars: list[Node] = []
        while not self._peek('"'):
            code = self._read_char()
            chars.append(Chars(((code, code),)))
        self._at += 1
        return Seq(tuple(chars))

    def _read_class(self) -> Node:
        self._at += 1
        negated = self._peek("^")
        self._at += negated
        ranges = []
        while not self._peek("]"):
            low = high = self._read_char()
            if self._peek("-") and not self._text.startswith("-]", self._at):
                self._at += 1
                high = self._read_char()
                if high < low:
                    self._fail("a range in a class is not in order")
            ranges.append((low, high))
        self._at += 1
        found = make_ranges(ranges, negated=negated)
        if not found:
            self._fail("a class matches nothing")
        return Chars(found)

    def _read_token(self) -> Node:
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            self._fail("a token is written <[ID]> or <TEXT>")
        self._at = match.end()
        negated = bool(match[1])
        if match[2]:
            return Token(int(match[2]), negated)
        text = f"<{match[3]}>"
        token = self._control.get(text)
        if token is not None:
            return Token(token, negated)
        if negated:
            self._fail(f"{text} is no control token of this model")
        return Seq(tuple(Chars(((ord(char), ord(char)),)) for char in text))

    def _read_char(self) -> int:
        """Read a character or an escape; returns its code point."""
        if self._at >= len(self._text):
            self._fail("a text or class is not closed")
        char = self._text[self._at]
        self._at += 1
        if char != "\\":
            return ord(char)
        kind = self._text[self._at : self._at + 1]
        self._at += 1
        if kind in _ESCAPES:
            return ord(_ESCAPES[kind])
        digits = self._text[self._at : self._at + _HEX.get(kind, 0)]
        if kind not in _HEX:
            self._fail(f"unknown escape '\\{kind}'")
        if not re.fullmatch(rf"[0-9a-fA-F]{{{_HEX[kind]}}}", digits):
            self._fail(f"'\\{kind}' needs {_HEX[kind]} hexadecimal digits")
        self._at += len(digits)
        code = int(digits, 16)
        if code > LAST_CODE_POINT or code in SURROGATES:
            self._fail(f"'\\{kind}{digits}' is no character")
        return code

    def _read_name(self) -> str:
        match = _NAME.match(self._text, self._at)
        if match is None:
            self._fail("a name was expected")
        self._at = match.end()
        return match.group()

    def _skip(self, space: re.Pattern[str]) -> None:
        match = space.match(self._text, self._at)
        if match is not None:
            self._at = match.end()

    def _peek(self, char: str) -> bool:
        if self._at >= len(self._text) and char in '"]':
            self._fail("a text or class is not closed")
        return self._text.startswith(char, self._at)

    def _expect(self, sign: str) -> None:
        if not self._text.startswith(sign, self._at):
            self._fail(f"'{sign}' was expected")
        self._at += len(sign)

    def _fail(self, reason: str) -> NoReturn:
        line = self._text.count("\n", 0, self._at) + 1
        near = self._text[self._at : self._at + 20].split("\n")[0]
        raise InvalidRequest(
            f"The grammar cannot be read at line {line}, before '{near}': {reason}. "
            "Correct it.",
            param="grammar",
        )

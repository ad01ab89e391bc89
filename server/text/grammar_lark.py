"""Writing grammars in llguidance's dialect of Lark.

A mark of a template can hold control tokens and plain text. A control token is
one token, named by its id, and no text in a grammar ever stands for it; so
marks are cut into both.

Strict writing puts marks exactly as the template does, so that nearly all of
them is forced. Loose writing lets white space vary, as models do when they
begin a call by themselves.

The lexer takes the longest match, so free text ends lazily, at the first
occurrence of what follows it, and never contains that.

Source: llguidance, docs/syntax.md.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from server.text.schema import GUIDANCE, LOOSE_GUIDANCE, Schema
from server.text.schema_pattern import quote_char

ANY_TEXT = "/(?s:.*)/"
_SPACE = "/[ \\t\\r\\n]{1,32}/"


_LAST_INTEGER = 2**53 - 1
_LOWER = frozenset({"minimum", "exclusiveMinimum"})
_UPPER = frozenset({"maximum", "exclusiveMaximum"})
_VALUES = frozenset({"const", "enum"})
"""Keywords that hold values, not schemas."""


class Lark:
    """Collects the rules of one grammar.

    Args:
        control: Texts of control tokens and their ids.
        loose: Let white space vary.
    """

    def __init__(self, control: Mapping[str, int], *, loose: bool = False) -> None:
        self.loose = loose
        self._control = {text: token for text, token in control.items() if text}
        self._rules: dict[str, str] = {}
        self._imports: dict[str, str] = {}

    def write(self, start: str) -> str:
        """Return the grammar that begins with an expression."""
        rules = [f"start: {start}", *(f"{n}: {b}" for n, b in self._rules.items())]
        lark = "\n".join(rules) + "\n"
        if not self._imports:
            return lark
        named = [
            {"name": name, "lark_grammar": text} for name, text in self._imports.items()
        ]
        return json.dumps({"grammars": [{"lark_grammar": lark}, *named]})

    def add_rule(self, hint: str, body: str, *, options: str = "") -> str:
        """Add a rule; returns its name. `options` are llguidance's, in brackets."""
        name = f"{_plain(hint).lower()}_{len(self._rules)}"
        self._rules[name + options] = body
        return name

    def add_terminal(self, hint: str, body: str) -> str:
        """Add a terminal, one lexeme; returns its name."""
        name = f"{_plain(hint).upper()}_{len(self._rules)}"
        self._rules[name] = body
        return name

    def reserve(self, hint: str) -> str:
        """Name a rule whose body comes later, by `define`."""
        return self.add_rule(hint, "")

    def define(self, name: str, body: str) -> None:
        """Give a reserved rule its body."""
        self._rules[name] = body

    def add_grammar(self, text: str) -> str:
        """Add a whole grammar of somebody else's; returns what stands for it."""
        name = f"inner_{len(self._imports)}"
        self._imports[name] = text
        return f"@{name}"

    def json(self, schema: Schema) -> str:
        """Stand for a JSON value of a schema that the compiler understands."""
        body = end_integers(schema) if isinstance(schema, dict) else {}
        guidance = LOOSE_GUIDANCE if self.loose else GUIDANCE
        return "%json " + json.dumps(
            {**body, "x-guidance": guidance}, ensure_ascii=False
        )

    def mark(self, text: str) -> str:
        """Stand for a mark; "" for an empty one."""
        if not self.loose:
            return self._exact(text)
        words = [self._exact(word) for word in text.split()]
        space = self.space()
        inner = f" {space} ".join(words)
        return f"{space} {inner} {space}" if words else space

    def space(self) -> str:
        """Stand for the white space that loose writing lets vary; else ""."""
        if not self.loose:
            return ""
        if "SPACE" not in self._rules:
            self._rules["SPACE"] = _SPACE
        return "SPACE?"

    def literal(self, text: str) -> str:
        """Stand for text that is exactly this, with no control tokens in it."""
        return quote(text)

    def text_until(self, mark: str, *, must: tuple[str, ...] = ()) -> str:
        """Stand for free text with the mark that ends it.

        Where the text has to match something, a line break in front of the mark
        is no part of it.

        Args:
            mark: Its first word ends the text; not empty.
            must: Expressions of terminals that the text has to match too.
        """
        edge, head, rest = _split_first_word(mark)
        pieces = self._cut(head)
        tokens = [place for place, piece in enumerate(pieces) if not piece[0]]
        if not must or not edge:
            edge = ""
        elif self.loose:
            edge = r'"\n"?'
        else:
            edge = quote(edge)
        if tokens:
            # Text in front of a control token says less than the token does.
            body = sequence(f"({' & '.join(must) or ANY_TEXT})", edge)
            text = self.add_terminal("text", body)
            end = " ".join(_write_piece(piece) for piece in pieces[tokens[0] :])
            return f"{text} {end} {self._rest(rest)}".rstrip()
        body = ANY_TEXT
        if must:
            escaped = "".join(quote_char(ord(char)) for char in head)
            body = " & ".join((*must, f"~/(?s:.*){escaped}(?s:.*)/"))
        lexeme = self.add_terminal("until", sequence(f"({body})", edge, quote(head)))
        rule = self.add_rule("text", lexeme, options="[lazy]")
        return f"{rule} {self._rest(rest)}".rstrip()

    def _rest(self, text: str) -> str:
        return self.mark(text) if text.strip() or not self.loose else self.space()

    def _exact(self, text: str) -> str:
        return " ".join(map(_write_piece, self._cut(text)))

    def _cut(self, text: str) -> list[tuple[str, int]]:
        """Cut text at control tokens: (text, 0) or ("", token)."""
        present = [name for name in self._control if name in text]
        if not present:
            return [(text, 0)] if text else []
        present.sort(key=len, reverse=True)
        parts = re.split(f"({'|'.join(map(re.escape, present))})", text)
        return [
            ("", self._control[part]) if part in self._control else (part, 0)
            for part in parts
            if part
        ]


def quote(text: str) -> str:
    """Write text as a literal."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def sequence(*parts: str) -> str:
    """Join expressions that follow each other; empty ones are left out."""
    return " ".join(part for part in parts if part)


def choice(options: list[str]) -> str:
    """Join alternatives."""
    if len(options) == 1:
        return options[0]
    return "(" + " | ".join(option or '""' for option in options) + ")"


def _write_piece(piece: tuple[str, int]) -> str:
    text, token = piece
    return quote(text) if text else f"<[{token}]>"


def _split_first_word(mark: str) -> tuple[str, str, str]:
    """Cut a mark into the white space before its first word, that, and the rest."""
    stripped = mark.lstrip()
    head = stripped.split(maxsplit=1)[0]
    return mark[: len(mark) - len(stripped)], head, stripped[len(head) :]


def _plain(hint: str) -> str:
    kept = "".join(char for char in hint if char.isascii() and char.isalpha())
    return kept[:24] or "rule"


def end_integers(schema: Any) -> Any:  # noqa: ANN401 - a JSON value
    """Give integers without bounds the last ones that a double can tell apart.

    A model that repeats itself would write digits until its context ends.
    """
    if isinstance(schema, list):
        return [end_integers(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    ended = {
        key: value if key in _VALUES else end_integers(value)
        for key, value in schema.items()
    }
    if schema.get("type") == "integer":
        if not _LOWER & schema.keys():
            ended["minimum"] = -_LAST_INTEGER
        if not _UPPER & schema.keys():
            ended["maximum"] = _LAST_INTEGER
    return ended

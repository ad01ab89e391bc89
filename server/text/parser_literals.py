"""Calls whose arguments are literals of another notation, told as JSON.

    QUOTED   {key:<|"|>text<|"|>,other:[1,true]}     keys bare, texts in marks
    PYTHON   (key='text', other=[1, True])           literals of Python

Both are read by one translator, which writes JSON as it goes: brackets, keys
and commas at once, text character by character, other values when they end.
Nesting is a list of open brackets and not of calls, so it can be deep.
"""

import json
import re
import sys

from server.text.format import CallSyntax
from server.text.json_stream import Write, escape_control, escape_text
from server.text.parser_calls import MAX_NAME_CHARACTERS, CallSink
from server.text.parser_cursor import Cursor, NoCall, Steps
from server.text.parser_marks import SPACE, MarkScanner

_WORDS = {"True": "true", "False": "false", "None": "null"} | {
    word: word for word in ("true", "false", "null")
}
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_CLOSING = {"{": "}", "[": "]", "(": ")"}
_MAX_WORD_CHARACTERS = 4096
_ESCAPES = {"n": "\\n", "t": "\\t", "r": "\\r", "b": "\\b", "f": "\\f"} | {
    "a": "\\u0007",
    "v": "\\u000b",
    "0": "\\u0000",
    "\\": "\\\\",
    '"': '\\"',
    "'": "'",
    "\n": "",
}
_HEX_LENGTHS = {"x": 2, "u": 4, "U": 8}


class LiteralGrammar:
    """Reads the arguments of calls in the styles QUOTED and PYTHON."""

    def __init__(self, cursor: Cursor, sink: CallSink, syntax: CallSyntax) -> None:
        self._cursor = cursor
        self._sink = sink
        self._quote = syntax.quote

    def read_object(self, name: str, call_id: str) -> Steps[None]:
        """Read `{KEY:VALUE,…}` of a call whose name was read.

        Raises:
            NoCall: Something else stands here.
        """
        if (yield from self._cursor.read_visible()) != "{":
            raise NoCall
        self._sink.begin(name, call_id)
        translator = Translator(self._cursor, self._sink.write, quote=self._quote)
        yield from translator.read_value()
        self._sink.finish()

    def read_keywords(self, name: str) -> Steps[None]:
        """Read `KEY=VALUE, …)` of a call whose opening bracket was read."""
        self._sink.begin(name)
        properties = self._sink.find_schema(name).get("properties")
        positions = tuple(properties) if isinstance(properties, dict) else ()
        translator = Translator(
            self._cursor, self._sink.write, is_python=True, positions=positions
        )
        yield from translator.read_keywords()
        self._sink.finish()


class Translator:
    """Writes JSON for a literal.

    Args:
        cursor: Where to read.
        write: Takes the JSON text.
        quote: The mark on both sides of a text; "" for none.
        is_python: Whether texts are Python's.
        positions: Names of arguments that are given without one.
    """

    def __init__(
        self,
        cursor: Cursor,
        write: Write,
        *,
        quote: str = "",
        is_python: bool = False,
        positions: tuple[str, ...] = (),
    ) -> None:
        self._cursor = cursor
        self._write = write
        self._quote = quote
        self._is_python = is_python
        self._positions = positions
        self._open: list[str] = []
        self._n_items: list[int] = []
        self._is_after = False

    def read_value(self) -> Steps[None]:
        """Read a value whose first character was read."""
        yield from self._read_item()
        yield from self._read_rest()

    def read_keywords(self) -> Steps[None]:
        """Read keyword arguments up to their closing bracket."""
        self._push("=")
        yield from self._read_rest()

    def _read_rest(self) -> Steps[None]:
        """Read until all brackets are closed."""
        while self._open:
            character = yield from self._cursor.read_visible()
            kind = self._open[-1]
            if character == _CLOSING.get(kind, ")"):
                self._write("}" if kind in "{=" else "]")
                self._open.pop()
                self._n_items.pop()
                self._is_after = True
            elif self._is_after:
                if character != ",":
                    raise NoCall
                self._is_after = False
            else:
                yield from self._read_member(kind)

    def _push(self, kind: str) -> None:
        self._write("{" if kind in "{=" else "[")
        self._open.append(kind)
        self._n_items.append(0)
        self._is_after = False

    def _read_member(self, kind: str) -> Steps[None]:
        if self._n_items[-1]:
            self._write(", ")
        self._n_items[-1] += 1
        if kind == "{":
            yield from self._read_key()
            yield from self._cursor.read_visible()
        elif kind == "=" and not (yield from self._read_keyword()):
            self._is_after = True
            return
        yield from self._read_item()

    def _read_key(self) -> Steps[None]:
        """Read a key and its colon."""
        if self._begins_text():
            yield from self._copy_text()
            if (yield from self._cursor.read_visible()) != ":":
                raise NoCall
        else:
            self._cursor.unread(self._cursor.character)
            key, _ = yield from self._cursor.read_until(
                (":",), limit=MAX_NAME_CHARACTERS
            )
            self._write(f'"{escape_text(key.strip())}"')
        self._write(": ")

    def _read_keyword(self) -> Steps[bool]:
        """Read a keyword with its sign, so that its value begins.

        Returns:
            False where a word without keyword was all of the argument.
        """
        if self._begins_text() or self._cursor.character in _CLOSING:
            self._write_position()
            return True
        self._cursor.unread(self._cursor.character)
        text, end = yield from self._cursor.read_until(
            ("=", ",", ")"), limit=MAX_NAME_CHARACTERS
        )
        if end == "=":
            if not text.strip().isidentifier():
                raise NoCall
            self._write(f'"{escape_text(text.strip())}": ')
            yield from self._cursor.read_visible()
            return True
        self._cursor.unread(end)
        self._write_position()
        self._write(translate_word(text.strip()))
        return False

    def _write_position(self) -> None:
        position = self._n_items[-1] - 1
        if position >= len(self._positions):
            raise NoCall
        self._write(f'"{escape_text(self._positions[position])}": ')

    def _read_item(self) -> Steps[None]:
        """Read a value, or the opening bracket of one; its first was read."""
        character = self._cursor.character
        if self._begins_text():
            yield from self._copy_text()
        elif character in _CLOSING and (self._is_python or character != "("):
            self._push(character)
            return
        else:
            yield from self._copy_word()
        self._is_after = True

    def _begins_text(self) -> bool:
        character = self._cursor.character
        if self._is_python:
            return character in "'\""
        return character == '"' or (bool(self._quote) and character == self._quote[0])

    def _copy_text(self) -> Steps[None]:
        first = self._cursor.character
        self._write('"')
        if self._is_python:
            yield from self._copy_python_text(first)
        elif self._quote and first == self._quote[0]:
            self._cursor.unread(first)
            yield from self._cursor.read_one_of((self._quote,))
            yield from self._copy_quoted_text(self._quote)
        else:
            yield from self._copy_quoted_text('"')
        self._write('"')

    def _copy_quoted_text(self, quote: str) -> Steps[None]:
        scanner = MarkScanner((quote,))
        while True:
            yield
            text, mark, _ = scanner.scan(self._cursor.character, 0)
            if text:
                self._write(escape_text(text))
            if mark:
                return

    def _copy_python_text(self, quote: str) -> Steps[None]:
        while True:
            yield
            character = self._cursor.character
            if character == quote:
                return
            if character == "\\":
                yield from self._copy_escape()
            elif character == '"':
                self._write('\\"')
            else:
                is_control = character < " "
                self._write(escape_control(character) if is_control else character)

    def _copy_escape(self) -> Steps[None]:
        yield
        kind = self._cursor.character
        length = _HEX_LENGTHS.get(kind, 0)
        if not length:
            self._write(_ESCAPES.get(kind, "\\\\" + escape_text(kind)))
            return
        digits = ""
        for _ in range(length):
            yield
            if self._cursor.character not in "0123456789abcdefABCDEF":
                raise NoCall
            digits += self._cursor.character
        code = int(digits, 16)
        if code > sys.maxunicode:
            raise NoCall
        # Halves of a surrogate pair stay escapes, which JSON joins.
        is_short = length <= _HEX_LENGTHS["u"]
        self._write(f"\\u{code:04x}" if is_short else _escape_code(code))

    def _copy_word(self) -> Steps[None]:
        """Read a value without quotes up to what ends it."""
        ends = ",)]}" + SPACE if self._is_python else ",]}"
        word = ""
        while self._cursor.character not in ends:
            word += self._cursor.character
            if len(word) > _MAX_WORD_CHARACTERS:
                raise NoCall
            yield
        if not word:
            raise NoCall
        self._cursor.unread(self._cursor.character)
        self._write(translate_word(word.strip()))


def _escape_code(code: int) -> str:
    """Return the JSON escape of a character, by halves where it has two."""
    return json.dumps(chr(code))[1:-1]


def translate_word(word: str) -> str:
    """Return the JSON text of a value that was written without quotes."""
    if word in _WORDS:
        return _WORDS[word]
    if _NUMBER.fullmatch(word):
        return word
    return f'"{escape_text(word)}"'


def translate_python(text: str) -> str | None:
    """Return the JSON text of a literal of Python, None where it is none."""
    parts: list[str] = []
    cursor = Cursor()
    cursor.let_go()
    steps = _read_whole(cursor, Translator(cursor, parts.append, is_python=True))
    next(steps)
    # A word ends where white space follows.
    for index, character in enumerate(text + "\n"):
        try:
            is_over = cursor.advance(steps, character)
        except NoCall:
            return None
        if is_over:
            return "".join(parts) if not text[index + 1 :].strip() else None
    return None


def _read_whole(cursor: Cursor, translator: Translator) -> Steps[None]:
    yield from cursor.read_visible()
    yield from translator.read_value()

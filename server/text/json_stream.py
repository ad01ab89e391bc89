"""JSON that is read while it is written.

The arguments of a call are passed on character by character. What ends them is
found by counting brackets outside of strings; their grammar is not checked
beyond that, since a client is better served by the whole of what the model
wrote than by its first half. Only one thing is mended: control characters that
stand raw in a string, as small models write line breaks, become escapes.
"""

import json
from collections.abc import Callable

from server.text.parser_cursor import Cursor, NoCall, Steps

Write = Callable[[str], object]

_SHORT_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
_ESCAPED = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f"} | {
    "n": "\n",
    "r": "\r",
    "t": "\t",
}
_REPLACEMENT = "\ufffd"
_SURROGATES = range(0xD800, 0xE000)


def escape_text(text: str) -> str:
    """Return text as it stands between the quotes of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def read_string(
    cursor: Cursor, *, limit: int, allowed: frozenset[str] | None = None
) -> Steps[str]:
    """Read the rest of a string whose opening quote was read.

    Args:
        cursor: Where to read.
        limit: Most characters that the string may have.
        allowed: None for any; otherwise reading ends at the first character
            with which the string can be none of these.

    Raises:
        NoCall: The string is too long, malformed or not allowed.
    """
    raw: list[str] = []
    is_escaped = False
    while True:
        yield
        character = cursor.character
        if character == '"' and not is_escaped:
            break
        is_escaped = character == "\\" and not is_escaped
        raw.append(character)
        if len(raw) > limit:
            raise NoCall
        if allowed is not None and not _is_beginning("".join(raw), allowed):
            raise NoCall
    try:
        text = str(json.loads(f'"{"".join(raw)}"', strict=False))
    except ValueError:
        raise NoCall from None
    if allowed is not None and text not in allowed:
        raise NoCall
    return text


def _is_beginning(text: str, allowed: frozenset[str]) -> bool:
    return any(option.startswith(text) for option in allowed)


def copy_string(cursor: Cursor, write: Write) -> Steps[None]:
    """Pass on the rest of a string whose opening quote was passed on."""
    while True:
        yield
        character = cursor.character
        if character == "\\":
            write(character)
            yield
            character = cursor.character
            write(escape_control(character) if character < " " else character)
            continue
        write(escape_control(character) if character < " " else character)
        if character == '"':
            return


def escape_control(character: str) -> str:
    """Return a character below U+0020 as a JSON escape."""
    return _SHORT_ESCAPES.get(character, f"\\u{ord(character):04x}")


def copy_brackets(cursor: Cursor, write: Write, end: str = "") -> Steps[bool]:
    """Pass on an object or array whose opening bracket is the last character.

    Args:
        cursor: Where to read.
        write: Takes the text.
        end: A mark that ends it where it stands outside of a string, though
            brackets are open; it is not taken. "" for none.

    Returns:
        Whether all brackets were closed.
    """
    write(cursor.character)
    depth = 1
    while depth:
        yield
        while end and cursor.character == end[0]:
            if (yield from _is_end(cursor, write, end)):
                return False
        character = cursor.character
        if character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        write(character)
        if character == '"':
            yield from copy_string(cursor, write)
    return True


def _is_end(cursor: Cursor, write: Write, end: str) -> Steps[bool]:
    """Tell whether the end mark stands here, and give it back if so.

    Otherwise all but the last character read is passed on.
    """
    text = cursor.character
    while text != end:
        yield
        text += cursor.character
        if not end.startswith(text):
            cursor.character = text[-1]
            write(text[:-1])
            return False
    cursor.unread(text)
    return True


def copy_embedded(cursor: Cursor, write: Write) -> Steps[bool]:
    """Pass on an object that stands as text inside a string.

    The opening quote was read; what follows the object in the string is
    dropped. An empty string stands for an object without members.

    Returns:
        Whether all brackets were closed.

    Raises:
        NoCall: The string holds anything else.
    """
    inner = Cursor()
    inner.let_go()
    steps: Steps[bool] | None = None
    is_whole = False
    while text := (yield from _read_unescaped(cursor)):
        if is_whole or (steps is None and text.isspace()):
            continue
        if steps is None:
            if text != "{":
                raise NoCall
            inner.character = text
            steps = copy_brackets(inner, write)
            next(steps)
        else:
            for part in text:
                is_whole = inner.advance(steps, part)
    if steps is None:
        write("{}")
        return True
    return is_whole


def _read_unescaped(cursor: Cursor) -> Steps[str]:
    """Read what stands for one character of a string; "" for its end."""
    yield
    if cursor.character == '"':
        return ""
    if cursor.character != "\\":
        return cursor.character
    yield
    if cursor.character != "u":
        return _ESCAPED.get(cursor.character, cursor.character)
    code = yield from _read_hex(cursor)
    # One half of a character stays an escape: it is one in the inner JSON too.
    return f"\\u{code:04x}" if code in _SURROGATES else chr(code)


def _read_hex(cursor: Cursor) -> Steps[int]:
    digits = ""
    for _ in range(4):
        yield
        if cursor.character not in "0123456789abcdefABCDEF":
            cursor.unread(cursor.character)
            return ord(_REPLACEMENT)
        digits += cursor.character
    return int(digits, 16)


def skip_value(cursor: Cursor) -> Steps[str]:
    """Read a value whose first character was read.

    Returns:
        The text of a string, number or word, "" for anything else.

    Raises:
        NoCall: No value begins here.
    """
    character = cursor.character
    if character in "[{":
        yield from copy_brackets(cursor, len)
        return ""
    if character == '"':
        parts: list[str] = []
        yield from copy_string(cursor, parts.append)
        return _load_string('"' + "".join(parts))
    text = ""
    while cursor.character.isalnum() or cursor.character in "+-.":
        text += cursor.character
        yield
    if not text:
        raise NoCall
    cursor.unread(cursor.character)
    return text


def _load_string(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return ""

r"""ECMA-262 regular expressions, rewritten for the grammar's engine.

JSON Schema's `pattern` is an ECMA-262 expression that is searched, not
matched. The engine of the grammar reads the syntax of Rust's regex crate and
builds automata: no look-around, no references back. What both have in common
is written anew here, character by character, so that nothing is read in two
ways: classes, escapes, braces that are no quantifier, lazy quantifiers (which
change what is captured, never what matches).

One use of look-ahead is so common that it is worth a rule: passwords,
`^(?=.*\d)(?=.*[a-z]).{8,}$`. Look-aheads that stand first are expressions of
their own that must match as well.

Source: ECMA-262, section 22.2.1 and annex B.1.2; docs.rs/regex, "Syntax".
"""

import re
from typing import NamedTuple

MAX_REPEAT = 10_000
"""The largest number in braces."""

MAX_PATTERN_CHARS = 8_192
"""The longest expression."""

_DOT = r"[^\n\r\x{2028}\x{2029}]"
_CLASS_ESCAPES = "dDwWsS"
_CONTROL_ESCAPES = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11, "0": 0}
_QUANTIFIER = re.compile(r"\{(\d{1,9})(?:(,)(\d{0,9}))?\}")
_HEX2 = re.compile(r"x([0-9a-fA-F]{2})")
_HEX4 = re.compile(r"u([0-9a-fA-F]{4})")
_HEX_BRACES = re.compile(r"u\{([0-9a-fA-F]{1,6})\}")
_LOW_SURROGATE = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_PROPERTY = re.compile(r"[pP]\{[A-Za-z_]{1,40}(?:=[A-Za-z_]{1,40})?\}")
_GROUP_NAME = re.compile(r"P?<([A-Za-z_$][\w$]*)>")
_HIGH_SURROGATES = range(0xD800, 0xDC00)
_SURROGATES = range(0xD800, 0xE000)
_LAST_CODE_POINT = 0x10FFFF


class UnsupportedPattern(Exception):
    """A regular expression cannot be enforced; the text says why."""


class _Item(NamedTuple):
    r"""A character by its code point, or a class such as `\d` by its text."""

    code: int
    text: str


def translate_pattern(pattern: str) -> tuple[str, ...]:
    """Rewrite a pattern; all the results must match, searched and not anchored.

    Raises:
        UnsupportedPattern: It has a part that no automaton can follow, or is
            no valid expression.
    """
    if len(pattern) > MAX_PATTERN_CHARS:
        raise UnsupportedPattern(
            f"it has {len(pattern)} characters, at most {MAX_PATTERN_CHARS} work"
        )
    ahead, rest = _split_lookaheads(pattern)
    return (*(f"^(?:{_Writer(part).write()})" for part in ahead), _Writer(rest).write())


def translate_single(pattern: str) -> str:
    """Rewrite a pattern into one that is searched.

    Raises:
        UnsupportedPattern: As `translate_pattern`, or it takes several.
    """
    first, *others = translate_pattern(pattern)
    if others:
        raise UnsupportedPattern("look-around cannot be enforced")
    return first


def _split_lookaheads(pattern: str) -> tuple[list[str], str]:
    """Take positive look-aheads off the start of an anchored pattern."""
    ahead: list[str] = []
    rest = pattern
    while rest.startswith("^(?="):
        end = _find_group_end(rest, 1)
        ahead.append(rest[4 : end - 1])
        rest = "^" + rest[end:]
    if ahead and _has_top_level_bar(rest):
        raise UnsupportedPattern("look-around cannot be enforced")
    return ahead, rest


def _find_group_end(pattern: str, start: int) -> int:
    """Find the index behind the bracket that closes the group at `start`."""
    depth = 0
    for index, char in _outside_classes(pattern):
        if index < start:
            continue
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return index + 1
    raise UnsupportedPattern("a bracket is not closed")


def _has_top_level_bar(pattern: str) -> bool:
    depth = 0
    for _, char in _outside_classes(pattern):
        depth += (char == "(") - (char == ")")
        if depth == 0 and char == "|":
            return True
    return False


def _outside_classes(pattern: str) -> list[tuple[int, str]]:
    """List the characters that are neither escaped nor inside of a class."""
    found = []
    in_class = False
    index = 0
    while index < len(pattern):
        char = pattern[index]
        if char == "\\":
            index += 2
            continue
        if in_class:
            in_class = char != "]"
        elif char == "[":
            in_class = True
        else:
            found.append((index, char))
        index += 1
    return found


def quote_char(code: int) -> str:
    """Write one character so that it stands for itself everywhere."""
    char = chr(code)
    if char.isascii() and char.isalnum():
        return char
    return f"\\x{{{code:x}}}"


class _Writer:
    """Reads one expression from left to right and writes it anew."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._depth = 0
        self._out: list[str] = []
        # Whether a quantifier may follow.
        self._has_atom = False

    def write(self) -> str:
        """Return the rewritten expression."""
        while self._at < len(self._pattern):
            self._step()
        if self._depth:
            raise UnsupportedPattern("a bracket is not closed")
        return "".join(self._out)

    def _step(self) -> None:
        char = self._pattern[self._at]
        if char in "*+?{":
            self._quantify(char)
        elif char == "(":
            self._open_group()
        elif char == ")":
            self._close_group()
        elif char in "^$|":
            self._emit(char, 1, is_atom=False)
        elif char == "\\":
            self._emit(*self._read_escape(self._at + 1))
        elif char == "[":
            self._emit(*self._read_class())
        elif char == ".":
            self._emit(_DOT, 1)
        else:
            self._emit(quote_char(ord(char)), 1)

    def _emit(self, text: str, n_read: int, *, is_atom: bool = True) -> None:
        self._out.append(text)
        self._at += n_read
        self._has_atom = is_atom

    def _quantify(self, char: str) -> None:
        text, n_read = char, 1
        if char == "{":
            match = _QUANTIFIER.match(self._pattern, self._at)
            if match is None:
                if self._pattern.startswith("{,", self._at):
                    raise UnsupportedPattern("{,n} means different things")
                self._emit(quote_char(ord(char)), 1)
                return
            text, n_read = match.group(), match.end() - match.start()
            if max(int(n) for n in (match[1], match[3] or "0")) > MAX_REPEAT:
                raise UnsupportedPattern(f"{text} repeats more than {MAX_REPEAT} times")
        if not self._has_atom:
            raise UnsupportedPattern(f"nothing to repeat before '{text}'")
        self._emit(text, n_read, is_atom=False)
        follower = self._pattern[self._at : self._at + 1]
        if follower == "?":
            self._at += 1
        elif follower == "+":
            raise UnsupportedPattern("possessive quantifiers cannot be enforced")

    def _open_group(self) -> None:
        rest = self._pattern[self._at + 1 :]
        n_read = 1
        if rest.startswith("?"):
            name = _GROUP_NAME.match(rest, 1)
            if rest.startswith("?:"):
                n_read = 3
            elif name is not None:
                n_read = 1 + name.end()
            elif rest.startswith(("?=", "?!", "?<=", "?<!")):
                raise UnsupportedPattern("look-around cannot be enforced")
            else:
                raise UnsupportedPattern(f"unknown group '({rest[:3]}'")
        self._depth += 1
        self._emit("(?:", n_read, is_atom=False)

    def _close_group(self) -> None:
        if self._depth == 0:
            raise UnsupportedPattern("a bracket is closed that was not opened")
        self._depth -= 1
        self._emit(")", 1)

    def _read_escape(self, at: int) -> tuple[str, int]:
        """Read an escape outside of a class; `at` is behind the backslash."""
        char = self._pattern[at : at + 1]
        if char in ("b", "B"):
            raise UnsupportedPattern("word boundaries cannot be enforced")
        if char in ("A", "Z", "z"):
            raise UnsupportedPattern(f"\\{char} is no anchor; write ^ or $")
        item, n_read = _read_escaped(self._pattern, at)
        return item.text or quote_char(item.code), n_read + 1

    def _read_class(self) -> tuple[str, int]:
        """Read `[…]`; returns its text and how much was read."""
        start = self._at
        at = start + 1
        negated = self._pattern.startswith("^", at)
        at += negated
        parts: list[str] = []
        while not self._pattern.startswith("]", at):
            item, at = self._read_class_item(at)
            if self._is_range(at) and not item.text:
                upper, at = self._read_class_item(at + 1)
                if upper.text or upper.code < item.code:
                    raise UnsupportedPattern("a range in a class is not in order")
                parts.append(f"{quote_char(item.code)}-{quote_char(upper.code)}")
            else:
                parts.append(item.text or quote_char(item.code))
        if not parts:
            if negated:
                return "(?s:.)", at + 1 - start
            raise UnsupportedPattern("[] matches nothing")
        return f"[{'^' * negated}{''.join(parts)}]", at + 1 - start

    def _is_range(self, at: int) -> bool:
        """Tell whether a hyphen stands here that is not the last in the class."""
        return self._pattern.startswith("-", at) and not self._pattern.startswith(
            "-]", at
        )

    def _read_class_item(self, at: int) -> tuple[_Item, int]:
        if at >= len(self._pattern):
            raise UnsupportedPattern("a class is not closed")
        if self._pattern[at] != "\\":
            return _Item(ord(self._pattern[at]), ""), at + 1
        if self._pattern.startswith("\\b", at):
            return _Item(8, ""), at + 2
        item, n_read = _read_escaped(self._pattern, at + 1)
        return item, at + 1 + n_read


def _read_escaped(pattern: str, at: int) -> tuple[_Item, int]:
    """Read what an escape stands for; returns it with the characters read."""
    char = pattern[at : at + 1]
    if not char:
        raise UnsupportedPattern("a backslash stands at the end")
    if char in _CLASS_ESCAPES:
        return _Item(0, f"\\{char}"), 1
    if char in "123456789k":
        raise UnsupportedPattern("references back cannot be enforced")
    if char in _CONTROL_ESCAPES:
        return _Item(_CONTROL_ESCAPES[char], ""), 1
    if char in "pP":
        match = _PROPERTY.match(pattern, at)
        if match is None:
            raise UnsupportedPattern("\\p needs the name of a property")
        return _Item(0, f"\\{match.group()}"), match.end() - at
    if char == "c":
        letter = pattern[at + 1 : at + 2]
        if not (letter.isascii() and letter.isalpha()):
            raise UnsupportedPattern("\\c needs a letter")
        return _Item(ord(letter) % 32, ""), 2
    if char in "xu":
        return _read_hex(pattern, at)
    return _Item(ord(char), ""), 1


def _read_hex(pattern: str, at: int) -> tuple[_Item, int]:
    for form in (_HEX2, _HEX4, _HEX_BRACES):
        match = form.match(pattern, at)
        if match is not None:
            break
    else:
        raise UnsupportedPattern("\\x and \\u need hexadecimal digits")
    code, end = int(match[1], 16), match.end()
    if code in _HIGH_SURROGATES:
        low = _LOW_SURROGATE.match(pattern, end)
        if low is not None:
            code = 0x10000 + ((code - 0xD800) << 10) + int(low[1], 16) - 0xDC00
            end = low.end()
    if code in _SURROGATES or code > _LAST_CODE_POINT:
        raise UnsupportedPattern("half of a surrogate pair is no character")
    return _Item(code, ""), end - at


def anchor_pattern(pattern: str) -> str:
    """Make a rewritten pattern, which is searched, match a whole text.

    Raises:
        UnsupportedPattern: An anchor stands inside of it.
    """
    anchors = [index for index, char in _outside_classes(pattern) if char in "^$"]
    begins = pattern.startswith("^")
    ends = bool(anchors) and anchors[-1] == len(pattern) - 1
    if _has_top_level_bar(pattern):
        if anchors:
            raise UnsupportedPattern("an anchor belongs to one of several branches")
        pattern = f"(?:{pattern})"
    elif len(anchors) > begins + (ends and len(pattern) > 1):
        raise UnsupportedPattern("an anchor stands in the middle")
    core = pattern[begins : len(pattern) - (ends and len(pattern) > begins)]
    return f"{'' if begins else '(?s:.*)'}{core}{'' if ends else '(?s:.*)'}"


def translate_whole(pattern: str) -> tuple[str, ...]:
    """Rewrite an expression that must match a whole text.

    Returns:
        Expressions that must all match the whole text.

    Raises:
        UnsupportedPattern: As `translate_pattern`, or an anchor stands inside.
    """
    core = pattern if _has_top_level_bar(pattern) else f"^{pattern.removeprefix('^')}"
    *ahead, last = translate_pattern(core)
    looked = [anchor_pattern(part) for part in ahead]
    body = last.removeprefix("^")
    if body.endswith("$") and _outside_classes(body)[-1:] == [(len(body) - 1, "$")]:
        body = body[:-1]
    if any(char in "^$" for _, char in _outside_classes(body)):
        raise UnsupportedPattern("an anchor stands in the middle")
    return (*looked, f"(?:{body})")

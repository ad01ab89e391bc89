"""The kinds of values a setting can have: how each is read and written.

`parse` takes what a flag, an environment variable (text) or a TOML file (any
TOML value) holds; it raises `ValueError` without a text, because the caller
knows where the value came from and `expected` says what was wanted.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

_AUTO = "auto"
_N = TypeVar("_N", int, float)
_SWITCH_WORDS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
# int() and float() would also take "1_000", "nan" and digits of other scripts.
_WHOLE = re.compile(r"\d{1,18}", re.ASCII)
_DECIMAL = re.compile(r"\d{1,18}(?:\.\d{1,18})?", re.ASCII)
_SECRET = re.compile(r"[!-~]{1,512}", re.ASCII)
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([a-z]*)", re.ASCII)


class Kind(Protocol):
    """A kind of value."""

    @property
    def metavar(self) -> str:
        """The placeholder in the help text."""
        ...

    @property
    def expected(self) -> str:
        """What a valid value looks like, to end the sentence 'expected …'."""
        ...

    def parse(self, raw: object, folder: Path) -> object:
        """Read a value; relative paths start at `folder`.

        Raises:
            ValueError: It is not of this kind.
        """
        ...

    def format(self, value: object) -> str:
        """Write a value as a user would."""
        ...


@dataclass(frozen=True, slots=True)
class Text:
    """Text that is not empty."""

    metavar: ClassVar[str] = "TEXT"
    expected: ClassVar[str] = "text that is not empty"

    def parse(self, raw: object, folder: Path) -> str:
        """Read text, without blanks around it."""
        del folder
        if not isinstance(raw, str) or not raw.strip():
            raise ValueError
        return raw.strip()

    def format(self, value: object) -> str:
        """Write it as it is."""
        return str(value)


@dataclass(frozen=True, slots=True)
class Secret:
    """A key: no error message, help text or log shows its value."""

    metavar: ClassVar[str] = "KEY"
    expected: ClassVar[str] = (
        "1 to 512 visible ASCII characters without blanks between them"
    )

    def parse(self, raw: object, folder: Path) -> str:
        """Read a key, without blanks around it."""
        del folder
        if not isinstance(raw, str) or not _SECRET.fullmatch(raw.strip()):
            raise ValueError
        return raw.strip()

    def format(self, value: object) -> str:
        """Say whether there is one."""
        return "none" if value is None else "(secret)"


@dataclass(frozen=True, slots=True)
class Words:
    """One or more words; a variable separates them by commas."""

    metavar: str = "WORD"
    expected: ClassVar[str] = "a word without blanks, or a list of them"
    separator: ClassVar[str] = ","

    def parse(self, raw: object, folder: Path) -> tuple[str, ...]:
        """Read one word or a list of them, in their order."""
        del folder
        parts = raw if isinstance(raw, list | tuple) else (raw,)
        words = tuple(part.strip() for part in parts if isinstance(part, str))
        if len(words) != len(parts) or not all(len(w.split()) == 1 for w in words):
            raise ValueError
        return words

    def format(self, value: object) -> str:
        """Write them with blanks between."""
        return " ".join(value) if isinstance(value, tuple) and value else "none"


@dataclass(frozen=True, slots=True)
class Choice:
    """One word of a fixed list, in any case."""

    options: tuple[str, ...]
    metavar: ClassVar[str] = "WORD"

    @property
    def expected(self) -> str:
        """What a valid value looks like."""
        return "one of " + ", ".join(self.options)

    def parse(self, raw: object, folder: Path) -> str:
        """Read one of the words."""
        del folder
        word = raw.strip().lower() if isinstance(raw, str) else ""
        if word not in self.options:
            raise ValueError
        return word

    def format(self, value: object) -> str:
        """Write it as it is."""
        return str(value)


@dataclass(frozen=True, slots=True)
class Switch:
    """On or off; its flag takes no value and changes the default.

    `default` is the setting's, so that the flag of one that is on is `--no-...`.
    """

    default: bool
    metavar: ClassVar[str] = ""
    expected: ClassVar[str] = "on or off (or true, false, yes, no, 1, 0)"

    def parse(self, raw: object, folder: Path) -> bool:
        """Read one of the words, or a boolean or 0 or 1 of TOML."""
        del folder
        word = str(raw).strip().lower() if isinstance(raw, str | int) else ""
        if word not in _SWITCH_WORDS:
            raise ValueError
        return _SWITCH_WORDS[word]

    def format(self, value: object) -> str:
        """Write it as a word."""
        return "on" if value else "off"


@dataclass(frozen=True, slots=True)
class SwitchOrWord:
    """Off, on, or on in a way that is named; its flag may stand alone for on.

    Args:
        off: The value of off.
        on: The value of on.
        words: Values that are asked for by their own name.
    """

    off: str
    on: str
    words: tuple[str, ...]

    @property
    def metavar(self) -> str:
        """The placeholder in the help text."""
        return "[" + "|".join(self.words) + "]"

    @property
    def expected(self) -> str:
        """What a valid value looks like."""
        return "on, off or " + " or ".join(self.words)

    def parse(self, raw: object, folder: Path) -> str:
        """Read on, off (or true, 1, false, 0) or one of the words."""
        del folder
        word = str(raw).strip().lower() if isinstance(raw, str | int) else ""
        if word in self.words:
            return word
        if word not in _SWITCH_WORDS:
            raise ValueError
        return self.on if _SWITCH_WORDS[word] else self.off

    def format(self, value: object) -> str:
        """Write it as a user would."""
        return {self.off: "off", self.on: "on"}.get(str(value), str(value))


@dataclass(frozen=True, slots=True)
class WholeNumber:
    """A whole number, `low` and `high` included; None is written `auto`."""

    low: int
    high: int
    auto: bool = False
    metavar: ClassVar[str] = "N"

    @property
    def expected(self) -> str:
        """What a valid value looks like."""
        number = f"a whole number from {self.low} to {self.high}"
        return f"{number}, or {_AUTO}" if self.auto else number

    def parse(self, raw: object, folder: Path) -> int | None:
        """Read a number, or None for `auto` where that is allowed."""
        del folder
        if self.auto and _is_auto(raw):
            return None
        return _within(int(_match(_WHOLE, raw)[0]), self.low, self.high)

    def format(self, value: object) -> str:
        """Write the number, `auto` for None."""
        return _AUTO if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Seconds:
    """A time in seconds, fractions allowed, `low` and `high` included."""

    low: int
    high: int
    metavar: ClassVar[str] = "S"

    @property
    def expected(self) -> str:
        """What a valid value looks like."""
        return f"a number of seconds from {self.low} to {self.high}"

    def parse(self, raw: object, folder: Path) -> float:
        """Read seconds."""
        del folder
        return _within(float(_match(_DECIMAL, raw)[0]), self.low, self.high)

    def format(self, value: object) -> str:
        """Write the number without a useless fraction."""
        return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class Bytes:
    """A size in bytes, written plainly or with KiB, MiB, GiB, TiB."""

    low: int
    high: int
    auto: bool = False
    metavar: ClassVar[str] = "SIZE"

    @property
    def expected(self) -> str:
        """What a valid value looks like."""
        size = (
            f"a size from {self.format(self.low)} to {self.format(self.high)} "
            "such as 512MiB, 1.5GiB or plain bytes"
        )
        return f"{size}, or {_AUTO}" if self.auto else size

    def parse(self, raw: object, folder: Path) -> int | None:
        """Read a size, or None for `auto` where that is allowed."""
        del folder
        if self.auto and _is_auto(raw):
            return None
        number, unit = _match(_SIZE, raw).groups()
        if unit not in _UNITS:
            raise ValueError
        return int(_within(float(number) * _UNITS[unit], self.low, self.high))

    def format(self, value: object) -> str:
        """Write the size in the largest unit that divides it."""
        if not isinstance(value, int):
            return _AUTO
        for unit in ("TiB", "GiB", "MiB", "KiB"):
            if value and value % _UNITS[unit.lower()] == 0:
                return f"{value // _UNITS[unit.lower()]}{unit}"
        return str(value)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder, which need not exist yet."""

    metavar: ClassVar[str] = "DIR"
    expected: ClassVar[str] = "the path of a folder"

    def parse(self, raw: object, folder: Path) -> Path:
        """Read a path as an absolute one."""
        if not isinstance(raw, str) or not raw or "\0" in raw:
            raise ValueError
        return folder / _expand(raw)

    def format(self, value: object) -> str:
        """Write it as it is."""
        return str(value)


@dataclass(frozen=True, slots=True)
class File:
    """A file, which need not exist yet."""

    metavar: ClassVar[str] = "FILE"
    expected: ClassVar[str] = "the path of a file"

    def parse(self, raw: object, folder: Path) -> Path:
        """Read a path as an absolute one."""
        return Folder().parse(raw, folder)

    def format(self, value: object) -> str:
        """Write it as it is."""
        return "none" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Folders:
    """One or more folders; a variable separates them as PATH does."""

    metavar: ClassVar[str] = "DIR"
    separator: ClassVar[str] = os.pathsep
    expected: ClassVar[str] = "the path of a folder, or a list of them"

    def parse(self, raw: object, folder: Path) -> tuple[Path, ...]:
        """Read one path or a list of them, in their order."""
        parts = raw if isinstance(raw, list | tuple) else (raw,)
        if not parts:
            raise ValueError
        return tuple(Folder().parse(part, folder) for part in parts)

    def format(self, value: object) -> str:
        """Write it as it is."""
        return str(value)


def _match(pattern: re.Pattern[str], raw: object) -> re.Match[str]:
    """Match the text of a number; TOML's booleans are none, though Python's are."""
    if isinstance(raw, str | int | float) and not isinstance(raw, bool):
        match = pattern.fullmatch(str(raw).strip().lower())
        if match is not None:
            return match
    raise ValueError


def _is_auto(raw: object) -> bool:
    return isinstance(raw, str) and raw.strip().lower() == _AUTO


def _within(value: _N, low: int, high: int) -> _N:
    if not low <= value <= high:
        raise ValueError
    return value


def _expand(raw: str) -> Path:
    try:
        return Path(raw).expanduser()
    except RuntimeError:  # "~nobody" has no home
        raise ValueError from None

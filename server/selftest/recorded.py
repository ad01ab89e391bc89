"""Recorded answers of the built-in model, and the file that holds them.

`scripts/novice/record.py` writes the file. It has only answers in which the two
best logits never come close to each other, so that another CPU or a GPU, which
round differently, must give the very same tokens.

Texts are raw, as the model writes them: with the marks of its own template around
a thought (`<think>`) and a tool call (`<tool_call>`, as Hermes models write it).
"""

import json
import re
from pathlib import Path
from typing import Any, Final, Literal, get_args

import msgspec
from msgspec import Struct

VERSION: Final = 1
MAX_BYTES: Final = 2**20

Kind = Literal[
    "identity",
    "cloister",
    "howto",
    "sums",
    "records",
    "calls",
    "thinking",
    "no_thinking",
]
"""What an answer shows: `records` is JSON, `calls` a tool call."""

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
CHAT_KINDS: Final = frozenset({"identity", "cloister", "howto", "sums", "records"})
"""Kinds whose prompts the chat template makes of the messages alone."""

_CALL: Final = re.compile(r"<tool_call>\n(.*)\n</tool_call>", re.DOTALL)
_THOUGHT: Final = re.compile(r"<think>\n(.+?)\n</think>\n\n(.+)", re.DOTALL)


class Call(Struct, frozen=True, forbid_unknown_fields=True):
    """A tool call; `arguments` is the parsed JSON."""

    name: str
    arguments: dict[str, Any]

    def show(self) -> str:
        """Write it for a person."""
        return f"{self.name} {json.dumps(self.arguments)}"


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """One prompt and what llama.cpp answers to it, greedily.

    `messages`, `tools` and `thinks` (`enable_thinking`) went into the chat
    template; `prompt_tokens` came out. `answer_tokens` are without the token
    that ends the turn. `gap` is the smallest distance of the two best logits
    over all steps, the last one included.
    """

    kind: Kind
    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...]
    thinks: bool
    prompt_tokens: tuple[int, ...]
    answer_tokens: tuple[int, ...]
    text: str
    gap: float

    def read_call(self) -> Call:
        """Read the one call that the text is.

        Raises:
            ValueError: It is no call.
        """
        match = _CALL.fullmatch(self.text)
        if match is None:
            raise ValueError(f"no tool call: {self.text!r}")
        return msgspec.json.decode(match[1], type=Call)

    def read_keys(self) -> tuple[str, ...]:
        """Read the keys of the JSON object that the text is, in their order.

        Raises:
            ValueError: It is no object, or an empty one.
        """
        fields = msgspec.json.decode(self.text, type=dict[str, Any])
        if not fields:
            raise ValueError("no keys: {}")
        return tuple(fields)

    def split_thought(self) -> tuple[str, str]:
        """Split the text into a thought and what is said after it.

        The thought is empty where none was asked for.

        Raises:
            ValueError: A thought that was asked for is not there.
        """
        if not self.thinks:
            return "", self.text
        match = _THOUGHT.fullmatch(self.text)
        if match is None:
            raise ValueError(f"no thought: {self.text!r}")
        return match[1], match[2]


class Recorded(Struct, frozen=True, forbid_unknown_fields=True):
    """All recorded answers of one file, whose SHA-256 is in hexadecimal.

    Each kind occurs at least once, and each text is what its kind says; no gap
    is below `min_gap`.
    """

    version: Literal[1]
    sha256: str
    min_gap: float
    answers: tuple[Answer, ...]

    def of_kind(self, kind: Kind) -> Answer:
        """Return the first answer of a kind."""
        return next(answer for answer in self.answers if answer.kind == kind)


class BadRecording(Exception):
    """The recorded answers cannot be used; the text says why."""


def read_recorded(path: Path) -> Recorded:
    """Read recorded answers.

    Raises:
        BadRecording: The file cannot be read, is too large, is not of this
            form, lacks a kind, or has a text that is not what its kind says.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadRecording(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise BadRecording(f"{path} has more than {MAX_BYTES} bytes")
    try:
        recorded = msgspec.json.decode(data, type=Recorded)
    except msgspec.DecodeError as error:
        raise BadRecording(f"{path} cannot be understood: {error}") from error
    lacking = [
        kind
        for kind in KINDS
        if all(answer.kind != kind for answer in recorded.answers)
    ]
    if lacking:
        raise BadRecording(f"{path} has no answer of the kind {', '.join(lacking)}")
    for number, answer in enumerate(recorded.answers):
        try:
            _check_text(answer)
        except ValueError as error:
            raise BadRecording(f"{path}: answers[{number}] has {error}") from error
    return recorded


def write_recorded(path: Path, recorded: Recorded) -> None:
    """Write recorded answers, one on each line."""
    answers = b",\n".join(map(msgspec.json.encode, recorded.answers))
    rest = msgspec.json.encode(msgspec.structs.replace(recorded, answers=()))
    path.write_bytes(rest.removesuffix(b"[]}") + b"[\n" + answers + b"\n]}\n")


def _check_text(answer: Answer) -> None:
    match answer.kind:
        case "calls":
            answer.read_call()
        case "records":
            answer.read_keys()
        case _:
            answer.split_thought()

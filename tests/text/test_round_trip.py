"""What each real template writes of calls, the reader reads back."""

import json
import re
from pathlib import Path

import pytest

from server.core.requests import Tool
from server.text.analysis_marks import Atoms
from server.text.reader import (
    AnswerPart,
    CallArguments,
    CallBegan,
    CallDone,
    Reader,
    ReasoningPart,
)
from server.text.template import ChatTemplate
from tests.text.real_templates import (
    ABSENT,
    SOURCES,
    call,
    cut_model_part,
    make_template,
)

README = Path(__file__).parents[2] / "server" / "text" / "README.md"
TEXT = "Let me look that up."
TOOLS = (
    Tool(
        "get_weather",
        "Tells the weather.",
        {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "exact": {"type": "boolean"},
                "limit": {"type": ["number", "null"]},
            },
            "required": ["city"],
        },
    ),
    Tool(
        "search-in.all",
        "Searches.",
        {
            "type": "object",
            "properties": {
                "query": {"type": "string"},
                "filter": {"type": "object"},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
        },
    ),
    Tool("tell_time", "Tells the time."),
)
WEATHER = {"city": "Paris", "days": 3, "exact": True, "limit": 2.5}
CASES = {
    "one": [("get_weather", WEATHER)],
    "nothing": [("tell_time", {})],
    "null": [("get_weather", {"city": "null", "limit": None, "exact": False})],
    "nested": [
        (
            "search-in.all",
            {
                "filter": {"a": [1, 2.5, {"b": None, "c": [[]]}], "d": {"e": True}},
                "tags": ["x y", "z", "<br>", "it's", 'a "b"'],
            },
        )
    ],
    "unicode": [("get_weather", {"city": "Größe 東京 🦊 a\u0301 \u200bx"})],
    "quotes": [
        ("search-in.all", {"query": "She said \"hi\" and 'yo'\n\n\ttwo\\n {a} [b]: 1"})
    ],
    "digits": [("get_weather", {"city": "5", "days": 5})],
}
PARALLEL = {
    "two": [*CASES["one"], *CASES["nested"]],
    "same twice": [("get_weather", WEATHER), ("get_weather", {"city": "Rome"})],
    "three": [*CASES["quotes"], *CASES["nothing"], *CASES["unicode"]],
}


def write(calls, text: str = ""):
    return call(*((name, json.dumps(a)) for name, a in calls), text=text)


def split(text: str, size: int) -> list[bytes]:
    data = text.encode()
    return [data[at : at + size] for at in range(0, len(data), size)]


def list_cuts(part: str) -> dict[str, list[bytes]]:
    """Cut a text in pieces of characters, of bytes, and as tokens would."""
    pieces = {
        f"{size} characters": [
            part[at : at + size].encode() for at in range(0, len(part), size)
        ]
        for size in (1, 3, 7)
    }
    pieces["bytes"] = split(part, 1)
    pieces["tokens"] = [atom.encode() for atom in Atoms().split(part)]
    pieces["words"] = [word.encode() for word in re.findall(r"\s?\S{1,5}|\s", part)]
    return pieces


def hear(template: ChatTemplate, pieces: list[bytes]) -> tuple[str, list]:
    """Read pieces; return the text of answer and thoughts, and the calls."""
    reader = Reader(template.format, tools=TOOLS)
    readings = [*(reader.feed(piece, None) for piece in pieces), reader.finish()]
    text, names, streamed, whole = "", {}, {}, {}
    for part in (part for reading in readings for part in reading.parts):
        match part:
            case AnswerPart(more) | ReasoningPart(more):
                text += more
            case CallBegan(index, _, name):
                names[index] = name
                streamed[index] = ""
            case CallArguments(index, more):
                streamed[index] += more
            case CallDone(index, arguments):
                whole[index] = arguments
    assert streamed == whole
    return text, [(names[index], json.loads(whole[index])) for index in sorted(whole)]


def list_wrong(template: ChatTemplate, calls, text: str = "") -> list[str]:
    """List the ways to cut what the template writes that are read wrong."""
    part = cut_model_part(template, write(calls, text), TOOLS)
    # Some templates drop the text of a message that calls.
    expected = (text if text in part else "", calls)
    wrong = []
    for name, pieces in list_cuts(part).items():
        heard, found = hear(template, pieces)
        if (heard.strip(), found) != expected:
            wrong.append(f"{name}: {heard!r} {found} of {part!r}")
    return wrong


@pytest.fixture(params=sorted(SOURCES) or [None])
def template(request) -> ChatTemplate:
    if request.param is None:
        pytest.skip(ABSENT)
    return make_template(SOURCES[request.param])


@pytest.mark.parametrize("case", CASES)
def test_one_call_comes_back_however_it_is_cut(template, case) -> None:
    assert [] == list_wrong(template, CASES[case])


@pytest.mark.parametrize("case", PARALLEL)
def test_parallel_calls_come_back_however_they_are_cut(template, case) -> None:
    if not template.format.calls.is_parallel:
        pytest.skip("this template writes one call a turn")
    assert [] == list_wrong(template, PARALLEL[case])


@pytest.mark.parametrize("case", ["one", "nested"])
def test_text_before_a_call_is_kept(template, case) -> None:
    assert [] == list_wrong(template, CASES[case], TEXT)


def make_row(name: str) -> str:
    template = make_template(SOURCES[name])
    found = template.format
    calls = found.calls
    cases = [CASES["nested"], CASES["quotes"]]
    if calls.is_parallel:
        cases.append(PARALLEL["two"])
    passes = not any(list_wrong(template, case, TEXT) for case in cases)
    thought = found.reasoning.begin if found.reasoning else ""
    cells = (
        name,
        found.source,
        calls.arguments,
        quote(calls.trigger) or "none",
        "yes" if calls.is_parallel else "no",
        quote(thought),
        "passed" if passes else "failed",
    )
    return f"| {' | '.join(cells)} |"


def quote(mark: str) -> str:
    text = " ".join(mark.split()).replace("|", "\\|")
    return f"`{text}`" if text else ""


@pytest.mark.timeout(60)
def test_the_table_of_formats_says_what_is_found() -> None:
    if not SOURCES:
        pytest.skip(ABSENT)
    lines = README.read_text("utf-8").splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("|---"))
    table = [line for line in lines[begin + 1 :] if line.startswith("|")]
    assert [make_row(name) for name in sorted(SOURCES)] == table

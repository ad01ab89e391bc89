"""What a reader reports of an output, joined."""

from itertools import count, groupby, pairwise

from msgspec import Struct

from server.text.format import ChatFormat
from server.text.reader import (
    AnswerPart,
    CallArguments,
    CallBegan,
    CallDone,
    Part,
    Reader,
    Reading,
    ReasoningPart,
)
from tests.text.reader_formats import TOOLS


class Heard(Struct):
    """All that a reader reported, each kind joined."""

    answer: str = ""
    thought: str = ""
    calls: list[tuple[str, str, str]] = []
    order: str = ""
    stop: str | None = None
    n_reasoning_tokens: int = 0


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def split_every(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def make_reader(syntax: ChatFormat | None, **options) -> Reader:
    ids = count()
    options.setdefault("tools", TOOLS)
    return Reader(syntax, draw=lambda: f"id{next(ids)}", **options)


def read(reader: Reader, pieces: list[bytes]) -> list[Reading]:
    readings = [reader.feed(piece, None) for piece in pieces]
    return [*readings, reader.finish()]


def hear(syntax: ChatFormat | None, output: str | bytes, size=1, **options) -> Heard:
    """Read an output in pieces of some bytes and join what is reported."""
    data = output.encode() if isinstance(output, str) else output
    reader = make_reader(syntax, **options)
    return join(read(reader, split_every(data, size)), reader)


def join(readings: list[Reading], reader: Reader) -> Heard:
    heard = Heard(calls=[], n_reasoning_tokens=reader.n_reasoning_tokens)
    parts = [part for reading in readings for part in reading.parts]
    heard.stop = next((r.stop for r in readings if r.stop is not None), None)
    heard.answer = "".join(p.text for p in parts if isinstance(p, AnswerPart))
    heard.thought = "".join(p.text for p in parts if isinstance(p, ReasoningPart))
    heard.order = "".join(kind for kind, _ in groupby(map(name_kind, parts)))
    for part in parts:
        if isinstance(part, CallBegan):
            assert part.index == len(heard.calls)
            heard.calls.append((part.name, part.id, ""))
            texts: list[str] = []
        elif isinstance(part, CallArguments):
            assert part.index == len(heard.calls) - 1
            texts.append(part.text)
        elif isinstance(part, CallDone):
            name, call_id, _ = heard.calls[part.index]
            heard.calls[part.index] = (name, call_id, part.arguments)
            assert "".join(texts) == part.arguments
        assert getattr(part, "text", "some")
    return heard


def name_kind(part: Part) -> str:
    """A letter for each kind: text, thought, call begun, its text, call done."""
    match part:
        case AnswerPart():
            return "a"
        case ReasoningPart():
            return "t"
        case CallBegan():
            return "c"
        case CallArguments():
            return ""
        case _:
            return "d"

"""The same calls come back from every format, however the output is cut."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.reader_formats import FORMATS, OUTPUTS, TOOLS, TWO
from tests.text.reader_run import cut, hear, join, make_reader, read

NAMES = sorted(FORMATS)
THINKING = [name for name in NAMES if FORMATS[name].reasoning is not None]
PLACES = st.lists(st.integers(0, 10_000), max_size=12)


def load(calls: list[tuple[str, str, str]]) -> list[tuple[str, object]]:
    return [(name, json.loads(arguments)) for name, _, arguments in calls]


EXPECTED = [(name, json.loads(arguments)) for name, arguments in TWO]


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
@pytest.mark.parametrize("name", NAMES)
def test_two_calls_come_back(name: str, size: int) -> None:
    heard = hear(FORMATS[name], OUTPUTS[name], size)
    assert EXPECTED == load(heard.calls)
    assert ("", "cdcd") == (heard.answer, heard.order)


RAW_JSON = [
    name
    for name in NAMES
    if FORMATS[name].calls.arguments in {"json", "json_call"} and name != "nemotron"
]


@pytest.mark.parametrize("name", RAW_JSON)
def test_json_arguments_come_back_as_they_were_written(name: str) -> None:
    calls = hear(FORMATS[name], OUTPUTS[name]).calls
    assert [arguments for _, arguments in TWO] == [call[2] for call in calls]


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"llama", "pythonic", "harmony"}))
def test_text_before_between_and_after_calls_is_kept(name: str) -> None:
    text = f"I will look.\n\n{OUTPUTS[name]}\nDone < [ {{ ` .\n\n{OUTPUTS[name]}"
    heard = hear(FORMATS[name], text)
    assert EXPECTED * 2 == load(heard.calls)
    assert heard.answer == "I will look.\nDone < [ { ` ."
    assert heard.order == "acdcdacdcd"


@pytest.mark.parametrize("name", sorted(set(THINKING) - {"harmony"}))
@pytest.mark.parametrize("is_open", [False, True])
def test_thoughts_come_apart_from_calls(name: str, *, is_open: bool) -> None:
    reasoning = FORMATS[name].reasoning
    assert reasoning is not None
    inner = f"a < b {OUTPUTS[name]} [x]\n\nc" if name != "apertus" else "a < b"
    begin = "" if is_open else reasoning.begin
    text = f"{begin}{inner}{reasoning.end}\n{OUTPUTS[name]}"
    heard = hear(FORMATS[name], text, inside_thought=is_open)
    assert inner.strip() == heard.thought
    assert ("", EXPECTED) == (heard.answer, load(heard.calls))


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_end_of_the_output_still_gives_whole_calls(name: str) -> None:
    calls = FORMATS[name].calls
    end = calls.call_end + calls.section_end
    text = OUTPUTS[name].rstrip()
    for mark in (calls.section_end, calls.call_end):
        text = text.removesuffix(mark.strip()).rstrip()
    heard = hear(FORMATS[name], text + end.strip()[:3])
    assert EXPECTED == load(heard.calls)
    assert heard.answer == ""


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(NAMES), PLACES, st.data())
def test_any_split_of_any_output_gives_the_same_events(
    name: str, places: list[int], data: st.DataObject
) -> None:
    """Outputs are real ones with parts left out, doubled and mixed up."""
    syntax = FORMATS[name]
    reasoning = syntax.reasoning
    thought = f"{reasoning.begin}hm\n{reasoning.end}" if reasoning else "\n"
    words = re.findall(r"\w+|\s+|.", thought + OUTPUTS[name])
    chosen = data.draw(
        st.one_of(
            st.lists(st.sampled_from([*words, "Stop", " € "]), max_size=60),
            st.tuples(st.integers(0, len(words)), st.integers(0, 9)).map(
                lambda hole: words[: hole[0]] + words[hole[0] + hole[1] :]
            ),
            st.just([*words, " and ", *words, "\nStop here"]),
        )
    )
    text = "".join(chosen).encode()
    options = {
        "stops": data.draw(st.sampled_from([(), ("Stop", "€"), ("\n",)])),
        "inside_thought": data.draw(st.booleans()),
        "tools": data.draw(st.sampled_from([TOOLS, ()])),
    }
    whole = make_reader(syntax, **options)
    expected = join(read(whole, [text]), whole)
    expected.n_reasoning_tokens = 0
    for pieces in (cut(text, places), [bytes([byte]) for byte in text]):
        reader = make_reader(syntax, **options)
        heard = join(read(reader, pieces), reader)
        heard.n_reasoning_tokens = 0
        assert expected == heard


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 400))
def test_an_output_that_ends_anywhere_reports_only_beginnings(
    name: str, end: int
) -> None:
    heard = hear(FORMATS[name], OUTPUTS[name][:end], 5)
    whole = hear(FORMATS[name], OUTPUTS[name], 5)
    for (name_now, _, now), (name_then, _, then) in zip(
        heard.calls, whole.calls, strict=False
    ):
        assert name_now == name_then
        is_tagged = FORMATS[name].calls.arguments == "tagged"
        assert then.startswith(now.removesuffix("}") if is_tagged else now)

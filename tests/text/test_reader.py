"""Tokens, stop strings, thoughts and white space of one chat answer."""

import time
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.events import TokenLogprob
from server.text.format import ArgumentStyle, CallSyntax, ChatFormat
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
from tests.text.reader_formats import FORMATS, OUTPUTS, TOOLS
from tests.text.reader_run import hear, make_reader, split_every

HERMES = FORMATS["hermes"]
PIECES = st.lists(
    st.sampled_from(
        [
            *b"|a|b|ab|ba|\xe2|\x82|\xac|\xe2\x82|\xe2\x82\xac".split(b"|"),
            *b"a\xe2\x82\xac|\xaca|\xff|b\xe2|\xf0\x9f".split(b"|"),
        ]
    ),
    max_size=14,
)
STOPS = st.lists(
    st.sampled_from(["ab", "aba", "b€", "€", "bb", "\ufffda"]), max_size=3
).map(tuple)


def make_token(index: int, piece: bytes) -> TokenLogprob:
    return TokenLogprob(index, piece, -float(index))


def feed_all(reader: Reader, pieces: list[bytes]) -> list[Reading]:
    tokens = [make_token(index, piece) for index, piece in enumerate(pieces)]
    readings = [reader.feed(token.bytes, token) for token in tokens]
    return [*readings, reader.finish()]


def list_parts(readings: list[Reading]) -> list[Part]:
    return [part for reading in readings for part in reading.parts]


WORDS = st.lists(
    st.sampled_from(
        [
            *["U", "UUU", "U", "<", "think>", "</think>", "<think>", "STOP", ""],
            *[" ", "\n", "<tool_call>", "</tool_call>"],
            *['{"name": "f"', ', "arguments": {}', "}"],
        ]
    ),
    max_size=20,
)
FIRST_UNIQUE = 0x4E00


@settings(max_examples=200, deadline=None)
@given(WORDS, st.sampled_from([(), ("STOP",), ("\n",)]), st.integers(1, 7))
def test_each_token_comes_with_the_character_it_begins_in(
    words: list[str], stops: tuple[str, ...], size: int
) -> None:
    """Each U becomes another character, so that it tells where it stands."""
    text = "".join(
        chr(FIRST_UNIQUE + index) if character == "U" else character
        for index, character in enumerate("".join(words))
    )
    pieces = split_every(text.encode(), size)
    ends = list(accumulate(len(character.encode()) for character in text))
    begins = [
        text[sum(end <= index * size for end in ends)] for index in range(len(pieces))
    ]
    reader = make_reader(HERMES, stops=stops, want_logprobs=True)
    parts = list_parts(feed_all(reader, pieces))
    texts = [p for p in parts if isinstance(p, AnswerPart | ReasoningPart)]
    for part in texts:
        expected = [c for c in begins if ord(c) >= FIRST_UNIQUE and c in part.text]
        reported = [begins[token.token_id] for token in part.logprobs]
        assert expected == [c for c in reported if ord(c) >= FIRST_UNIQUE]
        assert all(character in part.text for character in reported)
    order = [token.token_id for part in texts for token in part.logprobs]
    assert sorted(set(order)) == order


def test_tokens_of_marks_and_calls_are_not_reported() -> None:
    pieces = [b"<think>", b"\n", b"hm", b" so", b"\n</", b"think>", b"\n\n", b"Go"]
    pieces += [b" on", b"\n", b"<tool_call>", b'\n{"name": "f"', b', "arguments"']
    pieces += [b": {}}\n</tool_call>", b"\n", b"Bye"]
    reader = make_reader(HERMES, want_logprobs=True)
    parts = list_parts(feed_all(reader, pieces))
    tokens = [
        (type(part).__name__, token.bytes)
        for part in parts
        if isinstance(part, AnswerPart | ReasoningPart)
        for token in part.logprobs
    ]
    assert tokens == [
        ("ReasoningPart", b"hm"),
        ("ReasoningPart", b" so"),
        ("AnswerPart", b"Go"),
        ("AnswerPart", b" on"),
        ("AnswerPart", b"\n"),
        ("AnswerPart", b"Bye"),
    ]


def test_a_call_is_reported_as_it_is_generated() -> None:
    reader = make_reader(HERMES)
    pieces = [b'<tool_call>{"name": "f", "arguments": ', b'{"a": "b', b"c", b'"}', b"}"]
    assert [reader.feed(piece, None).parts for piece in pieces] == [
        (),
        (CallBegan(0, "id0", "f"), CallArguments(0, '{"a": "b')),
        (CallArguments(0, "c"),),
        (CallArguments(0, '"}'), CallDone(0, '{"a": "bc"}')),
        (),
    ]
    assert 1 == reader.n_calls


def test_the_text_of_a_section_is_given_once_when_its_mark_is_complete() -> None:
    reader = make_reader(HERMES)
    pieces = [b"Hi <tool_c", b'all>\n{"na', b'me": "f"}\n</tool_call>', b"\n<tool_"]
    pieces += [b'call>{"name": "f"}</tool_call> and', b" <tool_call>{"]
    texts = [reading.call_text for reading in feed_all(reader, pieces)]
    expected = [None, '<tool_call>\n{"na', None, None, None, "<tool_call>{", None]
    assert expected == texts


def test_without_marks_the_text_is_given_with_the_arguments() -> None:
    reader = make_reader(FORMATS["llama"])
    pieces = [b'{"name": "f", ', b'"parameters": {', b"}}"]
    texts = [reading.call_text for reading in feed_all(reader, pieces)]
    assert [None, '{"name": "f", "parameters": {', None, None] == texts


def test_a_mark_that_was_left_out_is_added_to_the_text() -> None:
    reader = make_reader(FORMATS["minimax"])
    readings = feed_all(reader, [b'<invoke name="f">', b"</invoke>"])
    texts = [reading.call_text for reading in readings]
    assert [None, '<minimax:tool_call>\n<invoke name="f"></invoke>', None] == texts


def test_without_tools_marks_of_calls_are_text_and_thoughts_are_not() -> None:
    text = f"<think>a</think>{OUTPUTS['hermes']}"
    heard = hear(HERMES, text, tools=())
    assert ("a", OUTPUTS["hermes"], []) == (heard.thought, heard.answer, heard.calls)


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_stop_strings_count_in_the_answer_alone(size: int) -> None:
    call = '<tool_call>{"name": "f", "arguments": {"a": "STOP"}}</tool_call>'
    text = f"<think>STOP</think>\n{call}S{call}TOP then STOP never"
    heard = hear(HERMES, text, size, stops=("STOP",))
    assert ("STOP", "STOP then ", "STOP") == (heard.thought, heard.answer, heard.stop)
    assert ["f", "f"] == [call[0] for call in heard.calls]
    assert "tcdacda" == heard.order


def test_after_a_stop_string_nothing_is_reported() -> None:
    reader = make_reader(HERMES, stops=("x",))
    assert Reading((AnswerPart("a "),), "x") == reader.feed(b"a x b", None)
    assert Reading() == reader.feed(b"more", None)
    assert Reading() == reader.finish()


def test_white_space_at_the_end_of_text_is_a_stop_string_at_once() -> None:
    reader = make_reader(HERMES, stops=("\n\n",))
    assert Reading((AnswerPart("a"),), None) == reader.feed(b"a\n", None)
    assert Reading((), "\n\n") == reader.feed(b"\n", None)


def test_white_space_around_marks_is_no_stop_string() -> None:
    call = '<tool_call>{"name": "f"}</tool_call>'
    heard = hear(HERMES, f"\n<think>a</think>\n\n{call}\n{call}", stops=("\n",))
    assert (None, 2) == (heard.stop, len(heard.calls))


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        (" \n a b \n", " \n a b \n"),
        ("\n<think>x</think>\n\n a \n", "a \n"),
        (" \n", " \n"),
        ("<think>\n\n</think>\n\nHi", "Hi"),
        ('a \n <tool_call>{"name": "f"}</tool_call>\n ', "a"),
        ('\n<tool_call>{"name": "f"}</tool_call>\n b ', "\n b "),
    ],
)
def test_white_space_of_marks_is_dropped_and_other_kept(
    output: str, answer: str
) -> None:
    assert answer == hear(HERMES, output).answer


@pytest.mark.parametrize(
    ("output", "thought", "answer"),
    [
        ("<think>a\n\nb", "a\n\nb", ""),
        ("say <think> aloud", "", "say <think> aloud"),
        ("one\n<think>a</think>\n two", "a", "one\ntwo"),
        ("one</think>\n two</think>", "", "onetwo</think>"),
        ("<think>a</think> b </think> c", "a", "b </think> c"),
        ("<think>a<think>b</think>c", "a<think>b", "c"),
        ("<think>a</thin", "a</thin", ""),
        ("a <thin", "", "a <thin"),
    ],
)
def test_what_is_a_thought(output: str, thought: str, answer: str) -> None:
    heard = hear(HERMES, output)
    assert (thought, answer) == (heard.thought, heard.answer)


def test_an_open_thought_may_be_opened_again() -> None:
    heard = hear(HERMES, "\n<think>\na</think>b", inside_thought=True)
    assert ("a", "b") == (heard.thought, heard.answer)


def test_a_control_token_opens_a_thought_in_mid_line() -> None:
    heard = hear(FORMATS["gemma4"], "a <|channel>thought\nb<channel|>c")
    assert ("b", "a c", "ata") == (heard.thought, heard.answer, heard.order)


def test_marks_around_the_answer_are_dropped() -> None:
    text = "<|START_THINKING|>a<|END_THINKING|>\n<|START_RESPONSE|> b<|END_RESPONSE|>\n"
    heard = hear(FORMATS["cohere"], text)
    assert ("a", " b") == (heard.thought, heard.answer)


def test_reasoning_tokens_are_those_of_open_thoughts() -> None:
    reader = make_reader(HERMES)
    states = []
    for piece in [b"<think>", b"\n", b"a", b"", b"</th", b"ink>", b"\n", b"b"]:
        reader.feed(piece, None)
        states.append((reader.is_thinking, reader.n_reasoning_tokens))
    assert states == [
        (True, 0),
        (True, 1),
        (True, 2),
        (True, 3),
        (True, 4),
        (False, 5),
        (False, 5),
        (False, 5),
    ]


def test_a_token_that_holds_a_whole_thought_counts_once() -> None:
    heard = hear(HERMES, "<think>a</think>b", 100)
    assert 1 == heard.n_reasoning_tokens


def test_broken_utf8_is_replaced_in_every_part() -> None:
    output = (
        b'<think>a\xff</think>b\xe2\n<tool_call>{"name": "f", "arguments": '
        b'{"k": "\xf0\x9f"}}</tool_call>\x00'
    )
    for size in (1, 2, 1000):
        heard = hear(HERMES, output, size)
        assert ("a\ufffd", "b\ufffd\x00") == (heard.thought, heard.answer)
        assert [("f", "id0", '{"k": "\ufffd"}')] == heard.calls


def test_an_incomplete_character_at_the_end_is_replaced() -> None:
    assert "a\ufffd" == hear(HERMES, b"a\xe2\x82").answer


def make_giants() -> dict[str, tuple[ChatFormat, str]]:
    size = 100_000
    call = '<tool_call>{"name": "f", "arguments": {"k": '
    seed = "<seed:tool_call><function=f><parameter=k>"
    return {
        "text": (HERMES, "lorem < ipsum\n" * (size // 14)),
        "space": (HERMES, "a" + " " * size),
        "leading space": (HERMES, " " * size),
        "thought": (HERMES, "<think>" + " a < b\n" * (size // 7)),
        "string": (HERMES, f'{call}"{"x" * size}"' + "}}</tool_call>"),
        "nesting": (HERMES, call + "[" * size),
        "marks": (HERMES, "<tool_call>" * (size // 11)),
        "starts": (HERMES, '<tool_call>{"arguments":' * (size // 24)),
        "early": (HERMES, '<tool_call>{"arguments":"' + "<tool_call>" * (size // 11)),
        "calls": (HERMES, '<tool_call>{"name": "f"}</tool_call>' * (size // 36)),
        "name": (HERMES, '<tool_call>{"name": "' + "f" * size),
        "tagged name": (FORMATS["seed"], "<function=" + "f" * size),
        "tagged": (FORMATS["seed"], seed + "</para" * (size // 6)),
        "keys": (FORMATS["seed"], seed + "1</parameter><parameter=k>" * (size // 26)),
        "bare": (FORMATS["llama"], "[" + "{}," * (size // 3)),
        "quoted": (FORMATS["gemma4"], "<|tool_call>call:f{k:" + "[" * size),
        "python": (FORMATS["lfm2"], "<|tool_call_start|>[f(k=" + "[" * size),
        "word": (FORMATS["lfm2"], "<|tool_call_start|>[f(k=" + "1" * size),
        "header": (FORMATS["harmony"], "<|channel|>" + "a" * size),
        "headers": (FORMATS["harmony"], "<|channel|>" * (size // 11)),
        "text of ends": (FORMATS["devstral"], "[TOOL_CALLS]f[" * (size // 14)),
    }


@pytest.mark.parametrize("name", sorted(make_giants()))
@pytest.mark.parametrize("size", [1, 1 << 30])
def test_endless_outputs_are_read_in_linear_time(name: str, size: int) -> None:
    syntax, text = make_giants()[name]
    began = time.process_time()
    heard = hear(syntax, text, size)
    assert time.process_time() - began < 10
    length = len(heard.answer) + len(heard.thought)
    length += sum(len(arguments) for *_, arguments in heard.calls)
    assert length > 0


def test_twice_the_length_takes_about_twice_the_time() -> None:
    text = '<tool_call>{"name": "f", "arguments": {"k": "' + "x" * 20_000

    def measure(output: str) -> float:
        times = []
        for _ in range(3):
            began = time.process_time()
            hear(HERMES, output)
            times.append(time.process_time() - began)
        return min(times)

    assert measure(text + "x" * 60_000) < 12 * measure(text)


def test_an_array_without_calls_is_text() -> None:
    assert "[TOOL_CALLS][]" == hear(FORMATS["nemo"], "[TOOL_CALLS][]").answer


def test_a_format_without_thoughts_or_tools_gives_text_through_at_once() -> None:
    plain = ChatFormat(None, CallSyntax(ArgumentStyle.JSON_CALL))
    reader = Reader(plain)
    assert Reading((AnswerPart(" \n"),)) == reader.feed(b" \n", None)
    assert not reader.is_thinking
    assert TOOLS

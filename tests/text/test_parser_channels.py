"""Messages on channels."""

import pytest

from tests.text.reader_formats import FORMATS
from tests.text.reader_run import hear, make_reader

HARMONY = FORMATS["harmony"]
FINAL = "<|start|>assistant<|channel|>final<|message|>"


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_each_channel_is_its_part(size: int) -> None:
    text = (
        "<|channel|>analysis<|message|>think < <|<|end|><|start|>assistant"
        "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
        "<|channel|>commentary to=functions.f <|constrain|>json<|message|>"
        ' {"a": "<|"} <|call|>' + FINAL + "Done.<|return|>"
    )
    heard = hear(HARMONY, text, size)
    assert ("think < <|", "I look.Done.") == (heard.thought, heard.answer)
    assert ([("f", "id0", '{"a": "<|"}')], "tacda") == (heard.calls, heard.order)


@pytest.mark.parametrize(
    "header",
    [
        " to=functions.f<|channel|>commentary json<|message|>",
        "<|channel|>commentary to=functions.f<|message|>",
        "<|channel|>analysis to=functions.f code<|message|>",
        "<|start|>assistant<|channel|>commentary to=f <|constrain|>json<|message|>",
    ],
)
@pytest.mark.parametrize("end", ["<|call|>", "<|end|>", "", "<|start|>"])
def test_headers_of_calls_differ(header: str, end: str) -> None:
    heard = hear(HARMONY, f'{header}{{"a": 1}}{end}')
    assert ([("f", "id0", '{"a": 1}')], "") == (heard.calls, heard.answer)


def test_a_body_without_text_is_an_empty_object() -> None:
    heard = hear(HARMONY, "<|channel|>commentary to=functions.f<|message|> <|call|>")
    assert [("f", "id0", "{}")] == heard.calls


def test_a_body_that_is_no_object_is_answer() -> None:
    heard = hear(HARMONY, "<|channel|>commentary to=functions.f<|message|> no<|call|>")
    assert (" no", []) == (heard.answer, heard.calls)


def test_text_after_the_object_is_answer() -> None:
    text = "<|channel|>commentary to=functions.f<|message|>{} no<|call|>"
    heard = hear(HARMONY, text)
    assert (" no", "cda") == (heard.answer, heard.order)


def test_arguments_that_are_cut_off_end_there() -> None:
    heard = hear(HARMONY, '<|channel|>commentary to=functions.f<|message|>{"a": "b')
    assert [("f", "id0", '{"a": "b')] == heard.calls


@pytest.mark.parametrize("text", ["Hello", " to you", "<b>", "<|chan", "x" * 2000])
def test_what_begins_with_no_header_is_answer(text: str) -> None:
    assert text == hear(HARMONY, text).answer


def test_a_header_without_end_is_answer_after_some_characters() -> None:
    text = "<|channel|>" + "a" * 2000
    assert text == hear(HARMONY, text).answer


def test_a_message_may_begin_without_the_end_of_the_last() -> None:
    text = "<|channel|>analysis<|message|>a<|channel|>final<|message|>b" + FINAL + "c"
    heard = hear(HARMONY, text)
    assert ("a", "bc") == (heard.thought, heard.answer)


def test_an_open_thought_goes_on() -> None:
    reader = make_reader(HARMONY, inside_thought=True)
    states = []
    for piece in (b"a", b"<|end|>", b"<|start|>assistant", b"<|channel|>final"):
        reader.feed(piece, None)
        states.append((reader.is_thinking, reader.n_reasoning_tokens))
    assert [(True, 1), (False, 2), (False, 2), (False, 2)] == states


def test_without_tools_there_are_no_calls() -> None:
    text = "<|channel|>commentary to=functions.f<|message|>{}<|call|>"
    heard = hear(HARMONY, text, tools=())
    assert ("{}", []) == (heard.answer, heard.calls)


def test_a_recipient_that_is_no_function_leaves_the_channel_to_decide() -> None:
    text = "<|channel|>analysis to=browser.search<|message|>{}<|end|>"
    assert "{}" == hear(HARMONY, text).thought


def test_the_text_of_a_call_is_the_formats_own() -> None:
    reader = make_reader(HARMONY)
    pieces = [b" to=functions.f<|channel|>commentary", b" json<|message|>{", b"}"]
    texts = [reader.feed(piece, None).call_text for piece in pieces]
    expected = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"
    assert [None, expected, None] == texts
    assert reader.finish().call_text is None


def test_stop_strings_count_in_the_answer() -> None:
    text = "<|channel|>analysis<|message|>STOP<|end|>" + FINAL + "a STOP b"
    heard = hear(HARMONY, text, stops=("STOP",))
    assert ("STOP", "a ", "STOP") == (heard.thought, heard.answer, heard.stop)

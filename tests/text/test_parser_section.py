"""Marks of a section: what models leave out, double and cut."""

import pytest

from tests.text.reader_formats import BAR, FORMATS, OUTPUTS
from tests.text.reader_run import hear

KIMI, MINIMAX = FORMATS["kimi"], FORMATS["minimax"]


def test_ids_that_hold_the_name_give_both() -> None:
    calls = hear(KIMI, OUTPUTS["kimi"]).calls
    assert [
        ("get_weather", "functions.get_weather:0"),
        ("ns.do-it", "functions.ns.do-it:1"),
    ] == [call[:2] for call in calls]


def test_an_id_without_number_is_a_name() -> None:
    text = OUTPUTS["kimi"].replace(":0", "").replace("functions.", "")
    assert ("get_weather", "id0") == hear(KIMI, text).calls[0][:2]


def test_ids_between_marks_are_the_models() -> None:
    calls = hear(FORMATS["small"], OUTPUTS["small"]).calls
    assert ["abcdefghi", "123456789"] == [call[1] for call in calls]


def test_an_id_may_be_left_out() -> None:
    heard = hear(FORMATS["small"], "[TOOL_CALLS]f[ARGS]{}")
    assert [("f", "id0", "{}")] == heard.calls


def test_a_section_mark_may_be_left_out_before_a_known_tool() -> None:
    heard = hear(MINIMAX, 'a <invoke name="f"></invoke>')
    assert ([("f", "id0", "{}")], "a") == (heard.calls, heard.answer)


def test_the_mark_of_a_call_before_another_name_is_text() -> None:
    text = 'a <invoke name="g"></invoke>'
    assert (text, []) == ((heard := hear(MINIMAX, text)).answer, heard.calls)


@pytest.mark.parametrize("name", ["minimax", "qwen3-coder", "deepseek-r1", "glm"])
def test_white_space_between_marks_is_free(name: str) -> None:
    tight = OUTPUTS[name].replace("\n<", "<").replace(">\n", ">")
    loose = OUTPUTS[name].replace("\n<b>", "").replace(">\n", "> \r\n\n")
    assert 2 == len(hear(FORMATS[name], tight).calls)
    assert 2 == len(hear(FORMATS[name], loose).calls)


def test_text_inside_a_section_ends_it_and_another_may_begin() -> None:
    begin, end = f"<{BAR}tool▁calls▁begin{BAR}>", f"<{BAR}tool▁calls▁end{BAR}>"
    call = f"<{BAR}tool▁call▁begin{BAR}>f<{BAR}tool▁sep{BAR}>{{}}"
    call += f"<{BAR}tool▁call▁end{BAR}>"
    heard = hear(FORMATS["deepseek-v3.1"], f"{begin}{call} so {call}{end} end")
    assert (2, " so end") == (len(heard.calls), heard.answer)


def test_words_of_an_end_mark_that_were_read_are_dropped() -> None:
    heard = hear(FORMATS["qwen3-coder"], "<tool_call><function=f></function> so")
    assert (1, " so") == (len(heard.calls), heard.answer)


def test_a_mark_that_begins_again_after_a_failure_is_found() -> None:
    text = '<tool_call><tool_<tool_call>\n{"name": "f"}</tool_call>'
    heard = hear(FORMATS["hermes"], text)
    assert ("<tool_call><tool_", 1) == (heard.answer, len(heard.calls))


@pytest.mark.parametrize("name", ["glm", "functionary", "kimi", "devstral", "gemma4"])
def test_an_impossible_name_is_no_call(name: str) -> None:
    calls = FORMATS[name].calls
    begin = f"{calls.section_begin}{calls.call_begin}"
    for called in ("a b", "", "x" * 300, 'f"'):
        text = f"{begin}{called}{calls.name_end}{{}}"
        heard = hear(FORMATS[name], text.strip())
        assert (text.strip(), []) == (heard.answer, heard.calls)


def test_a_single_object_may_stand_for_a_list() -> None:
    heard = hear(FORMATS["nemo"], '[TOOL_CALLS] {"name": "f"} then')
    assert ([("f", "id0", "{}")], " then") == (heard.calls, heard.answer)

"""What a person reads, and what a program reads."""

import json

from server.selftest.report import (
    CheckFailed,
    Report,
    Row,
    Status,
    encode_report,
    format_end,
    format_row,
)

GOOD = Row("chat", Status.OK, 1.5, detail="10 answers")
BAD = Row(
    "greedy, 1 at once",
    Status.FAILED,
    0.25,
    expected="'7 + 8 = 15'",
    actual="'7 + 8 = 16'",
    advice="word " * 30,
)
LEFT_OUT = Row("JSON", Status.NOT_RUN, 0.0, detail="because 'chat' failed")


def report(*rows):
    return Report(version="1.2", url="http://127.0.0.1:1", elapsed_s=2.0, rows=rows)


def test_a_row_is_one_aligned_line():
    assert "ok      chat         1.50 s  10 answers" == format_row(GOOD, name_width=10)


def test_a_row_is_broken_at_the_end_of_a_terminals_line():
    row = Row("chat", Status.OK, 1.5, detail="a first-class answer and then some more")
    assert [
        "ok      chat   1.50 s  a first-class answer and",
        "                       then some more",
    ] == format_row(row, name_width=4, line_width=50).splitlines()


def test_a_row_that_fits_is_not_broken():
    row = Row("chat", Status.OK, 1.5, detail="25 characters of an answer")
    assert 1 == len(format_row(row, name_width=4, line_width=49).splitlines())
    assert 2 == len(format_row(row, name_width=4, line_width=48).splitlines())


def test_a_very_narrow_terminal_breaks_no_words():
    row = Row("chat", Status.OK, 1.5, detail="a dozen answers and then some")
    first, second = format_row(row, name_width=4, line_width=10).splitlines()
    assert ("a dozen answers and", "then some") == (first[23:], second.strip())


def test_the_lines_of_a_failure_end_where_the_terminals_do():
    shown = format_row(BAD, name_width=17, line_width=60).splitlines()
    assert max(map(len, shown)) <= 60
    wide = format_row(BAD, name_width=17, line_width=200).splitlines()
    assert format_row(BAD, name_width=17).splitlines() == wide


def test_a_row_that_failed_says_expected_came_and_what_to_do():
    first, *lines = format_row(BAD, name_width=17).splitlines()
    assert "FAILED  greedy, 1 at once   0.25 s" == first
    assert [
        "        expected  '7 + 8 = 15'",
        "        came      '7 + 8 = 16'",
        "        do        " + "word " * 15 + "word",
    ] == lines[:3]
    assert lines[3].startswith(" " * 18 + "word")
    assert all(len(line) <= 100 for line in lines)


def test_a_row_that_was_not_run_has_no_time():
    shown = format_row(LEFT_OUT, name_width=4)
    assert "not run JSON           because 'chat' failed" == shown


def test_the_end_counts_and_judges():
    assert "1 checks in 2.0 s: 1 ok. This installation works." == format_end(
        report(GOOD)
    )
    assert (
        "3 checks in 2.0 s: 1 ok, 1 FAILED, 1 not run. Do not rely on this "
        "installation before it is repaired."
    ) == format_end(report(GOOD, BAD, LEFT_OUT))


def test_all_is_well_only_if_every_check_ran_and_passed():
    assert report(GOOD, GOOD).is_ok
    assert not report(GOOD, BAD).is_ok
    assert not report(GOOD, LEFT_OUT).is_ok


def test_the_document_has_all_fields():
    document = json.loads(encode_report(report(GOOD, BAD)))
    assert {
        "ok": False,
        "version": "1.2",
        "url": "http://127.0.0.1:1",
        "elapsed_s": 2.0,
    } == {key: value for key, value in document.items() if key != "checks"}
    good, bad = document["checks"]
    assert {
        "name": "chat",
        "status": "ok",
        "elapsed_s": 1.5,
        "detail": "10 answers",
        "expected": None,
        "actual": None,
        "advice": None,
    } == good
    assert ("failed", "'7 + 8 = 16'") == (bad["status"], bad["actual"])


def test_a_failure_as_text_has_both_sides():
    failure = CheckFailed(expected="a", actual="b", advice="c")
    assert "expected a, came b" == str(failure)

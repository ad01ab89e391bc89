"""The file of recorded answers: written, read, and refused where it is no such file."""

import json

import msgspec
import pytest

from model_store import builtin
from server.selftest.recorded import (
    KINDS,
    MAX_BYTES,
    BadRecording,
    read_recorded,
    write_recorded,
)
from tests.selftest.recorded_engine import make_recorded

RECORDED = make_recorded()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "recorded.json"
    write_recorded(path, RECORDED)
    return path


def test_what_was_written_is_read(file):
    assert RECORDED == read_recorded(file)


def test_each_answer_has_a_line_of_its_own(file):
    assert len(RECORDED.answers) + 2 == len(file.read_text().splitlines())
    assert len(RECORDED.answers) == len(json.loads(file.read_text())["answers"])


def test_the_first_answer_of_a_kind_is_found():
    assert RECORDED.answers[3] == RECORDED.of_kind(RECORDED.answers[3].kind)


def refuse(path, words):
    with pytest.raises(BadRecording, match=words) as raised:
        read_recorded(path)
    assert str(raised.value).startswith(str(path))


def test_a_missing_file_is_told(tmp_path):
    refuse(tmp_path / "none.json", "cannot be read: No such file")


def test_a_file_that_is_too_large_is_not_parsed(file):
    file.write_bytes(b"[" * (MAX_BYTES + 1))
    refuse(file, f"has more than {MAX_BYTES} bytes")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "cannot be understood: Invalid enum value 2"),
        ({"sha256": 5}, r"cannot be understood: Expected `str`, got `int` - at `\$\."),
        ({"more": 1}, "cannot be understood: Object contains unknown field `more`"),
        ({"answers": []}, "has no answer of the kind identity, cloister, howto"),
    ],
)
def test_a_file_of_another_form_is_refused(file, change, words):
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    refuse(file, words)


def test_text_that_is_no_json_is_refused(file):
    file.write_text("GGUF")
    refuse(file, "cannot be understood: JSON is malformed")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_needed(file, kind):
    kept = tuple(answer for answer in RECORDED.answers if answer.kind != kind)
    write_recorded(file, msgspec.structs.replace(RECORDED, answers=kept))
    refuse(file, f"has no answer of the kind {kind}$")


def test_a_recorded_call_is_read():
    call = RECORDED.of_kind("calls").read_call()
    assert ("get", {"city": "Rome"}) == (call.name, call.arguments)
    assert 'get {"city": "Rome"}' == call.show()


def test_the_keys_of_a_recorded_object_are_read_in_their_order():
    assert ("name", "age") == RECORDED.of_kind("records").read_keys()


def test_a_recorded_thought_is_split_off_where_it_was_asked_for():
    assert ("Hm, 7 and 8.", "7 + 8 = 15") == RECORDED.of_kind(
        "thinking"
    ).split_thought()
    assert ("", "I am here.") == RECORDED.of_kind("no_thinking").split_thought()


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("calls", "Hello.", "no tool call: 'Hello.'"),
        ("calls", "<tool_call>\n{}\n</tool_call>", "missing required field `name`"),
        ("calls", "<tool_call>\n{\n</tool_call>", "JSON is malformed|truncated"),
        ("records", '["name"]', "Expected `object`, got `array`"),
        ("records", "{}", "no keys: {}"),
        ("thinking", "Hello.", "no thought: 'Hello.'"),
        ("thinking", "<think>\nHm.\n</think>\n\n", "no thought: "),
    ],
)
def test_a_text_that_is_not_what_its_kind_says_is_refused(file, kind, text, words):
    number = KINDS.index(kind)
    answers = list(RECORDED.answers)
    answers[number] = msgspec.structs.replace(answers[number], text=text)
    write_recorded(file, msgspec.structs.replace(RECORDED, answers=tuple(answers)))
    refuse(file, rf"answers\[{number}\] has .*({words})")


@pytest.mark.skipif(
    not builtin.is_present(), reason=f"{builtin.MODEL_NAME} is not in this checkout"
)
def test_the_packages_answers_are_of_the_packages_model_and_sure():
    recorded = read_recorded(builtin.DIRECTORY / builtin.EXPECTED_NAME)
    assert builtin.check_digest().sha256 == recorded.sha256
    assert 0.5 == recorded.min_gap
    assert all(answer.gap >= recorded.min_gap for answer in recorded.answers)

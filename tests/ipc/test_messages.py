"""Every message survives the way, and nothing else is taken for one."""

import json
import subprocess
import sys
from typing import Literal, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core import events, requests
from server.core.errors import ErrorInfo
from server.ipc import messages
from server.ipc.messages import (
    Answered,
    Cancel,
    Command,
    Events,
    Hello,
    Load,
    Report,
    RequestEvent,
    RunGenerate,
    RunInquiry,
    Stop,
    decode_command,
    decode_report,
    encode_message,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
SMALL = st.integers(0, 2**31)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)

LEAVES = {int: SMALL, float: FLOAT, str: TEXT}


@st.composite
def structs(draw, kind):
    """Draw a struct with all of its fields, from the types it declares."""
    values = {
        field.name: draw(values_of(field.type))
        for field in msgspec.structs.fields(kind)
    }
    return kind(**values)


def values_of(declared):  # noqa: PLR0911 - one for each sort of type
    if declared in LEAVES:
        return LEAVES[declared]
    if isinstance(declared, type) and issubclass(declared, msgspec.Struct):
        return structs(declared)
    origin = getattr(declared, "__origin__", None)
    arguments = get_args(declared)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values_of(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values_of, arguments))
    if origin is dict:
        return st.dictionaries(TEXT, JSON, max_size=2)
    if arguments:
        return st.one_of(*map(values_of, arguments))
    return st.from_type(declared)


def make_load(path):
    return Load(
        instance_id="i",
        paths=(path,),
        embedding=False,
        n_ctx=1,
        n_cells=1,
        parallel=1,
        n_threads=1,
    )


def kinds(union):
    return [pytest.param(kind, id=kind.__name__) for kind in get_args(union)]


@pytest.mark.parametrize("kind", kinds(Command))
def test_commands_come_back_as_they_were(kind):
    @settings(max_examples=20)
    @given(structs(kind))
    def check(command):
        assert command == decode_command(encode_message(command))

    check()


@pytest.mark.parametrize("kind", kinds(Report))
def test_reports_come_back_as_they_were(kind):
    @settings(max_examples=20)
    @given(structs(kind))
    def check(report):
        assert report == decode_report(encode_message(report))

    check()


@pytest.mark.parametrize("kind", kinds(events.Event))
def test_events_come_back_as_they_were(kind):
    @settings(max_examples=20)
    @given(structs(kind))
    def check(event):
        report = Events((RequestEvent("r", event),))
        assert report == decode_report(encode_message(report))

    check()


@pytest.mark.parametrize("kind", kinds(requests.Inquiry))
def test_questions_come_back_as_they_were(kind):
    @settings(max_examples=20)
    @given(structs(kind))
    def check(question):
        command = RunInquiry(question)
        assert command == decode_command(encode_message(command))

    check()


@pytest.mark.parametrize("kind", kinds(requests.InquiryResult))
def test_answers_come_back_as_they_were(kind):
    @settings(max_examples=20)
    @given(structs(kind))
    def check(answer):
        report = Answered("r", answer)
        assert report == decode_report(encode_message(report))

    check()


def test_bytes_that_are_no_characters_survive():
    """Token pieces and paths need not be text."""
    record = events.TokenLogprob(1, b"\xff\xc3", -0.5, ())
    report = Events((RequestEvent("r", events.TextDelta(0, "x", (record,))),))
    assert report == decode_report(encode_message(report))
    load = make_load(b"/m/\xff.gguf")
    assert load == decode_command(encode_message(load))


def test_a_command_is_no_report_and_a_report_no_command():
    with pytest.raises(msgspec.DecodeError):
        decode_report(encode_message(Cancel("r")))
    with pytest.raises(msgspec.DecodeError):
        decode_command(encode_message(Hello(1, 2, "x")))


@given(st.binary(max_size=60))
def test_garbage_is_refused_and_never_anything_else(payload):
    for decode in (decode_command, decode_report):
        try:
            decoded = decode(payload)
        except msgspec.DecodeError:
            continue
        assert payload[:1] != b""
        assert isinstance(decoded, msgspec.Struct)


@pytest.mark.parametrize("position", range(0, 40, 3))
def test_a_cut_message_is_refused(position):
    load = make_load(b"/m/a.gguf")
    with pytest.raises(msgspec.DecodeError):
        decode_command(encode_message(load)[:position])


def test_numbers_of_a_wrong_kind_are_refused():
    payload = msgspec.msgpack.encode({"type": "cancel", "request_id": 7})
    with pytest.raises(msgspec.ValidationError, match="Expected `str`, got `int`"):
        decode_command(payload)


def test_tags_tell_all_messages_apart():
    unions = (requests.Inquiry, requests.InquiryResult, requests.Constraint)
    for union in (Command, Report, events.Event, *unions):
        tags = [kind.__struct_config__.tag for kind in get_args(union)]
        assert len(set(tags)) == len(tags)


def test_a_text_delta_stays_small():
    """One of these goes over the channel for every token."""
    item = RequestEvent("chatcmpl-0123456789", events.TextDelta(0, " word"))
    assert len(encode_message(Events((item,)))) < 80


def test_defaults_are_filled_in_where_an_older_peer_left_them_out():
    request = requests.Generate(id="r", model="m", prompt=requests.TextPrompt("x"), n=3)
    decoded = decode_command(encode_message(RunGenerate(request)))
    assert request == decoded.request
    assert requests.Sampling() == decoded.request.sampling
    error = ErrorInfo("code", "message")
    assert error == msgspec.msgpack.decode(
        msgspec.msgpack.encode(error), type=ErrorInfo
    )


def test_importing_the_contract_loads_no_web_framework():
    code = "import json, sys, server.ipc.messages; print(json.dumps([*sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, timeout=30
    )
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"fastapi", "starlette", "pydantic", "uvicorn", "numpy"}
    assert messages.__name__ == "server.ipc.messages"
    assert b"stop" in encode_message(Stop())

"""`server.logs`: the form of a line."""

import io
import logging
import re
import time

import pytest

from server.logs import configure_logging, tag_request


@pytest.fixture
def stream():
    """Log into a text; put everything back afterwards."""
    names = ("", "uvicorn", "uvicorn.error", "uvicorn.access", "asyncio")
    loggers = [logging.getLogger(name) for name in (*names, "sse_starlette")]
    saved = [(x, x.handlers[:], x.level, x.disabled, x.propagate) for x in loggers]
    text = io.StringIO()
    configure_logging("info", text)
    yield text
    for logger, handlers, level, disabled, propagate in saved:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.disabled = disabled
        logger.propagate = propagate


def test_a_line_has_utc_time_with_ms_level_short_name_and_message(stream):
    logging.getLogger("server.engine.pool").info("loaded %s", "qwen")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO engine\.pool: loaded qwen\n",
        stream.getvalue(),
    )


def test_the_time_is_the_records_in_utc_wherever_the_machine_is(stream, monkeypatch):
    monkeypatch.setenv("TZ", "XXX-5")
    time.tzset()
    facts = {"name": "x", "msg": "y", "levelno": 20, "levelname": "INFO"}
    record = logging.makeLogRecord(facts)
    record.created, record.msecs = 0.5, 500.0
    logging.getLogger().handle(record)
    monkeypatch.undo()
    time.tzset()
    assert stream.getvalue().startswith("1970-01-01T00:00:00.500Z INFO ")


def test_a_message_stays_on_one_line(stream):
    logging.getLogger("server").info("a\nb\r\x1b[2J")
    assert stream.getvalue().endswith("server: a\\nb\\r?[2J\n")
    assert 1 == stream.getvalue().count("\n")


def test_the_id_of_a_request_is_added_inside_it_only(stream):
    with tag_request("r-17"):
        logging.getLogger("server").info("in")
    logging.getLogger("server").info("out")
    lines = stream.getvalue().splitlines()
    assert ["in [r-17]", "out"] == [line.partition(": ")[2] for line in lines]


def test_lower_levels_and_access_lines_are_dropped(stream):
    logging.getLogger("server").debug("no")
    logging.getLogger("uvicorn.access").error("no")
    logging.getLogger("uvicorn.error").info("no")
    assert "" == stream.getvalue()


def test_a_traceback_follows_its_line(stream):
    try:
        raise KeyError("k")  # noqa: TRY301 - a traceback is wanted
    except KeyError:
        logging.getLogger("server").exception("went wrong")
    assert "ERROR server: went wrong\nTraceback (most recent" in stream.getvalue()

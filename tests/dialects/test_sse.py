import json
import time
from contextlib import closing

import msgspec
import pytest

from server.core.events import PromptProgress, Started
from server.dialects.sse import frame
from tests.fake_engine import FOREVER_S, TINY, FakeEngine, answer
from tests.live_server import open_raw, post_bytes, read_all, read_until, split_response

STREAM = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "hi"}],
    "stream": True,
}
STARTED = Started(instance_id=TINY.id, prompt_tokens=3)


@pytest.fixture
def open_stream(serve):
    """Send a streaming chat request and hand back the socket."""

    def open_stream(engine, **settings):
        client = open_raw(serve(engine, **settings))
        body = json.dumps(STREAM).encode()
        client.sendall(post_bytes("/v1/chat/completions", body))
        return closing(client)

    return open_stream


def test_a_frame_is_one_data_line_whatever_the_text_holds():
    text = 'a\n\r\n\u2028"é'
    framed = frame({"t": text}, event="error")
    assert framed.startswith(b"event: error\ndata: {")
    assert framed.endswith(b"}\n\n")
    assert 3 == framed.count(b"\n")
    payload = framed.removeprefix(b"event: error\ndata: ").strip()
    assert {"t": text} == msgspec.json.decode(payload)


def test_headers_forbid_caching_and_buffering(open_stream):
    with open_stream(FakeEngine()) as client:
        status, headers, _ = split_response(read_all(client))
    assert 200 == status
    assert "text/event-stream; charset=utf-8" == headers["content-type"]
    assert "no-cache" == headers["cache-control"]
    assert "no" == headers["x-accel-buffering"]
    assert headers["x-request-id"].startswith("req_")


def test_silence_is_broken_by_comments_and_not_by_cancelling(open_stream):
    engine = FakeEngine([STARTED, 0.55, *answer("late")[1:]])
    with open_stream(engine, heartbeat_s=0.1) as client:
        _, _, body = split_response(read_all(client))
    comments = body.count(b": heartbeat\n\n")
    assert 4 <= comments <= 5
    assert b'"content":"late"' in body
    assert body.endswith(b"data: [DONE]\n\n")
    assert not engine.cancelled.is_set()


def test_events_that_send_nothing_do_not_put_off_the_heartbeat(open_stream):
    progress = [s for n in range(20) for s in (0.03, PromptProgress(n, 20))]
    engine = FakeEngine([STARTED, *progress, *answer("late")[1:]])
    with open_stream(engine, heartbeat_s=0.15) as client:
        _, _, body = split_response(read_all(client))
    assert body.count(b": heartbeat\n\n") >= 3


def test_a_busy_stream_has_no_heartbeat(open_stream):
    texts = [step for delta in answer(*"abcdefgh")[1:9] for step in (0.05, delta)]
    engine = FakeEngine([STARTED, *texts, *answer()[1:]])
    with open_stream(engine, heartbeat_s=0.25) as client:
        _, _, body = split_response(read_all(client))
    assert b"heartbeat" not in body
    assert body.count(b'"content"') == 8


def test_a_client_that_leaves_in_mid_stream_cancels_within_a_second(open_stream):
    engine = FakeEngine([*answer("a")[:2], FOREVER_S])
    with open_stream(engine) as client:
        read_until(client, b'"content":"a"')
        assert not engine.cancelled.is_set()
    assert engine.cancelled.wait(1.0)
    assert 0 == engine.n_running


def test_deltas_are_sent_as_they_come(open_stream):
    engine = FakeEngine([*answer("first")[:2], FOREVER_S])
    begun = time.monotonic()
    with open_stream(engine) as client:
        assert b'"content":"first"' in read_until(client, b'"content":"first"')
    assert time.monotonic() - begun < 2.0


def test_a_generation_without_a_result_ends_the_stream_with_an_error(open_stream):
    with open_stream(FakeEngine(answer("a")[:2])) as client:
        _, _, body = split_response(read_all(client))
    assert b"[DONE]" not in body
    *_, last, end = body.split(b"\n\n")
    assert b"" == end
    name, data = last.split(b"\n")
    assert b"event: error" == name
    error = json.loads(data.removeprefix(b"data: "))["error"]
    assert ("engine_failed", "server_error") == (error["code"], error["type"])


def test_an_unforeseen_error_ends_the_stream_without_internals(open_stream, caplog):
    engine = FakeEngine([*answer("a")[:2], RuntimeError("secret")])
    with open_stream(engine) as client:
        _, headers, body = split_response(read_all(client))
    assert b'"content":"a"' in body
    assert b"secret" not in body
    assert b"event: error\n" in body
    assert headers["x-request-id"].encode() in body
    assert [headers["x-request-id"] in r.getMessage() for r in caplog.records] == [True]


def test_a_stopping_server_ends_streams_with_an_error_after_the_grace(
    open_stream, monkeypatch
):
    from sse_starlette.sse import AppStatus  # noqa: PLC0415

    engine = FakeEngine([*answer("a")[:2], FOREVER_S])
    with open_stream(engine, shutdown_grace_s=0.2) as client:
        head = read_until(client, b'"content":"a"')
        monkeypatch.setattr(AppStatus, "should_exit", True)
        _, _, body = split_response(head + read_all(client))
        monkeypatch.undo()
    assert b'"code":"shutting_down"' in body
    assert b"[DONE]" not in body
    assert engine.cancelled.wait(1.0)


def test_a_stream_may_finish_while_the_server_stops(open_stream, monkeypatch):
    from sse_starlette.sse import AppStatus  # noqa: PLC0415

    engine = FakeEngine([*answer("a")[:2], 1.2, *answer("b")[1:]])
    with open_stream(engine, shutdown_grace_s=5.0) as client:
        head = read_until(client, b'"content":"a"')
        monkeypatch.setattr(AppStatus, "should_exit", True)
        _, _, body = split_response(head + read_all(client))
        monkeypatch.undo()
    assert b'"content":"b"' in body
    assert body.endswith(b"data: [DONE]\n\n")

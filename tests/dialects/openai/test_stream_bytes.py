import json
import re

from server.core.errors import WorkerCrashed
from server.core.events import Failed, Finished, FinishReason, Timings, Usage
from tests.fake_engine import FakeEngine, answer
from tests.live_server import exchange, post_bytes

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
FINISHED = Finished(Usage(12, 9, 4, 5), Timings(0.0, 0.1, 0.2))


def normal(body: bytes) -> str:
    """Replace what differs from run to run."""
    text = re.sub(r'"id":"(chatcmpl|cmpl)-[0-9a-z]{21}"', r'"id":"\1-0"', body.decode())
    return re.sub(r'"created":\d{10}', '"created":0', text)


HEAD = (
    '"id":"chatcmpl-0","object":"chat.completion.chunk","created":0,'
    '"model":"acme/tiny-1b","system_fingerprint":"acme/tiny-1b"'
)


def chunk(delta: str, reason: str = "null", more: str = "") -> str:
    return (
        f'data: {{{HEAD},"choices":[{{"index":0,"delta":{delta},"logprobs":null,'
        f'"finish_reason":{reason}}}]{more}}}\n\n'
    )


def stream_of(serve, engine, path="/v1/chat/completions", **fields):
    body = json.dumps({**CHAT, "stream": True, **fields}).encode()
    status, headers, data = exchange(serve(engine), post_bytes(path, body))
    assert 200 == status, data
    assert "text/event-stream; charset=utf-8" == headers["content-type"]
    return normal(data)


def test_the_bytes_of_a_stream(serve):
    engine = FakeEngine(answer("Héllo", " wor\nld"))
    assert (
        chunk('{"role":"assistant"}')
        + chunk('{"content":"Héllo"}')
        + chunk('{"content":" wor\\nld"}')
        + chunk("{}", '"stop"')
        + "data: [DONE]\n\n"
    ) == stream_of(serve, engine)


def test_the_bytes_of_a_stream_with_usage(serve):
    engine = FakeEngine([*answer("a")[:-1], FINISHED])
    null = ',"usage":null'
    assert (
        chunk('{"role":"assistant"}', more=null)
        + chunk('{"content":"a"}', more=null)
        + chunk("{}", '"stop"', null)
        + f'data: {{{HEAD},"choices":[],"usage":{{"prompt_tokens":12,'
        '"completion_tokens":9,"total_tokens":21,"prompt_tokens_details":'
        '{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":5}}}\n\n'
        "data: [DONE]\n\n"
    ) == stream_of(serve, engine, stream_options={"include_usage": True})


def test_the_bytes_of_a_stream_that_breaks(serve):
    crash = Failed(WorkerCrashed("The worker died. Send the request again.").to_info())
    engine = FakeEngine([*answer("a")[:2], 0.05, crash, *answer("never")[1:]])
    assert (
        chunk('{"role":"assistant"}')
        + chunk('{"content":"a"}')
        + 'event: error\ndata: {"error":{"message":"The worker died. Send the '
        'request again.","type":"server_error","param":null,'
        '"code":"worker_crashed"}}\n\n'
    ) == stream_of(serve, engine)


def test_the_bytes_of_a_completion_stream(serve):
    head = HEAD.replace("chatcmpl-0", "cmpl-0").replace(
        "chat.completion.chunk", "text_completion"
    )
    assert (
        f'data: {{{head},"choices":[{{"index":0,"text":"a","logprobs":null,'
        '"finish_reason":null}]}\n\n'
        f'data: {{{head},"choices":[{{"index":0,"text":"","logprobs":null,'
        '"finish_reason":"length"}]}\n\n'
        "data: [DONE]\n\n"
    ) == stream_of(
        serve,
        FakeEngine(answer("a", reason=FinishReason.MAX_TOKENS)),
        "/v1/completions",
        prompt="p",
    )

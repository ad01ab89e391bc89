import json
import re
import time
from contextlib import closing

import openai
import pytest

from server.core.errors import ContextLengthExceeded, InvalidRequest, WorkerCrashed
from server.core.events import (
    ChoiceFinished,
    Failed,
    Finished,
    FinishReason,
    Started,
    TextDelta,
    Timings,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from tests.fake_engine import (
    FOREVER_S,
    TINY,
    VARIANT,
    FakeEngine,
    answer,
    call_tools,
)
from tests.live_server import (
    exchange,
    open_raw,
    post_bytes,
    post_json,
    read_all,
)

MESSAGES = [{"role": "user", "content": "hi"}]
CHAT = {"model": "tiny", "messages": MESSAGES}
FINISHED = Finished(Usage(12, 9, 4, 5), Timings(0.0, 0.1, 0.2))
TEXT_PART = {"type": "text", "text": "2"}
TOOLS = [
    {"type": "function", "function": {"name": "get-it", "parameters": {}}},
    {"type": "function", "function": {"name": "Sub.x"}},
]
CALLS = call_tools(
    ("11", "get-it", ('{"a"', ":1}")),
    ("12", "Sub.x", ("{}",)),
    thought=("hm", "m"),
    text=("Wa", "it."),
)
OVERFLOW = Failed(ContextLengthExceeded(n_prompt=9000, n_ctx=4096).to_info())


@pytest.fixture
def client_of(serve):
    """Give an official client of a server on this engine."""
    with_clients = []

    def client_of(engine):
        base_url = f"http://127.0.0.1:{serve(engine)}/v1"
        client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)
        with_clients.append(client)
        return client

    yield client_of
    for client in with_clients:
        client.close()


@pytest.mark.parametrize("stream", [False, True])
def test_an_overlong_prompt_is_a_400_with_both_counts(serve, stream):
    port = serve(FakeEngine([OVERFLOW]))
    status, _, body = post_json(
        port, "/v1/chat/completions", {**CHAT, "stream": stream}
    )
    assert (400, "context_length_exceeded", "messages") == (
        status,
        body["error"]["code"],
        body["error"]["param"],
    )
    assert "9000" in body["error"]["message"]
    assert "4096" in body["error"]["message"]


def test_an_overlong_prompt_among_several_is_a_400_too(serve):
    engine = FakeEngine(
        lambda request: [OVERFLOW] if request.prompt.text == "long" else answer("a")
    )
    port = serve(engine)
    body = {"model": "tiny", "prompt": ["short", "long"], "stream": True}
    assert 400 == post_json(port, "/v1/completions", body)[0]
    assert 0 == engine.n_running


def test_the_client_chats(client_of):
    engine = FakeEngine([*answer("Hello", " world")[:-1], FINISHED])
    completion = client_of(engine).chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "hi"}],
        temperature=0.5,
        seed=7,
        logit_bias={"5": -100},
        extra_body={"top_k": 3, "min_p": 0.1},
    )
    (choice,) = completion.choices
    assert ("Hello world", "stop") == (choice.message.content, choice.finish_reason)
    assert (12, 9, 21) == (
        completion.usage.prompt_tokens,
        completion.usage.completion_tokens,
        completion.usage.total_tokens,
    )
    assert 4 == completion.usage.prompt_tokens_details.cached_tokens
    assert re.fullmatch(r"chatcmpl-[0-9a-z]{21}", completion.id)
    assert abs(completion.created - time.time()) < 60
    assert TINY.id == completion.model == completion.system_fingerprint
    (request,) = engine.requests
    assert completion.id == request.id
    assert (0.5, 3, 0.1, 7, ((5, -100.0),)) == (
        request.sampling.temperature,
        request.sampling.top_k,
        request.sampling.min_p,
        request.sampling.seed,
        request.sampling.logit_bias,
    )


def test_the_client_streams_what_it_would_have_got_at_once(client_of):
    engine = FakeEngine([*answer("Hello", " world")[:-1], FINISHED])
    client = client_of(engine)
    whole = client.chat.completions.create(model="tiny", messages=MESSAGES)
    chunks = list(
        client.chat.completions.create(
            model="tiny",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert 1 == len({(c.id, c.created, c.model) for c in chunks})
    assert whole.choices[0].message.content == "".join(
        choice.delta.content or "" for c in chunks for choice in c.choices
    )
    assert whole.usage == chunks[-1].usage


def test_the_client_joins_parallel_tool_calls_and_thinking(client_of):
    client = client_of(FakeEngine(CALLS))
    with client.chat.completions.stream(
        model="tiny", messages=MESSAGES, tools=TOOLS
    ) as stream:
        (streamed,) = stream.get_final_completion().choices
    (whole,) = client.chat.completions.create(
        model="tiny", messages=MESSAGES, tools=TOOLS
    ).choices
    for choice in (streamed, whole):
        assert "tool_calls" == choice.finish_reason
        assert ("Wait.", "hmm") == (
            choice.message.content,
            choice.message.reasoning_content,
        )
        assert [("11", "get-it", '{"a":1}'), ("12", "Sub.x", "{}")] == [
            (call.id, call.function.name, call.function.arguments)
            for call in choice.message.tool_calls
        ]


def test_an_answer_can_be_sent_back_as_it_came(client_of):
    engine = FakeEngine(CALLS)
    client = client_of(engine)
    first = client.chat.completions.create(
        model="tiny", messages=MESSAGES, tools=TOOLS
    ).choices[0]
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": [TEXT_PART]}
        for call in first.message.tool_calls
    ]
    client.chat.completions.create(
        model="tiny",
        messages=[*MESSAGES, first.message, *results],
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "Sub.x"}},
    )
    prompt = engine.requests[-1].prompt
    past = prompt.messages[1]
    assert "hmm" == past.reasoning
    assert [("11", "get-it"), ("12", "Sub.x")] == [
        (call.id, call.name) for call in past.tool_calls
    ]
    assert ["11", "12"] == [message.tool_call_id for message in prompt.messages[2:]]
    assert ("Sub.x",) == prompt.tool_choice.names


def test_the_client_gets_the_older_form_for_older_fields(client_of):
    client = client_of(FakeEngine(CALLS))
    asked = {"model": "tiny", "messages": MESSAGES, "functions": [{"name": "get-it"}]}
    (choice,) = client.chat.completions.create(**asked).choices
    called = choice.message.function_call
    assert ("get-it", '{"a":1}') == (called.name, called.arguments)
    assert ("function_call", None) == (choice.finish_reason, choice.message.tool_calls)
    chunks = list(client.chat.completions.create(**asked, stream=True))
    pieces = [
        chunk.choices[0].delta.function_call
        for chunk in chunks
        if chunk.choices[0].delta.function_call
    ]
    assert "get-it" == "".join(piece.name or "" for piece in pieces)
    assert '{"a":1}' == "".join(piece.arguments for piece in pieces)


@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_are_left_out_where_they_are_not_wanted(serve, stream):
    port = serve(FakeEngine(CALLS))
    body = {**CHAT, "stream": stream, "include_reasoning": False}
    _, _, answered = exchange(
        port, post_bytes("/v1/chat/completions", json.dumps(body).encode())
    )
    assert b"reasoning_content" not in answered
    assert b"it." in answered


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_warnings_are_headers(serve, stream, path):
    warnings = ("'pattern' was relaxed.", "'é' too.")
    port = serve(FakeEngine(call_tools(text=["a"], warnings=warnings)))
    body = {**CHAT, "prompt": "x", "stream": stream}
    with closing(open_raw(port)) as client:
        client.sendall(post_bytes(path, json.dumps(body).encode()))
        head, _, _ = read_all(client).partition(b"\r\n\r\n")
    shown = [line for line in head.split(b"\r\n") if line.startswith(b"x-cloister")]
    assert [
        b"x-cloister-warning: 'pattern' was relaxed.",
        rb"x-cloister-warning: '\xe9' too.",
    ] == shown


def test_the_client_reads_several_choices_and_log_probabilities(client_of):
    token = TokenLogprob(5, b"a", -0.5, (TopLogprob(5, b"a", -0.5),))
    engine = FakeEngine(
        [
            Started(TINY.id, 3),
            TextDelta(1, "b"),
            TextDelta(0, "a", (token,)),
            ChoiceFinished(0, FinishReason.EOS),
            ChoiceFinished(1, FinishReason.EOS),
            FINISHED,
        ]
    )
    completion = client_of(engine).chat.completions.create(
        model="tiny", messages=MESSAGES, n=2, logprobs=True, top_logprobs=1
    )
    first, second = completion.choices
    assert ("a", "b") == (first.message.content, second.message.content)
    (shown,) = first.logprobs.content
    assert ("a", [97], -0.5) == (shown.token, shown.bytes, shown.logprob)
    assert ["a"] == [top.token for top in shown.top_logprobs]
    assert (2, 1) == (engine.requests[0].n, engine.requests[0].top_logprobs)


def test_the_client_completes_several_prompts_in_order(client_of):
    engine = FakeEngine(
        lambda request: [
            0.05 if request.prompt.text == "slow" else 0.0,
            *answer(request.prompt.text),
        ]
    )
    client = client_of(engine)
    completion = client.completions.create(model="tiny", prompt=["slow", "b", "c"])
    assert [(0, "slow"), (1, "b"), (2, "c")] == [
        (choice.index, choice.text) for choice in completion.choices
    ]
    assert (9, 3) == (
        completion.usage.prompt_tokens,
        completion.usage.completion_tokens,
    )
    streamed = client.completions.create(
        model="tiny",
        prompt=["slow", "b", "c"],
        stream=True,
        stream_options={"include_usage": True},
    )
    texts = ["", "", ""]
    for part in streamed:
        for choice in part.choices:
            texts[choice.index] += choice.text
    assert ["slow", "b", "c"] == texts
    assert completion.usage == part.usage
    assert len({request.id for request in engine.requests}) == 6


def test_more_prompts_than_run_at_once_are_all_answered(client_of):
    engine = FakeEngine(lambda request: [0.01, *answer(request.prompt.text)])
    prompts = [str(number) for number in range(70)]
    completion = client_of(engine).completions.create(model="tiny", prompt=prompts)
    assert prompts == [choice.text for choice in completion.choices]


def test_the_client_embeds_as_base64_and_as_numbers(client_of):
    engine = FakeEngine()
    client = client_of(engine)
    default = client.embeddings.create(model=VARIANT.id, input=["a", "bc"])
    numbers = client.embeddings.create(
        model=VARIANT.id, input=["a", "bc"], encoding_format="float"
    )
    for shown in (default, numbers):
        assert [(0, [0.5, -1.0]), (1, [0.5, -2.0])] == [
            (item.index, item.embedding) for item in shown.data
        ]
        assert (3, 3) == (shown.usage.prompt_tokens, shown.usage.total_tokens)
        assert VARIANT.id == shown.model


@pytest.mark.parametrize("name", [TINY.id, VARIANT.id, "tiny"])
def test_the_client_finds_models_by_any_name(client_of, name):
    client = client_of(FakeEngine())
    assert [TINY.id, VARIANT.id] == [model.id for model in client.models.list()]
    expected = TINY.id if name == "tiny" else name
    assert expected == client.models.retrieve(name).id


@pytest.mark.parametrize(
    "path",
    [
        "acme/tiny-1b",
        "acme%2Ftiny-1b",
        "acme%2ftiny-1b",
        "mini@q8_0:2",
        "mini%40q8_0%3A2",
    ],
)
def test_a_model_id_may_be_raw_or_percent_encoded(serve, path):
    lines = (f"GET /v1/models/{path} HTTP/1.1", "Host: localhost", "Connection: close")
    request = "\r\n".join((*lines, "", ""))
    status, _, body = exchange(serve(FakeEngine()), request.encode())
    assert 200 == status
    assert json.loads(body)["id"] in {TINY.id, VARIANT.id}


def test_the_client_raises_what_the_server_means(client_of):
    client = client_of(FakeEngine([OVERFLOW]))
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("no/such")
    assert ("model_not_found", "model") == (missing.value.code, missing.value.param)
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="no/such", messages=MESSAGES)
    assert "Available models: acme/tiny-1b, mini@q8_0:2." in str(unknown.value)
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="no/such", input="a")
    with pytest.raises(openai.BadRequestError) as overlong:
        list(
            client.chat.completions.create(model="tiny", messages=MESSAGES, stream=True)
        )
    assert "context_length_exceeded" == overlong.value.code


def test_the_client_raises_on_a_stream_that_breaks(client_of):
    crash = Failed(WorkerCrashed("The worker died.").to_info())
    client = client_of(FakeEngine([*answer("a")[:2], 0.05, crash]))
    stream = client.chat.completions.create(
        model="tiny", messages=MESSAGES, stream=True
    )
    with pytest.raises(openai.APIError, match="The worker died"):
        list(stream)


def test_a_leaving_client_cancels_its_embedding(serve):
    engine = FakeEngine(embed_delay_s=FOREVER_S)
    body = json.dumps({"model": VARIANT.id, "input": "a"}).encode()
    with closing(open_raw(serve(engine))) as client:
        client.sendall(post_bytes("/v1/embeddings", body))
        assert engine.started.wait(5.0)
    assert engine.cancelled.wait(1.0)


def test_a_leaving_client_cancels_all_its_prompts(serve):
    engine = FakeEngine([Started(TINY.id, 1), FOREVER_S])
    body = {"model": "tiny", "prompt": ["a"] * 40, "n": 2}
    with closing(open_raw(serve(engine))) as client:
        client.sendall(post_bytes("/v1/completions", json.dumps(body).encode()))
        give_up = time.monotonic() + 5.0
        while engine.n_running < 32 and time.monotonic() < give_up:
            time.sleep(0.01)
        assert 32 == engine.n_running
    give_up = time.monotonic() + 1.0
    while engine.n_running and time.monotonic() < give_up:
        time.sleep(0.01)
    assert (0, 32) == (engine.n_running, len(engine.requests))


def test_an_embedding_error_of_the_engine_has_its_own_status(serve):
    class Refusing(FakeEngine):
        async def embed(self, request):  # noqa: ARG002  the protocol's name
            raise InvalidRequest("Too many dimensions.", param="dimensions")

    status, _, body = post_json(
        serve(Refusing()), "/v1/embeddings", {"model": "m", "input": "a"}
    )
    assert (400, "dimensions") == (status, body["error"]["param"])

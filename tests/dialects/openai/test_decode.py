import pytest

from server.core.errors import InvalidRequest
from server.core.requests import (
    ChatPrompt,
    Generate,
    JsonSchema,
    Message,
    OneOf,
    Reasoning,
    Sampling,
    Text,
    TextPrompt,
    TokenPrompt,
    Tool,
    ToolChoice,
)
from server.dialects.openai.decode import decode_chat, decode_completion
from server.dialects.openai.wire import ChatRequest, CompletionRequest

MESSAGES = [{"role": "user", "content": "hi"}]


def chat(**fields):
    wire = ChatRequest.model_validate({"model": "m", "messages": MESSAGES, **fields})
    return decode_chat(wire, request_id="r")


def completion(**fields):
    wire = CompletionRequest.model_validate({"model": "m", "prompt": "p", **fields})
    return decode_completion(wire, request_id="r")


def refusal(decode, **fields):
    with pytest.raises(InvalidRequest) as caught:
        decode(**fields)
    return caught.value.to_info()


def test_a_bare_chat_takes_every_default():
    call = chat()
    assert (
        Generate(
            id="r",
            model="m",
            prompt=ChatPrompt(messages=(Message(role="user", content=(Text("hi"),)),)),
        ),
    ) == call.requests
    assert (False, False, 1, None) == (
        call.stream,
        call.include_usage,
        call.n,
        call.top_logprobs,
    )


def test_a_full_chat_reaches_the_engine_complete():
    (request,) = chat(
        temperature=0,
        top_k=-1,
        seed=5,
        stop="END",
        max_tokens=9,
        n=3,
        logprobs=True,
        top_logprobs=20,
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
        chat_template_kwargs={"enable_thinking": False},
        reasoning_effort="low",
    ).requests
    assert (3, 9, ("END",), 20) == (
        request.n,
        request.max_tokens,
        request.stop,
        request.top_logprobs,
    )
    assert Sampling(temperature=0.0, top_k=0, seed=5) == request.sampling
    assert {"enable_thinking": False} == request.prompt.template_kwargs
    assert Reasoning(enabled=False, effort="low") == request.prompt.reasoning


def test_what_a_chat_can_ask_for_beyond_words_reaches_the_engine():
    call = chat(
        messages=[*MESSAGES, {"role": "assistant", "content": "He"}],
        tools=[{"type": "function", "function": {"name": "f"}}],
        tool_choice="required",
        parallel_tool_calls=False,
        response_format={"type": "json_object"},
        reasoning_budget=5,
        ignore_eos=True,
        cache_prompt=False,
        include_reasoning=False,
    )
    (request,) = call.requests
    prompt = request.prompt
    assert ((Tool("f"),), ToolChoice(mode="required", parallel=False), True) == (
        prompt.tools,
        prompt.tool_choice,
        prompt.continues,
    )
    assert 5 == prompt.reasoning.budget_tokens
    assert JsonSchema({"type": "object"}) == request.constraint
    assert (True, False) == (request.ignore_eos, request.cache_prompt)
    assert (False, False) == (call.reasoning, call.legacy_call)


def test_calls_are_shown_in_the_older_form_to_who_declares_functions():
    assert chat(functions=[{"name": "f"}]).legacy_call
    assert not chat(functions=[]).legacy_call
    assert not chat(tools=[{"type": "function", "function": {"name": "f"}}]).legacy_call


@pytest.mark.parametrize("value", [None, True])
def test_the_cache_is_used_unless_it_is_refused(value):
    assert chat(cache_prompt=value).requests[0].cache_prompt
    assert not chat(ignore_eos=value and False).requests[0].ignore_eos


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"max_tokens": None}, None),
        ({"max_tokens": -1}, None),
        ({"max_tokens": 7}, 7),
        ({"max_tokens": 7, "max_completion_tokens": 5}, 5),
        ({"max_tokens": 7, "max_completion_tokens": -1}, None),
        ({"max_tokens": 10**30}, 2**31 - 1),
    ],
)
def test_max_tokens_is_a_bound_or_none(fields, expected):
    assert expected == chat(**fields).requests[0].max_tokens


def test_logprobs_without_a_count_lists_no_alternatives():
    assert 0 == chat(logprobs=True).top_logprobs
    assert chat(logprobs=False, top_logprobs=0).top_logprobs is None


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [], "tool_choice": "auto"},
        {"grammar": "", "json_schema": None},
        {"reasoning_format": "auto", "include_reasoning": True},
        {"continue_final_message": False, "add_generation_prompt": True},
        {"functions": []},
        {"response_format": {"type": "text"}},
        {"modalities": ["text"]},
        {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto"},
        {"verbosity": "low", "parallel_tool_calls": True, "prompt_cache_key": "k"},
        {"ttl": 60, "draft_model": "d", "whatever": [1]},
    ],
)
def test_what_clients_send_by_habit_is_ignored(fields):
    assert chat().requests == chat(**fields).requests


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"modalities": ["text", "audio"]}, "modalities[1]"),
        ({"audio": {"voice": "v"}}, "audio"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(fields, param):
    info = refusal(chat, **fields)
    assert (400, "unsupported_parameter", param) == (
        info.http_status,
        info.code,
        info.param,
    )
    assert f"'{param}' is not available on this server." in info.message


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"model": ""}, "model", "Invalid 'model': it is empty."),
        ({"n": 0}, "n", "Invalid 'n': 0 is outside of 1 to 16."),
        ({"n": 17}, "n", "Invalid 'n': 17 is outside of 1 to 16."),
        ({"max_tokens": 0}, "max_tokens", "Invalid 'max_tokens': 0 is below 1."),
        (
            {"max_completion_tokens": -2},
            "max_completion_tokens",
            "Invalid 'max_completion_tokens': -2 is below 1.",
        ),
        (
            {"logprobs": True, "top_logprobs": 21},
            "top_logprobs",
            "Invalid 'top_logprobs': 21 is outside of 0 to 20.",
        ),
        (
            {"top_logprobs": 2},
            "top_logprobs",
            "Invalid 'top_logprobs': it needs 'logprobs' to be true.",
        ),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(fields, param, message):
    info = refusal(chat, **fields)
    assert (400, "invalid_value", param) == (info.http_status, info.code, info.param)
    assert info.message.startswith(message)


def test_several_prompts_are_several_requests_with_ids_of_their_own():
    call = completion(
        prompt=["a", [1, 2]], echo=True, logprobs=5, n=2, best_of=2, max_tokens=4
    )
    assert ["r-0", "r-1"] == [request.id for request in call.requests]
    assert [TextPrompt("a"), TokenPrompt((1, 2))] == [
        request.prompt for request in call.requests
    ]
    for request in call.requests:
        assert (True, 5, 2, 4) == (
            request.echo,
            request.top_logprobs,
            request.n,
            request.max_tokens,
        )


def test_every_prompt_of_a_completion_has_the_same_form():
    call = completion(prompt=["a", "b"], choice=["x"], ignore_eos=True)
    assert [OneOf(("x",))] * 2 == [request.constraint for request in call.requests]
    assert all(r.ignore_eos and r.cache_prompt for r in call.requests)


def test_a_suffix_belongs_to_text():
    assert TextPrompt("p", suffix="s") == completion(suffix="s").requests[0].prompt
    assert TextPrompt("p") == completion(suffix="").requests[0].prompt
    assert "suffix" == refusal(completion, prompt=[1], suffix="s").param


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"best_of": 2}, "unsupported_parameter", "best_of"),
        ({"logprobs": 6}, "invalid_value", "logprobs"),
        ({"logprobs": -1}, "invalid_value", "logprobs"),
        ({"prompt": ["a"] * 257}, "invalid_value", "prompt"),
        ({"prompt": []}, "invalid_value", "prompt"),
        ({"prompt": None}, "missing_required_parameter", "prompt"),
        ({"prompt": [[]]}, "invalid_value", "prompt[0]"),
        ({"regex": "x", "choice": ["x"]}, "invalid_value", "choice"),
    ],
)
def test_a_wrong_completion_is_refused(fields, code, param):
    info = refusal(completion, **fields)
    assert (400, code, param) == (info.http_status, info.code, info.param)

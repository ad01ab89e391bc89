"""Each check passes where all is well, and finds its own defect.

The server is the real application; its engine answers as recorded, or not.
"""

import json
from contextlib import ExitStack
from functools import partial

import pytest
from msgspec.structs import replace

from server.app import create_app
from server.core.events import ChoiceFinished, FinishReason, TextDelta
from server.core.requests import Reasoning
from server.selftest.checks import BATCH_SIZES, Checks
from server.selftest.client import LoopbackClient
from server.selftest.report import CheckFailed
from tests.live_server import live_server
from tests.selftest.recorded_engine import RecordedEngine, make_recorded

RECORDED = make_recorded()
ANSWER = RecordedEngine._answer
ALL = {
    "health": Checks.health,
    "seal": Checks.seal,
    "listed": Checks.is_listed,
    "load": Checks.load,
    **{f"greedy-{n}": partial(Checks.greedy, n_at_once=n) for n in BATCH_SIZES},
    "chat": Checks.chat,
    "stream": Checks.streamed_chat,
    "tool": Checks.tool_call,
    "streamed_tool": Checks.streamed_tool_call,
    "json": Checks.json_schema,
    "thinking": partial(Checks.thinking, kind="thinking"),
    "no_thinking": partial(Checks.thinking, kind="no_thinking"),
    "embeddings": Checks.embeddings,
    "cache": Checks.prefix_cache,
    "long": Checks.too_long,
}


@pytest.fixture
def check():
    """Run one check against an engine."""
    with ExitStack() as stack:

        def run(name, model="novice", **engine):
            app = create_app(engine=RecordedEngine(RECORDED, **engine))
            port = stack.enter_context(live_server(app))
            url = f"http://127.0.0.1:{port}"
            client = stack.enter_context(LoopbackClient(url, timeout_s=10))
            return ALL[name](Checks(client, model, RECORDED))

        yield run


def fail(check, name, **engine):
    with pytest.raises(CheckFailed) as raised:
        check(name, **engine)
    return raised.value


@pytest.mark.parametrize("name", [name for name in ALL if name != "seal"])
def test_all_is_well(check, name):
    assert check(name)


def test_a_server_without_the_kernels_seal_is_told(check):
    failure = fail(check, "seal")
    assert '"level": "kernel" in /cloister/seal' == failure.expected
    assert '"level": "off"' in failure.actual
    assert "--offline" in failure.advice


def test_a_model_that_is_not_listed_is_told(check):
    failure = fail(check, "listed", models=())
    assert "'novice' in /v1/models" == failure.expected
    assert '"data": []' in failure.actual
    assert "without --no-builtin" in failure.advice


@pytest.mark.parametrize("name", [f"greedy-{n}" for n in BATCH_SIZES])
def test_one_other_word_is_found_at_every_batch_size(check, name):
    failure = fail(check, name, texts={"howto": "Run `cloister verity`."})
    assert "howto: from character 0 on 'Run `cloister verify`.'" == failure.expected
    assert "'Run `cloister verity`.'; 1 of 8 answers differ" == failure.actual
    assert 'CMAKE_ARGS="-DGGML_NATIVE=OFF" make install' in failure.advice


def test_the_place_of_a_late_difference_is_shown(check):
    text = "<think>\nHm, 7 and 8.\n</think>\n\n7 + 8 = 16"
    failure = fail(check, "greedy-1", texts={"thinking": text})
    same = ", 7 and 8.\n</think>\n\n7 + 8 = 1"
    assert f"thinking: from character 10 on {same + '5'!r}" == failure.expected
    assert f"{same + '6'!r}; 1 of 8 answers differ" == failure.actual


def test_an_answer_cut_short_is_found(check):
    failure = fail(check, "greedy-2", texts={"sums": "7 + 8 = 1"})
    assert "'7 + 8 = 1'; 1 of 8 answers differ" == failure.actual


def test_the_same_text_of_other_tokens_is_found(check):
    def add_one(usage):
        return replace(usage, completion_tokens=usage.completion_tokens + 1)

    failure = fail(check, "greedy-1", change=add_one)
    assert "5 tokens in the answer, its end included" == failure.expected
    assert "6; 8 of 8 answers differ" == failure.actual


@pytest.mark.parametrize("name", ["greedy-1", "chat", "stream", "cache"])
def test_an_answer_that_does_not_end_by_itself_is_found(check, name):
    failure = fail(check, name, reason=FinishReason.MAX_TOKENS)
    assert "to end by itself" in failure.expected
    assert "finish_reason 'length'" in failure.actual


def test_another_prompt_from_the_template_is_found(check):
    failure = fail(check, "chat", change=lambda u: replace(u, prompt_tokens=19))
    assert "20 prompt tokens, as the chat template makes them" == failure.expected
    assert "19" == failure.actual


@pytest.mark.parametrize("name", ["chat", "stream"])
def test_another_text_of_a_chat_is_found(check, name):
    failure = fail(check, name, texts={"cloister": "Cloister is a cat."})
    assert failure.expected.startswith("cloister: from character 0 on")
    assert "'Cloister is a cat.'" == failure.actual


def test_a_stream_of_one_piece_is_none(check):
    failure = fail(check, "stream", is_whole=True)
    assert ("the answer in several pieces", "1") == (failure.expected, failure.actual)


CALL = 'tool_calls get {"city": "Rome"}, finish_reason \'tool_calls\''
RAW_CALL = RECORDED.of_kind("calls").text


def write_call(**fields):
    call = {"name": "get", "arguments": {"city": "Rome"}} | fields
    return f"<tool_call>\n{json.dumps(call)}\n</tool_call>"


@pytest.mark.parametrize("name", ["tool", "streamed_tool"])
@pytest.mark.parametrize(
    ("engine", "actual"),
    [
        (
            {"texts": {"calls": "I do not know."}},
            "tool_calls none, finish_reason 'stop', content 'I do not know.'",
        ),
        (
            {"reads_marks": False},
            f"tool_calls none, finish_reason 'stop', content {RAW_CALL!r}",
        ),
        (
            {"texts": {"calls": write_call(arguments={"city": "Oslo"})}},
            'tool_calls get {"city": "Oslo"}, finish_reason \'tool_calls\'',
        ),
        (
            {"texts": {"calls": write_call(name="set")}},
            'tool_calls set {"city": "Rome"}, finish_reason \'tool_calls\'',
        ),
        (
            {"n_calls": 2},
            CALL.replace(",", '; get {"city": "Rome"},'),
        ),
    ],
)
def test_another_tool_call_is_found(check, name, engine, actual):
    failure = fail(check, name, **engine)
    assert (CALL, actual) == (failure.expected, failure.actual)
    assert "If a greedy check failed too" in failure.advice


@pytest.mark.parametrize("name", ["tool", "streamed_tool"])
def test_text_beside_a_call_and_another_end_are_found(check, name, monkeypatch):
    def answer_with_both(engine, request):
        begun, *events, _, finished = ANSWER(engine, request)
        ended = ChoiceFinished(0, FinishReason.EOS)
        return (begun, *events, TextDelta(0, "</tool_call>"), ended, finished)

    monkeypatch.setattr(RecordedEngine, "_answer", answer_with_both)
    failure = fail(check, name)
    assert (
        'tool_calls get {"city": "Rome"}, finish_reason \'stop\', '
        "content '</tool_call>'"
    ) == failure.actual


def test_tools_that_the_template_does_not_show_are_found(check):
    failure = fail(check, "tool", sees=lambda prompt: replace(prompt, tools=()))
    assert "20 prompt tokens, as the chat template makes them" == failure.expected
    assert "21" == failure.actual


OBJECT = "a JSON object with strings for name, age"
GOOD = '{"name": "example", "age": "example"}'


@pytest.mark.parametrize("kind", ["records", "no_thinking"])
@pytest.mark.parametrize(
    "text",
    [
        "I am here.",
        "[" + GOOD + "]",
        '{"name": "a"}',
        '{"name": "a", "age": 3}',
        '{"name": "a", "age": "3", "more": "b"}',
        GOOD[:-1],
        GOOD + "}",
    ],
)
def test_an_answer_that_breaks_the_schema_is_found(check, kind, text):
    failure = fail(check, "json", objects={kind: text})
    assert (OBJECT, repr(text)) == (failure.expected, failure.actual)


def test_a_schema_that_is_not_enforced_is_found_where_the_model_knows_the_keys(check):
    # The recorded answer alone would pass: the model writes such objects by itself.
    failure = fail(check, "json", objects={"records": GOOD, "no_thinking": ""})
    assert (OBJECT, "'I am here.'") == (failure.expected, failure.actual)


def test_an_object_that_does_not_end_by_itself_is_found(check):
    failure = fail(check, "json", reason=FinishReason.MAX_TOKENS)
    assert "finish_reason 'stop' where the object is complete" == failure.expected
    assert "finish_reason 'length'" == failure.actual


THOUGHT = "reasoning_content 'Hm, 7 and 8.'"
NO_THOUGHT = "no reasoning_content"
RAW_THOUGHT = RECORDED.of_kind("thinking").text


@pytest.mark.parametrize(
    ("kind", "engine", "expected", "actual"),
    [
        (
            "thinking",
            {"texts": {"thinking": "7 + 8 = 15"}},
            THOUGHT,
            f"{NO_THOUGHT}, content '7 + 8 = 15'",
        ),
        (
            "thinking",
            {"reads_marks": False},
            THOUGHT,
            f"{NO_THOUGHT}, content {RAW_THOUGHT!r}",
        ),
        (
            "thinking",
            {"texts": {"thinking": RAW_THOUGHT.replace("Hm", "Oh")}},
            THOUGHT,
            "reasoning_content 'Oh, 7 and 8.', content '7 + 8 = 15'",
        ),
        (
            "no_thinking",
            {"texts": {"no_thinking": "<think>\nHm.\n</think>\n\nI am here."}},
            NO_THOUGHT,
            "reasoning_content 'Hm.', content 'I am here.'",
        ),
    ],
)
def test_a_wrong_thought_is_found(check, kind, engine, expected, actual):
    failure = fail(check, kind, **engine)
    assert (expected, actual) == (failure.expected, failure.actual)


def test_a_wrong_answer_after_a_thought_is_found(check):
    text = RAW_THOUGHT.replace("15", "16")
    failure = fail(check, "thinking", texts={"thinking": text})
    assert "thinking: from character 0 on '7 + 8 = 15'" == failure.expected
    assert "'7 + 8 = 16'" == failure.actual


def test_a_thinking_switch_that_does_not_reach_the_template_is_found(check):
    def forget(prompt):
        return replace(prompt, reasoning=Reasoning())

    failure = fail(check, "thinking", sees=forget)
    assert "20 prompt tokens, as the chat template makes them" == failure.expected
    assert "21" == failure.actual


def test_vectors_of_a_chat_model_are_found(check):
    failure = fail(check, "embeddings", embeds=True)
    assert "status 400 with the code wrong_model_type" == failure.expected
    assert failure.actual.startswith("status 200: ")


@pytest.mark.parametrize("n_cached", [0, 20])
def test_a_cache_that_is_not_used_or_lies_is_found(check, n_cached):
    failure = fail(check, "cache", change=lambda u: replace(u, cached_tokens=n_cached))
    assert "some of 20 prompt tokens from the cache" == failure.expected
    assert f"{n_cached}" == failure.actual


def test_a_prompt_that_is_cut_instead_of_refused_is_found(check):
    # It finds no recorded answer, and the application says so.
    failure = fail(check, "long", n_ctx=2**20)
    assert "status 400 with the code context_length_exceeded" == failure.expected
    assert "status 500" in failure.actual


def test_an_unknown_model_is_told_with_the_servers_words(check):
    failure = fail(check, "load", model="other")
    assert "status 200 and an answer" == failure.expected
    assert "status 404" in failure.actual
    assert "The model 'other' does not exist" in failure.actual


def test_a_load_that_made_no_token_is_found(check):
    failure = fail(check, "load", change=lambda u: replace(u, completion_tokens=0))
    assert ("1 token", "0 tokens") == (failure.expected, failure.actual)

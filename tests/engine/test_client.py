"""The engine that dialects use, over real models and workers."""

import asyncio
import os
import signal

import numpy as np
import pytest
from gguf import GGUFReader

from model_store.catalog import Catalog
from scripts.make_model import write_model
from server.core.errors import (
    InvalidRequest,
    ModelLoadFailed,
    ModelNotFound,
    ReportedError,
    WrongModelType,
)
from server.core.events import (
    ChoiceFinished,
    Finished,
    FinishReason,
    Loading,
    PromptProgress,
    Started,
    TextDelta,
)
from server.core.models import ModelType
from server.core.requests import (
    ChatPrompt,
    Detokenize,
    Embed,
    Generate,
    Message,
    RenderPrompt,
    Sampling,
    Text,
    TextPrompt,
    Tokenize,
    TokenPrompt,
)
from server.engine.client import Client
from tests.engine.conftest import (
    ask,
    collect,
    error_of,
    open_pool,
    text_of,
    wait_until,
)


@pytest.fixture
async def client(catalog):
    async with open_pool() as pool:
        yield Client(catalog, pool)


def group(events):
    """Name the kinds of events in the order of their first appearance."""
    return list(dict.fromkeys(type(event) for event in events))


async def test_models_are_listed_and_found(client):
    models = await client.list_models()
    assert ["broken", "tiny-bert", "tiny-llama", "tiny-mamba"] == [m.id for m in models]
    bert = await client.find_model("acme/tiny/tiny-bert.gguf")
    assert ("tiny-bert", ModelType.EMBEDDING, ()) == (
        bert.id,
        bert.type,
        bert.instances,
    )
    text_of(await collect(client.generate(ask("a"))))
    llama = await client.find_model("TINY-LLAMA")
    assert ("acme", "llama", 2048, "tiny-llama") == (
        llama.publisher,
        llama.architecture,
        llama.n_ctx_train,
        llama.instances[0].id,
    )


async def test_an_unknown_model_names_what_exists(client):
    with pytest.raises(ModelNotFound, match="'gpt-9' does not exist"):
        await client.find_model("gpt-9")
    error = error_of(await collect(client.generate(ask("a", model="gpt-9"))))
    assert ("model_not_found", 404) == (error.code, error.http_status)
    assert error.message.endswith(
        "Available models: broken, tiny-bert, tiny-llama, tiny-mamba."
    )


async def test_a_broken_file_says_so_under_its_own_name(client):
    with pytest.raises(ModelLoadFailed, match=r"cut\.gguf"):
        await client.find_model("cut")
    error = error_of(await collect(client.generate(ask("a", model="cut"))))
    assert "model_load_failed" == error.code
    # Its header is sound; only llama.cpp finds out.
    error = error_of(await collect(client.generate(ask("b", model="broken"))))
    assert "model_load_failed" == error.code
    assert "broken.gguf cannot be loaded: llama.cpp refused it (" in error.message
    assert text_of(await collect(client.generate(ask("c"))))


async def test_events_come_in_the_order_of_the_contract(client):
    events = await collect(client.generate(ask("a", n=2)))
    assert [
        Loading,
        Started,
        PromptProgress,
        TextDelta,
        ChoiceFinished,
        Finished,
    ] == group(events)
    done = [event.done for event in events if isinstance(event, Loading)]
    assert sorted(done) == done
    again = await collect(client.generate(ask("b")))
    assert Loading not in group(again)
    assert again[-1].usage.cached_tokens == again[-1].usage.prompt_tokens - 1
    started = next(event for event in events if isinstance(event, Started))
    assert started.prompt_tokens == events[-1].usage.prompt_tokens


async def test_a_model_that_was_added_is_found(own_models_dir):
    catalog = Catalog([own_models_dir])
    catalog.refresh()
    async with open_pool() as pool:
        client = Client(catalog, pool)
        write_model(own_models_dir / "acme" / "tiny" / "late.gguf", "tiny-qwen2")
        events = await collect(client.generate(ask("a", model="late")))
        assert text_of(events)


async def test_chat_text_and_tokens_are_prompts(client):
    chat = ChatPrompt((Message("user", (Text("What did she say?"),)),))
    prompts = (chat, TextPrompt("The river"), TokenPrompt((1, 300, 301)))
    counts = []
    for i, prompt in enumerate(prompts):
        request = Generate(f"r{i}", "tiny-llama", prompt, max_tokens=4)
        events = await collect(client.generate(request))
        assert text_of(events)
        counts.append(events[-1].usage.prompt_tokens)
    assert 3 == counts[2]
    assert counts[0] > counts[1]


async def test_text_becomes_tokens_and_text_again(client):
    text = "The river\u00e9<|im_end|>"
    result = await client.inquire(Tokenize("a", "tiny-llama", text))
    assert b"<|im_end|>" in result.pieces
    assert text == b"".join(result.pieces).decode().lstrip(" ")
    back = await client.inquire(Detokenize("b", "tiny-llama", result.tokens))
    assert text == back.text.lstrip(" ")
    plain = await client.inquire(
        Tokenize("c", "tiny-llama", text, add_special=True, parse_special=False)
    )
    assert len(plain.tokens) > len(result.tokens)
    assert b"<s>" == plain.pieces[0] != result.pieces[0]
    half = await client.inquire(Detokenize("d", "tiny-llama", plain.tokens[-1:]))
    assert ">" == half.text


async def test_a_prompt_is_counted_as_it_is_run(client):
    chat = ChatPrompt((Message("user", (Text("What did she say?"),)),))
    prompts = (chat, TextPrompt("The river"), TokenPrompt((1, 300)), TextPrompt(""))
    for i, prompt in enumerate(prompts):
        question = RenderPrompt(f"q{i}", "tiny-llama", prompt)
        rendered = await client.inquire(question)
        request = Generate(f"r{i}", "tiny-llama", prompt, max_tokens=1)
        events = await collect(client.generate(request))
        assert events[-1].usage.prompt_tokens == rendered.n_tokens
        if prompt is chat:
            assert "What did she say?<|im_end|>" in rendered.text
            assert rendered.text.endswith("<|im_start|>assistant\n")
    too_long = RenderPrompt("l", "tiny-llama", TextPrompt("river " * 600))
    assert (await client.inquire(too_long)).n_tokens > 512


async def test_refused_questions_name_the_field(client):
    with pytest.raises(ReportedError, match="Token id 99999 does not exist") as caught:
        await client.inquire(Detokenize("a", "tiny-llama", (1, 99_999)))
    assert "tokens" == caught.value.to_info().param
    with pytest.raises(ModelNotFound):
        await client.inquire(Tokenize("b", "nobody", "x"))
    with pytest.raises(WrongModelType, match="only makes embeddings: it has no prompt"):
        await client.inquire(RenderPrompt("c", "tiny-bert", TextPrompt("x")))
    assert (await client.inquire(Tokenize("d", "tiny-bert", "river"))).tokens


async def test_a_prompt_over_the_context_is_told_before_anything(client):
    request = ask("a", text="river " * 600)
    events = await collect(client.generate(request))
    error = error_of(events)
    assert ("context_length_exceeded", 400, "prompt") == (
        error.code,
        error.http_status,
        error.param,
    )
    assert "with a context of 512 tokens" in error.message
    assert Started not in group(events)


async def test_refusals_of_the_worker_name_the_field(client):
    request = Generate("a", "tiny-llama", TokenPrompt((1, 99_999)))
    error = error_of(await collect(client.generate(request)))
    assert ("invalid_value", "prompt") == (error.code, error.param)
    assert "Token id 99999 does not exist: this model has the ids 0 to " in (
        error.message
    )
    request = Generate("b", "tiny-llama", TextPrompt("a", suffix="b"))
    assert "suffix" == error_of(await collect(client.generate(request))).param
    request = Generate(
        "c",
        "tiny-llama",
        TextPrompt("a"),
        sampling=Sampling(logit_bias=((-1, 1.0),)),
    )
    assert "logit_bias" == error_of(await collect(client.generate(request))).param


async def test_the_context_ends_an_endless_answer(client):
    events = await collect(client.generate(ask("a", max_tokens=None)))
    reasons = [e.reason for e in events if isinstance(e, ChoiceFinished)]
    assert [FinishReason.CONTEXT] == reasons
    usage = events[-1].usage
    assert 512 == usage.prompt_tokens + usage.completion_tokens


async def test_echo_comes_back_with_log_probabilities(client):
    request = ask("a", echo=True, top_logprobs=2, max_tokens=0)
    events = await collect(client.generate(request))
    assert "The river" == text_of(events)
    records = [r for e in events if isinstance(e, TextDelta) for r in e.logprobs]
    assert events[-1].usage.prompt_tokens == len(records)
    assert records[0].logprob is None
    assert all(r.logprob < 0 and len(r.top) == 2 for r in records[1:])


async def test_a_crash_is_an_event_and_the_next_request_works(client):
    seen = []
    process = None
    async for event in client.generate(ask("a", n=4, max_tokens=None)):
        seen.append(event)
        if isinstance(event, TextDelta) and process is None:
            process = client._pool.processes()["tiny-llama"]
            os.kill(process.pid, signal.SIGKILL)
            await process.gone.wait()
    assert "worker_crashed" == error_of(seen).code
    assert text_of(await collect(client.generate(ask("b"))))


async def test_a_client_that_leaves_gives_its_place_back(client):
    for i in range(6):
        stream = client.generate(ask(f"r{i}", n=3, max_tokens=None))
        async for event in stream:
            if isinstance(event, TextDelta):
                break
        await stream.aclose()
    process = client._pool.processes()["tiny-llama"]
    assert (0, 0) == (process.n_requests, client._pool.n_leases)
    stats = await process.inspect()
    assert (0, 0) == (stats.n_running, stats.n_waiting)


async def test_a_client_that_leaves_during_the_load_gives_its_place_back(client):
    stream = client.generate(ask("a"))
    assert isinstance(await anext(stream), Loading)
    await stream.aclose()
    await wait_until(client._pool.processes)
    assert 0 == client._pool.n_leases
    assert Loading not in group(await collect(client.generate(ask("b"))))


# Embeddings


def rows(result):
    return np.frombuffer(result.vectors, "<f4").reshape(-1, result.n_embd)


async def test_embeddings_come_in_order_with_their_count(client):
    texts = ("the river", "the wheel", "the river")
    result = await client.embed(Embed("a", "tiny-bert", texts))
    vectors = rows(result)
    assert 3 == len(vectors)
    assert np.allclose(vectors[0], vectors[2], atol=1e-5)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-2)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    # Each text has two words between the tokens for begin and end.
    assert ("tiny-bert", 12) == (result.instance_id, result.prompt_tokens)


async def test_embeddings_of_many_clients_stay_apart(client):
    words = ("river", "wheel", "boat", "miller", "ice", "water", "town", "flour")
    alone = [
        rows(await client.embed(Embed(f"alone{i}", "tiny-bert", (word,))))
        for i, word in enumerate(words)
    ]
    together = await asyncio.gather(
        *(
            client.embed(Embed(f"r{i}", "tiny-bert", (word,) * 20))
            for i, word in enumerate(words)
        )
    )
    for expected, result in zip(alone, together, strict=True):
        assert np.allclose(expected, rows(result), atol=1e-3)


async def test_shortened_embeddings_have_length_one(client):
    whole = rows(await client.embed(Embed("a", "tiny-bert", ("ice",))))
    short = rows(await client.embed(Embed("b", "tiny-bert", ("ice",), dimensions=8)))
    expected = whole[0, :8] / np.linalg.norm(whole[0, :8])
    assert np.allclose(expected, short[0], atol=1e-5)
    with pytest.raises(ReportedError) as caught:
        await client.embed(Embed("c", "tiny-bert", ("ice",), dimensions=999))
    assert (
        "This model's embeddings have 64 dimensions, but 999 were asked for. Ask for "
        "fewer, or leave 'dimensions' out." == caught.value.message
    )


async def test_embedding_refusals_name_the_input(client):
    with pytest.raises(ReportedError) as caught:
        await client.embed(Embed("a", "tiny-bert", ("ice", "river " * 200)))
    info = caught.value.to_info()
    assert ("context_length_exceeded", "input") == (info.code, info.param)
    assert info.message.startswith("Input 1 has 202 tokens, but this model was loaded")
    with pytest.raises(ReportedError, match="Token id 9999 does not exist"):
        await client.embed(Embed("b", "tiny-bert", ((1, 9999),)))
    with pytest.raises(ReportedError, match="Input 0 has no tokens"):
        await client.embed(Embed("c", "tiny-bert", ((),)))


async def test_the_wrong_kind_of_model_is_refused_before_it_is_loaded(client):
    with pytest.raises(WrongModelType, match="'tiny-llama' is not an embedding model"):
        await client.embed(Embed("a", "tiny-llama", ("x",)))
    error = error_of(await collect(client.generate(ask("b", model="tiny-bert"))))
    assert "wrong_model_type" == error.code
    assert {} == client._pool.processes()
    assert issubclass(WrongModelType, InvalidRequest)


def test_the_broken_model_is_what_it_should_be(models_dir):
    """Its header can be read; without the tokenizer's model it cannot be used."""
    reader = GGUFReader(models_dir / "acme" / "tiny" / "broken.gguf")
    assert "tokenizer.ggml.model" not in reader.fields

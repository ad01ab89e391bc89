"""What the fields of a request do to its answer."""

import math
from itertools import pairwise

import pytest

from tests.e2e.greedy_loop import generate_alone
from tests.e2e.server_process import GREEDY, texts_of

MODEL = "tiny-llama"
PROMPT = "The river runs past the old mill"


def chat(server, model=MODEL, content="Hello", **more):
    messages = [{"role": "user", "content": content}]
    body = {"model": model, "messages": messages, "max_tokens": 24, **more}
    answer = server.post("/v1/chat/completions", **body)
    assert 200 == answer.status_code, answer.text
    return answer.json()


def text_of(answer, index=0):
    choice = answer["choices"][index]
    return choice["text"] if "text" in choice else choice["message"]["content"]


class TestChoices:
    def test_choices_differ_and_a_seed_repeats_them(self, server):
        asked = {"n": 2, "seed": 7, "temperature": 1}
        first, again = chat(server, **asked), chat(server, **asked)
        assert [0, 1] == [choice["index"] for choice in first["choices"]]
        assert text_of(first, 0) != text_of(first, 1)
        assert first["choices"] == again["choices"]
        assert 48 == first["usage"]["completion_tokens"]

    def test_without_a_seed_answers_differ(self, server):
        texts = {text_of(chat(server, temperature=1)) for _ in range(3)}
        assert 3 == len(texts)

    def test_a_streamed_seed_gives_the_same_choices(self, server):
        asked = {"n": 2, "seed": 7, "temperature": 1, "max_tokens": 24}
        whole = chat(server, **asked)
        messages = [{"role": "user", "content": "Hello"}]
        texts = ["", ""]
        with server.stream(
            "/v1/chat/completions", model=MODEL, messages=messages, **asked
        ) as stream:
            for _, data in stream:
                for choice in () if data == "[DONE]" else data["choices"]:
                    texts[choice["index"]] += choice["delta"].get("content") or ""
        assert [text_of(whole, 0), text_of(whole, 1)] == texts

    def test_greedy_choices_are_all_the_same_and_share_one_prompt(self, server):
        answer = server.complete(MODEL, PROMPT, n=3, max_tokens=20)
        assert 1 == len({text_of(answer, index) for index in range(3)})
        alone = server.complete(MODEL, PROMPT, max_tokens=20)
        assert alone["usage"]["prompt_tokens"] == answer["usage"]["prompt_tokens"]


class TestStops:
    @pytest.mark.parametrize("as_list", [False, True])
    def test_the_answer_ends_before_the_stop_string(self, server, as_list):
        whole = text_of(server.complete(MODEL, PROMPT, max_tokens=60))
        stop = whole[20:23]
        asked = {"stop": ["never there", stop] if as_list else stop}
        answer = server.complete(MODEL, PROMPT, max_tokens=60, **asked)
        assert whole[: whole.index(stop)] == text_of(answer)
        assert "stop" == answer["choices"][0]["finish_reason"]
        with server.stream(
            "/v1/completions",
            **{"model": MODEL, "prompt": PROMPT, "max_tokens": 60, **GREEDY, **asked},
        ) as stream:
            assert whole[: whole.index(stop)] == texts_of(list(stream))

    def test_the_first_of_several_stop_strings_counts(self, server):
        whole = text_of(server.complete(MODEL, PROMPT, max_tokens=60))
        stops = [whole[40:43], whole[10:13]]
        answer = server.complete(MODEL, PROMPT, max_tokens=60, stop=stops)
        assert whole[: min(map(whole.index, stops))] == text_of(answer)

    def test_a_control_token_ends_the_answer(self, server):
        # The end token of this made-up model, which never comes by itself.
        answer = server.complete(MODEL, PROMPT, max_tokens=60, logit_bias={"2": 100})
        assert ("", "stop") == (text_of(answer), answer["choices"][0]["finish_reason"])


class TestSampling:
    def test_a_bias_decides(self, server):
        answer = server.complete(
            MODEL, PROMPT, max_tokens=5, logit_bias={"300": 100}, logprobs=0
        )
        assert 1 == len(set(answer["choices"][0]["logprobs"]["tokens"]))

    def test_top_k_of_one_is_greedy(self, server):
        greedy = text_of(server.complete(MODEL, PROMPT, max_tokens=30))
        drawn = server.complete(
            MODEL, PROMPT, max_tokens=30, temperature=1.5, top_k=1, seed=1
        )
        assert greedy == text_of(drawn)

    @pytest.mark.parametrize(
        "narrow",
        [{"top_p": 0.0001}, {"min_p": 1}, {"typical_p": 0.0001}],
        ids=lambda narrow: next(iter(narrow)),
    )
    def test_a_narrow_choice_is_the_same_for_every_seed(self, server, narrow):
        wide = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0}
        texts = {
            text_of(
                server.complete(
                    MODEL, PROMPT, max_tokens=20, seed=seed, **{**wide, **narrow}
                )
            )
            for seed in range(3)
        }
        assert 1 == len(texts)

    @pytest.mark.parametrize(
        "penalty",
        [{"repeat_penalty": 5}, {"presence_penalty": 2}, {"frequency_penalty": 2}],
        ids=lambda penalty: next(iter(penalty)),
    )
    def test_a_penalty_gives_fewer_repetitions(self, server, penalty):
        asked = {"max_tokens": 120, "logprobs": 0}
        plain = server.complete(MODEL, PROMPT, **asked)
        other = server.complete(MODEL, PROMPT, **asked, **penalty)
        assert distinct(other) > distinct(plain)

    def test_the_default_temperature_is_not_greedy(self, server):
        texts = {
            server.post(
                "/v1/completions", model=MODEL, prompt=PROMPT, max_tokens=30, seed=seed
            ).json()["choices"][0]["text"]
            for seed in range(3)
        }
        assert 3 == len(texts)


def distinct(answer):
    return len(set(answer["choices"][0]["logprobs"]["tokens"]))


class TestLogprobs:
    def test_the_alternatives_of_a_token_are_ordered_and_sum_to_at_most_one(
        self, server
    ):
        answer = chat(server, logprobs=True, top_logprobs=20, temperature=0)
        tokens = answer["choices"][0]["logprobs"]["content"]
        assert 24 == len(tokens)
        text = b"".join(bytes(token["bytes"]) for token in tokens)
        assert text_of(answer) == text.decode("utf-8", "replace")
        for token in tokens:
            logprobs = [each["logprob"] for each in token["top_logprobs"]]
            assert 20 == len(logprobs)
            assert all(left >= right for left, right in pairwise(logprobs))
            assert 0.2 < sum(map(math.exp, logprobs)) <= 1.0001

    def test_a_greedy_token_is_the_likeliest(self, server):
        answer = chat(
            server, logprobs=True, top_logprobs=1, temperature=0, repeat_penalty=1
        )
        for token in answer["choices"][0]["logprobs"]["content"]:
            assert token["top_logprobs"][0]["logprob"] == token["logprob"]

    def test_a_stream_has_the_same_log_probabilities(self, server):
        asked = {"model": MODEL, "prompt": PROMPT, "max_tokens": 20, "logprobs": 2}
        whole = server.complete(**asked)["choices"][0]["logprobs"]
        with server.stream("/v1/completions", **asked, **GREEDY) as stream:
            pieces = [
                choice["logprobs"]
                for _, data in stream
                if data != "[DONE]"
                for choice in data["choices"]
                if choice["logprobs"]
            ]
        for field in ("tokens", "text_offset"):
            assert whole[field] == [each for piece in pieces for each in piece[field]]
        streamed = [each for piece in pieces for each in piece["token_logprobs"]]
        # The second request reuses the first one's prompt, which was computed in
        # another batch shape: the kernels round differently.
        assert pytest.approx(whole["token_logprobs"], abs=1e-2) == streamed

    def test_echo_scores_tokens_as_they_were_when_generated(self, server, made_models):
        path = made_models / "acme/llama/tiny-llama-F32.gguf"
        (alone,) = generate_alone(path, [PROMPT], 12)
        asked = {"logprobs": 2, "max_tokens": 12}
        generated = server.complete(MODEL, alone.prompt, **asked)
        echoed = server.complete(
            MODEL, alone.prompt + alone.tokens, **asked | {"max_tokens": 1}, echo=True
        )
        scored = echoed["choices"][0]["logprobs"]
        first = generated["choices"][0]["logprobs"]
        n_prompt = len(alone.prompt)
        assert n_prompt + 13 == len(scored["tokens"])
        assert scored["token_logprobs"][0] is None
        assert first["tokens"] == scored["tokens"][n_prompt:-1]
        assert first["token_logprobs"] == pytest.approx(
            scored["token_logprobs"][n_prompt:-1], abs=1e-2
        )
        assert text_of(echoed).endswith(
            text_of(generated) + scored["tokens"][-1].removeprefix("bytes:")
        )


class TestUsage:
    def test_the_second_request_finds_its_prompt_in_the_cache(self, server):
        content = "A prompt that no other test has sent before: zebra"
        first, again = (chat(server, content=content)["usage"] for _ in range(2))
        assert first["prompt_tokens"] == again["prompt_tokens"]
        n_cached = again["prompt_tokens_details"]["cached_tokens"]
        assert again["prompt_tokens"] - 1 == n_cached
        assert first["prompt_tokens_details"]["cached_tokens"] < n_cached

    def test_a_stream_ends_with_the_same_counts(self, server):
        asked = {"model": MODEL, "prompt": PROMPT, "max_tokens": 9}
        whole = server.complete(**asked)["usage"]
        options = {"stream_options": {"include_usage": True}}
        with server.stream("/v1/completions", **asked, **GREEDY, **options) as stream:
            *_, (_, last), (_, done) = stream
        assert "[DONE]" == done
        assert [] == last["choices"]
        for field in ("prompt_tokens", "completion_tokens", "total_tokens"):
            assert whole[field] == last["usage"][field]


class TestText:
    def test_characters_of_several_tokens_come_whole(self, server):
        # Only the two bytes of this letter are likely, each a token.
        first, second = (5 + byte for byte in "é".encode())
        messages = [{"role": "user", "content": "Hello"}]
        asked = {"logit_bias": {str(first): 50, str(second): 50}, "max_tokens": 60}
        asked |= {"temperature": 2, "seed": 3, "repeat_penalty": 1, "logprobs": True}
        data, pieces = b"", []
        with server.stream(
            "/v1/chat/completions", model=MODEL, messages=messages, **asked
        ) as stream:
            for _, chunk in stream:
                for choice in () if chunk == "[DONE]" else chunk["choices"]:
                    pieces.append(choice["delta"].get("content"))
                    for token in (choice["logprobs"] or {"content": []})["content"]:
                        data += bytes(token["bytes"])
        text = data.decode("utf-8", "replace")
        assert 60 == len(data)
        assert "é" in text
        assert text == "".join(piece for piece in pieces if piece)

    def test_fill_in_the_middle_uses_the_models_own_tokens(self, server):
        plain = server.complete("tiny-qwen2", "the wheel", max_tokens=8)
        filled = server.complete(
            "tiny-qwen2", "the wheel", suffix=" turns", max_tokens=8
        )
        explicit = server.complete(
            "tiny-qwen2",
            "<|fim_prefix|>the wheel<|fim_suffix|> turns<|fim_middle|>",
            max_tokens=8,
        )
        assert text_of(explicit) == text_of(filled) != text_of(plain)
        assert explicit["usage"]["prompt_tokens"] == filled["usage"]["prompt_tokens"]

    def test_a_model_without_such_tokens_refuses_a_suffix(self, server):
        answer = server.post(
            "/v1/completions", model=MODEL, prompt="the", suffix=" turns"
        )
        assert 400 == answer.status_code
        assert "suffix" == answer.json()["error"]["param"]
        assert "no fill-in-the-middle tokens" in answer.json()["error"]["message"]

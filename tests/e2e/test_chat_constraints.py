"""Constrained answers and other options, by a real server with real models."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest

from tests.e2e.chat_requests import ASK, PERSON, SUM, chat, choice_of, json_form


class TestConstraints:
    @pytest.mark.parametrize("model", ["novice", "tiny-llama", "tiny-qwen2"])
    @pytest.mark.parametrize("strict", [True, False, "true"])
    def test_an_answer_validates(self, novice, model, strict):
        body = chat(
            novice,
            SUM,
            model=model,
            response_format=json_form(PERSON, strict=strict),
            temperature=1.0,
            seed=4,
        )
        assert "stop" == choice_of(body)["finish_reason"]
        content = choice_of(body)["message"]["content"]
        jsonschema.validate(json.loads(content), PERSON)

    def test_a_thought_may_come_before_it(self, novice):
        schema = {
            "type": "object",
            "properties": {"sum": {"type": "integer"}},
            "required": ["sum"],
        }
        body = chat(
            novice, SUM, enable_thinking=True, response_format=json_form(schema)
        )
        message = choice_of(body)["message"]
        assert message["reasoning_content"]
        assert isinstance(json.loads(message["content"])["sum"], int)

    def test_forms_of_other_kinds(self, novice):
        answer = chat(novice, SUM, response_format={"type": "json_object"})
        text = choice_of(answer)["message"]["content"]
        assert isinstance(json.loads(text), dict)
        text = choice_of(chat(novice, SUM, regex="[A-F]{2}-[0-9]{3}"))["message"]
        assert re.fullmatch("[A-F]{2}-[0-9]{3}", text["content"])
        text = choice_of(chat(novice, SUM, grammar='root ::= "x" | "yy"'))["message"]
        assert text["content"] in {"x", "yy"}

    def test_text_completions_take_them_too(self, novice):
        body = {"model": "novice", "prompt": "Person:", "temperature": 0}
        body["response_format"] = json_form(PERSON)
        answer = novice.post("/v1/completions", **body).json()
        jsonschema.validate(json.loads(answer["choices"][0]["text"]), PERSON)

    def test_forced_tokens_respect_the_limit_on_tokens(self, novice):
        for limit in (1, 2, 5, 9):
            body = chat(
                novice, SUM, response_format=json_form(PERSON), max_tokens=limit
            )
            assert limit == body["usage"]["completion_tokens"]
            assert "length" == choice_of(body)["finish_reason"]

    def test_probabilities_change_neither_text_nor_count(self, novice):
        options = {"response_format": json_form(PERSON)}
        plain = chat(novice, SUM, **options)
        full = chat(novice, SUM, logprobs=True, top_logprobs=2, **options)
        assert choice_of(plain)["message"] == choice_of(full)["message"]
        entries = choice_of(full)["logprobs"]["content"]
        text = bytes(b for entry in entries for b in entry["bytes"]).decode()
        assert choice_of(full)["message"]["content"] == text
        assert all(entry["logprob"] <= 0 for entry in entries)
        # They are the model's own: a token that was forced may be improbable.
        assert any(entry["logprob"] < -1 for entry in entries)

    def test_many_at_once_all_validate(self, novice):
        def ask(number):
            body = chat(
                novice,
                [{"role": "user", "content": f"Person {number}?"}],
                response_format=json_form(PERSON) if number % 3 else None,
                temperature=1.0,
                seed=number,
                max_tokens=120,
            )
            return number, choice_of(body)["message"]["content"]

        with ThreadPoolExecutor(8) as pool:
            for number, content in pool.map(ask, range(24)):
                if number % 3:
                    jsonschema.validate(json.loads(content), PERSON)

    def test_the_same_answer_alone_and_in_company(self, novice):
        options = {"response_format": json_form(PERSON)}
        alone = choice_of(chat(novice, ASK, **options))["message"]["content"]
        with ThreadPoolExecutor(8) as pool:
            answers = pool.map(lambda _: chat(novice, ASK, **options), range(8))
            texts = {choice_of(answer)["message"]["content"] for answer in answers}
        assert {alone} == texts

    @pytest.mark.parametrize(
        ("options", "param"),
        [
            (
                {"response_format": json_form({"type": "nonsense"}, strict=True)},
                "response_format",
            ),
            ({"grammar": "root ::= ("}, "grammar"),
            ({"regex": "("}, "regex"),
        ],
    )
    def test_what_cannot_be_is_refused_by_name(self, novice, options, param):
        body = {"model": "novice", "messages": SUM} | options
        answer = novice.post("/v1/chat/completions", **body)
        assert 400 == answer.status_code, answer.text
        assert answer.json()["error"]["param"].startswith(param)
        assert "43" in choice_of(chat(novice, SUM))["message"]["content"]


class TestOtherOptions:
    def test_an_end_can_be_ignored(self, novice):
        body = chat(novice, SUM, ignore_eos=True, max_tokens=60)
        assert 60 == body["usage"]["completion_tokens"]
        assert "length" == choice_of(body)["finish_reason"]

    def test_the_cache_can_be_left_out(self, novice):
        chat(novice, SUM)
        details = chat(novice, SUM)["usage"]["prompt_tokens_details"]
        assert details["cached_tokens"] > 10
        details = chat(novice, SUM, cache_prompt=False)["usage"]
        assert 0 == details["prompt_tokens_details"]["cached_tokens"]

    def test_the_last_message_of_the_assistant_goes_on(self, novice):
        messages = [*SUM, {"role": "assistant", "content": "12 + 31 = 40"}]
        assert " + 3 = 43" == choice_of(chat(novice, messages))["message"]["content"]

    def test_a_message_that_goes_on_keeps_the_form(self, novice):
        begun = '{"name": "Ada", "age": 3'
        messages = [*SUM, {"role": "assistant", "content": begun}]
        body = chat(novice, messages, response_format=json_form(PERSON))
        person = json.loads(begun + choice_of(body)["message"]["content"])
        jsonschema.validate(person, PERSON)
        assert "Ada" == person["name"]

    def test_a_message_of_another_form_cannot_go_on(self, novice):
        messages = [*SUM, {"role": "assistant", "content": "Well, "}]
        body = {"model": "novice", "messages": messages}
        body["response_format"] = json_form(PERSON)
        answer = novice.post("/v1/chat/completions", **body)
        assert 400 == answer.status_code
        assert "messages" == answer.json()["error"]["param"]
        assert "does not begin as the form" in answer.json()["error"]["message"]

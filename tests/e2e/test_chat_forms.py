"""Tools, thoughts and constrained answers, by a real server with real models."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest

from model_store import builtin

pytestmark = pytest.mark.skipif(
    not builtin.is_present(), reason=f"{builtin.MODEL_NAME} is not in this checkout"
)

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city.",
        "parameters": {**CITY, "required": ["city"]},
    },
}
LIGHT = {
    "type": "function",
    "function": {
        "name": "set_light",
        "description": "Sets the light of a room.",
        "parameters": {
            "type": "object",
            "properties": {"room": {"type": "string"}},
            "required": ["room"],
        },
    },
}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {
            "type": "array",
            "items": {"enum": ["a", "b", "c"]},
            "minItems": 1,
            "maxItems": 3,
        },
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
ASK = [{"role": "user", "content": "Use get_weather with city Zurich."}]
SUM = [{"role": "user", "content": "What is 12 + 31?"}]


@pytest.fixture(scope="module")
def novice(tmp_path_factory, made_models):
    from tests.e2e.server_process import Server  # noqa: PLC0415 - with its fixtures

    folder = tmp_path_factory.mktemp("novice")
    arguments = ["--models-dir", made_models / "acme", "--parallel", "8"]
    running = Server(folder, arguments, environment={"CLOISTER_BUILTIN": "1"})
    yield running
    running.kill()


def chat(server, messages, *, model="novice", **options):
    body = {"model": model, "messages": messages, "temperature": 0} | options
    answer = server.post("/v1/chat/completions", **body)
    assert 200 == answer.status_code, answer.text
    return answer.json()


def stream(server, messages, **options):
    body = {"model": "novice", "messages": messages, "temperature": 0} | options
    with server.stream("/v1/chat/completions", **body) as events:
        return [data for _, data in events if isinstance(data, dict)]


def choice_of(body, index=0):
    return body["choices"][index]


def json_form(schema, **more):
    return {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": schema, **more},
    }


class TestTools:
    def test_a_call_comes_back_as_a_call(self, novice):
        body = chat(novice, ASK, tools=[WEATHER])
        answer = choice_of(body)
        assert "tool_calls" == answer["finish_reason"]
        assert answer["message"]["content"] is None
        (call,) = answer["message"]["tool_calls"]
        assert "function" == call["type"]
        assert call["id"]
        assert "get_weather" == call["function"]["name"]
        assert {"city": "Zurich"} == json.loads(call["function"]["arguments"])

    def test_streamed_deltas_fold_to_the_whole_answer(self, novice):
        chunks = stream(novice, ASK, tools=[WEATHER])
        deltas = [c["choices"][0]["delta"] for c in chunks if c["choices"]]
        reasons = [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]]
        assert {"role": "assistant"} == deltas[0]
        assert {} == deltas[-1]
        assert "tool_calls" == reasons[-1]
        assert {None} == set(reasons[:-1])
        first, *rest = [call for d in deltas[1:-1] for call in d["tool_calls"]]
        assert {"index", "id", "type", "function"} == first.keys()
        assert {"name": "get_weather", "arguments": ""} == first["function"]
        assert {0} == {first["index"]} | {call["index"] for call in rest}
        assert all({"index", "function"} == call.keys() for call in rest)
        text = "".join(call["function"]["arguments"] for call in rest)
        assert all(call["function"]["arguments"] for call in rest)
        assert {"city": "Zurich"} == json.loads(text)

    def test_nothing_is_called_where_it_is_forbidden(self, novice):
        body = chat(novice, ASK, tools=[WEATHER], tool_choice="none")
        assert "tool_calls" not in choice_of(body)["message"]
        assert "stop" == choice_of(body)["finish_reason"]

    @pytest.mark.parametrize("thinking", [False, True])
    def test_required_calls_whatever_is_asked(self, novice, thinking):
        for question in ("Who are you?", "What is 3 + 4?", "Tell me a joke."):
            messages = [{"role": "user", "content": question}]
            body = chat(
                novice,
                messages,
                tools=[WEATHER, LIGHT],
                tool_choice="required",
                enable_thinking=thinking,
                max_tokens=300,
            )
            answer = choice_of(body)
            assert "tool_calls" == answer["finish_reason"]
            for call in answer["message"]["tool_calls"]:
                tool = {t["function"]["name"]: t for t in (WEATHER, LIGHT)}[
                    call["function"]["name"]
                ]
                arguments = json.loads(call["function"]["arguments"])
                jsonschema.validate(arguments, tool["function"]["parameters"])
            assert thinking == ("reasoning_content" in answer["message"])

    def test_a_named_tool_is_the_one_called(self, novice):
        named = {"type": "function", "function": {"name": "set_light"}}
        body = chat(novice, ASK, tools=[WEATHER, LIGHT], tool_choice=named)
        (call,) = choice_of(body)["message"]["tool_calls"]
        assert "set_light" == call["function"]["name"]
        assert ["room"] == list(json.loads(call["function"]["arguments"]))

    def test_odd_names_come_back_as_they_were(self, novice):
        for name in ("get-weather", "get.weather", "ns:getWeather"):
            tool = {"type": "function", "function": {**WEATHER["function"]}}
            tool["function"]["name"] = name
            body = chat(novice, ASK, tools=[tool], tool_choice="required")
            (call,) = choice_of(body)["message"]["tool_calls"]
            assert name == call["function"]["name"]

    def test_a_tool_without_parameters_can_be_called(self, novice):
        tool = {"type": "function", "function": {"name": "ping"}}
        body = chat(novice, ASK, tools=[tool], tool_choice="required")
        (call,) = choice_of(body)["message"]["tool_calls"]
        assert isinstance(json.loads(call["function"]["arguments"]), dict)

    def test_strict_arguments_follow_references(self, novice):
        schema = {
            "type": "object",
            "properties": {"at": {"$ref": "#/$defs/place"}},
            "required": ["at"],
            "additionalProperties": False,
            "$defs": {"place": {"enum": ["Kitchen", "Garden"]}},
        }
        tool = {
            "type": "function",
            "function": {"name": "go", "parameters": schema, "strict": True},
        }
        body = chat(novice, ASK, tools=[tool], tool_choice="required")
        (call,) = choice_of(body)["message"]["tool_calls"]
        jsonschema.validate(json.loads(call["function"]["arguments"]), schema)

    def test_the_result_of_a_call_is_answered(self, novice):
        call = {
            "id": "call_1",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "Zurich"}'},
        }
        messages = [
            *ASK,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        ]
        body = chat(novice, messages, tools=[WEATHER])
        assert "The result is sunny." == choice_of(body)["message"]["content"]

    def test_models_without_a_format_of_their_own_can_call_too(self, novice):
        for model in ("tiny-llama", "tiny-gemma3"):
            body = chat(
                novice,
                ASK,
                model=model,
                tools=[WEATHER],
                tool_choice="required",
                parallel_tool_calls=False,
            )
            (call,) = choice_of(body)["message"]["tool_calls"]
            assert "get_weather" == call["function"]["name"]

    def test_a_call_that_is_cut_off_is_no_answer(self, novice):
        for limit in range(1, 12):
            body = chat(
                novice,
                ASK,
                tools=[WEATHER],
                tool_choice="required",
                max_tokens=limit,
                logprobs=True,
            )
            answer = choice_of(body)
            assert "length" == answer["finish_reason"]
            assert not answer["message"]["content"]
            if "tool_calls" in answer["message"]:
                assert answer["logprobs"] is None

    def test_n_choices_are_n_sets_of_calls(self, novice):
        body = chat(
            novice, ASK, tools=[WEATHER], n=3, temperature=1.5, tool_choice="required"
        )
        ids = [c["message"]["tool_calls"][0]["id"] for c in body["choices"]]
        assert 3 == len(set(ids))


class TestThoughts:
    def test_a_thought_is_apart_from_the_answer_and_counted(self, novice):
        body = chat(novice, SUM, enable_thinking=True)
        message = choice_of(body)["message"]
        assert message["content"].endswith("43")
        assert "think>" not in message["content"] + message["reasoning_content"]
        details = body["usage"]["completion_tokens_details"]
        assert 5 < details["reasoning_tokens"] < body["usage"]["completion_tokens"]

    def test_without_being_asked_it_does_not_think(self, novice):
        body = chat(novice, SUM)
        assert "reasoning_content" not in choice_of(body)["message"]
        details = body["usage"]["completion_tokens_details"]
        assert 0 == details["reasoning_tokens"]

    def test_it_is_streamed_before_the_answer(self, novice):
        chunks = stream(novice, SUM, enable_thinking=True)
        kinds = [
            key
            for chunk in chunks
            for key in chunk["choices"][0]["delta"]
            if key != "role"
        ]
        assert sorted(kinds, reverse=True) == kinds
        assert {"reasoning_content", "content"} == set(kinds)

    @pytest.mark.parametrize("budget", [0, 1, 4])
    def test_a_budget_closes_it(self, novice, budget):
        body = chat(novice, SUM, enable_thinking=True, reasoning_budget=budget)
        details = body["usage"]["completion_tokens_details"]
        n_full = chat(novice, SUM, enable_thinking=True)["usage"]
        assert (
            details["reasoning_tokens"]
            < n_full["completion_tokens_details"]["reasoning_tokens"]
        )
        assert choice_of(body)["message"]["content"]

    def test_a_stop_string_does_not_end_a_thought(self, novice):
        body = chat(novice, SUM, enable_thinking=True, stop=["make"])
        message = choice_of(body)["message"]
        assert "make" in message["reasoning_content"]
        assert message["content"].endswith("43")

    def test_a_thought_may_be_sent_back(self, novice):
        message = choice_of(chat(novice, SUM, enable_thinking=True))["message"]
        messages = [*SUM, message, {"role": "user", "content": "Who are you?"}]
        assert "Novice" in choice_of(chat(novice, messages))["message"]["content"]


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

"""Tools and thoughts, by a real server with a real model."""

import json

import jsonschema
import pytest

from tests.e2e.chat_requests import ASK, LIGHT, SUM, WEATHER, chat, choice_of, stream


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

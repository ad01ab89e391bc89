import pytest

from server.core.errors import InvalidRequest
from server.core.requests import Reasoning
from server.dialects.openai.reasoning import decode_reasoning, shows_reasoning
from server.dialects.openai.wire import ChatRequest


def wire(**fields):
    return ChatRequest.model_validate({"model": "m", "messages": [], **fields})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Reasoning()),
        ({"reasoning_effort": "none"}, Reasoning(enabled=False)),
        ({"reasoning_effort": "minimal"}, Reasoning(enabled=True, effort="minimal")),
        ({"reasoning_effort": "xhigh"}, Reasoning(enabled=True, effort="xhigh")),
        ({"reasoning_effort": "max"}, Reasoning(enabled=True, effort="max")),
        (
            {"reasoning": {"effort": "low", "max_tokens": 9}},
            Reasoning(enabled=True, effort="low", budget_tokens=9),
        ),
        ({"reasoning": {"enabled": False}}, Reasoning(enabled=False)),
        ({"reasoning": {"summary": "auto"}}, Reasoning()),
        ({"enable_thinking": True}, Reasoning(enabled=True)),
        ({"enable_thinking": False}, Reasoning(enabled=False)),
        (
            {"enable_thinking": False, "reasoning_effort": "high"},
            Reasoning(enabled=False, effort="high"),
        ),
        (
            {
                "chat_template_kwargs": {"enable_thinking": True},
                "enable_thinking": False,
                "reasoning_effort": "none",
            },
            Reasoning(enabled=True),
        ),
        ({"chat_template_kwargs": {"thinking": False}}, Reasoning(enabled=False)),
        ({"chat_template_kwargs": {"thinking": "deep"}}, Reasoning()),
        ({"thinking": {"type": "disabled"}}, Reasoning(enabled=False)),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 64}},
            Reasoning(enabled=True, budget_tokens=64),
        ),
        ({"thinking": {"type": "auto"}}, Reasoning()),
        ({"reasoning_budget": 0}, Reasoning(budget_tokens=0)),
        ({"reasoning_budget": -1}, Reasoning()),
        ({"reasoning_budget": -1, "thinking_budget": 5}, Reasoning()),
        ({"reasoning_budget_tokens": 7}, Reasoning(budget_tokens=7)),
        ({"thinking_budget": 7.0}, Reasoning(budget_tokens=7)),
        ({"thinking_budget_tokens": 7}, Reasoning(budget_tokens=7)),
        ({"reasoning": {"max_tokens": 7.0}}, Reasoning(budget_tokens=7)),
    ],
)
def test_every_way_to_ask_for_thoughts_is_understood(fields, expected):
    assert expected == decode_reasoning(wire(**fields))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"reasoning_format": "auto"}, True),
        ({"reasoning_format": "deepseek"}, True),
        ({"reasoning_format": "parsed"}, True),
        ({"reasoning_format": "hidden"}, False),
        ({"include_reasoning": False}, False),
        ({"include_reasoning": True}, True),
        ({"reasoning": {"exclude": True}}, False),
        ({"reasoning": {"exclude": False}}, True),
    ],
)
def test_thoughts_are_shown_unless_the_client_says_no(fields, expected):
    assert expected == shows_reasoning(wire(**fields))


@pytest.mark.parametrize(
    ("fields", "code", "param", "text"),
    [
        (
            {"reasoning_effort": "extreme"},
            "invalid_value",
            "reasoning_effort",
            "expected one of none, minimal, low, medium, high, xhigh, max.",
        ),
        (
            {"reasoning": {"effort": "extreme"}},
            "invalid_value",
            "reasoning.effort",
            "expected one of none, minimal",
        ),
        (
            {"reasoning": {"effort": 5}},
            "invalid_type",
            "reasoning.effort",
            "expected a string, but got a number.",
        ),
        (
            {"chat_template_kwargs": {"enable_thinking": "false"}},
            "invalid_type",
            "chat_template_kwargs.enable_thinking",
            "expected a boolean, but got a string.",
        ),
        (
            {"reasoning": {"enabled": 1}},
            "invalid_type",
            "reasoning.enabled",
            "expected a boolean, but got a number.",
        ),
        (
            {"thinking": {"type": "deep"}},
            "invalid_value",
            "thinking.type",
            "expected one of enabled, disabled, auto.",
        ),
        (
            {"reasoning_budget": -2},
            "invalid_value",
            "reasoning_budget",
            "-2 is outside of -1 to 2147483647.",
        ),
        (
            {"thinking_budget_tokens": 2**31},
            "invalid_value",
            "thinking_budget_tokens",
            "2147483648 is outside of -1 to 2147483647.",
        ),
        (
            {"reasoning": {"max_tokens": "7"}},
            "invalid_type",
            "reasoning.max_tokens",
            "expected an integer, but got a string.",
        ),
        (
            {"thinking": {"budget_tokens": True}},
            "invalid_type",
            "thinking.budget_tokens",
            "expected an integer, but got a boolean.",
        ),
        (
            {"reasoning_format": "none"},
            "invalid_value",
            "reasoning_format",
            "expected one of auto, deepseek, parsed, hidden. Thoughts come apart",
        ),
    ],
)
def test_a_wrong_word_is_refused_by_its_place(fields, code, param, text):
    decode = shows_reasoning if param == "reasoning_format" else decode_reasoning
    with pytest.raises(InvalidRequest) as caught:
        decode(wire(**fields))
    info = caught.value.to_info()
    assert (400, code, param) == (info.http_status, info.code, info.param)
    assert text in info.message

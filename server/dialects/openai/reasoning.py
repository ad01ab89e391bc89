"""Whether and how long a model thinks, in the words of five servers. Pure.

The first that says something is heard: the template's own variables
(`chat_template_kwargs`), then fields at the top of a request, then objects.

Source: OpenAI (`reasoning_effort`), llama.cpp's server (`chat_template_kwargs`,
`reasoning_budget_tokens`, `thinking_budget_tokens`, `reasoning_format`), Qwen
(`enable_thinking`, `thinking_budget`), OpenRouter (`reasoning`), DeepSeek and
GLM (`thinking`).
"""

from typing import Any

from server.core.requests import Reasoning
from server.dialects.json_body import InvalidField, wrong_type
from server.dialects.openai.sampling import check_range
from server.dialects.openai.wire import ChatRequest

MAX_BUDGET_TOKENS = 2**31 - 1

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

_BUDGETS = (
    "reasoning_budget",
    "reasoning_budget_tokens",
    "thinking_budget",
    "thinking_budget_tokens",
)

_FORMATS = {
    "auto": True,
    "deepseek": True,
    "parsed": True,
    "hidden": False,
}
"""Values of `reasoning_format`, and whether thoughts are shown."""


def decode_reasoning(wire: ChatRequest) -> Reasoning:
    """Read whether the model thinks, how hard and for how many tokens.

    Raises:
        InvalidRequest: A word or a number that means nothing.
    """
    effort = _effort(wire)
    enabled = _enabled(wire)
    if enabled is None and effort is not None:
        enabled = effort != "none"
    return Reasoning(
        enabled=enabled,
        effort=None if effort == "none" else effort,
        budget_tokens=_budget(wire),
    )


def shows_reasoning(wire: ChatRequest) -> bool:
    """Tell whether the client wants to see thoughts.

    Raises:
        InvalidRequest: A form of thoughts that this server does not write.
    """
    if wire.include_reasoning is False:
        return False
    if wire.reasoning is not None and wire.reasoning.get("exclude") is True:
        return False
    if wire.reasoning_format is None:
        return True
    shown = _FORMATS.get(wire.reasoning_format)
    if shown is None:
        raise InvalidField(
            "Invalid 'reasoning_format': expected one of "
            f"{', '.join(_FORMATS)}. Thoughts come apart from the answer, in "
            "'reasoning_content'.",
            param="reasoning_format",
        )
    return shown


def _effort(wire: ChatRequest) -> str | None:
    value, param = wire.reasoning_effort, "reasoning_effort"
    if value is None and wire.reasoning is not None:
        value, param = wire.reasoning.get("effort"), "reasoning.effort"
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type(param, "a string", value)
    if value not in EFFORTS:
        raise InvalidField(
            f"Invalid '{param}': expected one of {', '.join(EFFORTS)}.", param=param
        )
    return value


def _enabled(wire: ChatRequest) -> bool | None:
    variables = wire.chat_template_kwargs or {}
    if variables.get("enable_thinking") is not None:
        param = "chat_template_kwargs.enable_thinking"
        return _switch(variables["enable_thinking"], param)
    if isinstance(variables.get("thinking"), bool):
        return bool(variables["thinking"])
    if wire.enable_thinking is not None:
        return wire.enable_thinking
    if wire.reasoning is not None and wire.reasoning.get("enabled") is not None:
        return _switch(wire.reasoning["enabled"], "reasoning.enabled")
    return _thinking(wire.thinking)


def _thinking(fields: dict[str, Any] | None) -> bool | None:
    match (fields or {}).get("type"):
        case None | "auto" | "adaptive":
            return None
        case "enabled":
            return True
        case "disabled":
            return False
        case _:
            raise InvalidField(
                "Invalid 'thinking.type': expected one of enabled, disabled, auto.",
                param="thinking.type",
            )


def _budget(wire: ChatRequest) -> int | None:
    """Read the bound of a thought; -1 stands for none, as in llama.cpp."""
    asked: list[tuple[str, Any]] = [(name, getattr(wire, name)) for name in _BUDGETS]
    asked.append(("reasoning.max_tokens", (wire.reasoning or {}).get("max_tokens")))
    asked.append(("thinking.budget_tokens", (wire.thinking or {}).get("budget_tokens")))
    for param, value in asked:
        if value is not None:
            return _tokens(value, param)
    return None


def _tokens(value: object, param: str) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(param, "an integer", value)
    check_range(value, -1, MAX_BUDGET_TOKENS, param)
    return None if value == -1 else value


def _switch(value: object, param: str) -> bool:
    # A template would take the text "false" for true.
    if not isinstance(value, bool):
        raise wrong_type(param, "a boolean", value)
    return value

"""Tools as OpenAI's clients declare and choose them. Pure.

Names are kept byte for byte: what the model calls is what the client declared.
The older `functions` and `function_call` are the same thing with one call an
answer.

Source: OpenAI API reference, chat completions, `tools`, `tool_choice`,
`parallel_tool_calls`, `functions`, `function_call`.
"""

import re
from typing import Any

from server.core.requests import Tool, ToolChoice
from server.dialects.json_body import InvalidField, missing, wrong_type
from server.dialects.openai.constraints import check_schema_size, decode_flag
from server.dialects.openai.wire import ChatRequest

MAX_TOOLS = 512
MAX_TOOLS_BYTES = 4 * 1024 * 1024
MAX_NAME_CHARS = 256
MAX_DESCRIPTION_CHARS = 256 * 1024

_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
_LISTED_NAMES = 16
_WORDS = ("none", "auto", "required")


def decode_tools(wire: ChatRequest) -> tuple[tuple[Tool, ...], ToolChoice]:
    """Read which tools there are and whether they are called.

    Raises:
        InvalidRequest: A malformed tool, one that is no function, two of one
            name, too many, or a choice of what is not there.
    """
    if wire.functions:
        if wire.tools:
            raise InvalidField(
                "Invalid 'functions': 'tools' says the same in newer words. Send one "
                "of the two.",
                param="functions",
            )
        tools = _tools(wire.functions, "functions")
        return tools, _function_call(wire.function_call, tools)
    tools = _tools(wire.tools or [], "tools")
    choice = _tool_choice(wire.tool_choice, tools)
    if wire.parallel_tool_calls is False and choice.parallel:
        choice = ToolChoice(mode=choice.mode, names=choice.names, parallel=False)
    return tools, choice


def _tools(values: list[Any], param: str) -> tuple[Tool, ...]:
    if len(values) > MAX_TOOLS:
        raise InvalidField(
            f"Invalid '{param}': {len(values)} tools are more than the limit of "
            f"{MAX_TOOLS}.",
            param=param,
        )
    tools: dict[str, Tool] = {}
    n_bytes = 0
    for number, value in enumerate(values):
        place = f"{param}[{number}]"
        function = value
        if param == "tools":
            function = _function_of(value, place)
            place += ".function"
        tool = _tool(function, place)
        if tool.name in tools:
            raise InvalidField(
                f"Invalid '{place}.name': '{tool.name}' is also the name of "
                f"{param}[{list(tools).index(tool.name)}]. Names must differ.",
                param=f"{place}.name",
            )
        tools[tool.name] = tool
        n_bytes += check_schema_size(tool.parameters or {}, f"{place}.parameters")
        n_bytes += len(tool.description or "")
    if n_bytes > MAX_TOOLS_BYTES:
        raise InvalidField(
            f"Invalid '{param}': {n_bytes} bytes in all are more than the limit of "
            f"{MAX_TOOLS_BYTES}.",
            param=param,
        )
    return tuple(tools.values())


def _function_of(value: object, param: str) -> object:
    if not isinstance(value, dict):
        raise wrong_type(param, "an object", value)
    kind = value.get("type")
    if kind not in (None, "function"):
        raise InvalidField(
            f"Unsupported tool: '{param}.type' must be 'function'. This server runs "
            "no tools itself, so only functions can be called.",
            code="unsupported_parameter",
            param=f"{param}.type",
        )
    if value.get("function") is None:
        raise missing(f"{param}.function")
    return value["function"]


def _tool(value: object, param: str) -> Tool:
    if not isinstance(value, dict):
        raise wrong_type(param, "an object", value)
    description = value.get("description")
    if description is not None and not isinstance(description, str):
        raise wrong_type(f"{param}.description", "a string", description)
    if description and len(description) > MAX_DESCRIPTION_CHARS:
        raise InvalidField(
            f"Invalid '{param}.description': {len(description)} characters are more "
            f"than the limit of {MAX_DESCRIPTION_CHARS}.",
            param=f"{param}.description",
        )
    return Tool(
        name=_name(value.get("name"), f"{param}.name"),
        description=description,
        parameters=_parameters(value.get("parameters"), f"{param}.parameters"),
        strict=decode_flag(value.get("strict"), f"{param}.strict"),
    )


def _name(value: object, param: str) -> str:
    if value is None:
        raise missing(param)
    if not isinstance(value, str):
        raise wrong_type(param, "a string", value)
    if len(value) > MAX_NAME_CHARS or not _NAME.fullmatch(value):
        raise InvalidField(
            f"Invalid '{param}': a name has 1 to {MAX_NAME_CHARS} letters (a to z), "
            "digits and the signs _ - . : only.",
            param=param,
        )
    return value


def _parameters(value: object, param: str) -> dict[str, Any] | None:
    if value is None or value == {}:
        return None
    if not isinstance(value, dict):
        raise wrong_type(param, "a JSON Schema (an object)", value)
    kind = value.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise InvalidField(
            f"Invalid '{param}': arguments are an object, so the schema's 'type' must "
            "be 'object'.",
            param=param,
        )
    return value


def _tool_choice(value: object, tools: tuple[Tool, ...]) -> ToolChoice:
    match value:
        case None | "auto":
            return ToolChoice()
        case "none":
            return ToolChoice(mode="none")
        case "required":
            if not tools:
                raise InvalidField(
                    "Invalid 'tool_choice': a call is required, but 'tools' declares "
                    "none.",
                    param="tool_choice",
                )
            return ToolChoice(mode="required")
        case dict():
            return _choice_object(value, tools)
        case _:
            raise InvalidField(
                f"Invalid 'tool_choice': expected one of {', '.join(_WORDS)}, or an "
                "object of the type 'function' or 'allowed_tools'.",
                param="tool_choice",
            )


def _choice_object(value: dict[str, Any], tools: tuple[Tool, ...]) -> ToolChoice:
    match value.get("type"):
        case None:
            raise missing("tool_choice.type")
        case "function":
            # OpenAI forces exactly one call this way.
            name = _reference(value, "tool_choice", tools)
            return ToolChoice(mode="required", names=(name,), parallel=False)
        case "allowed_tools":
            return _allowed_tools(value, tools)
        case _:
            raise InvalidField(
                "Invalid 'tool_choice.type': expected 'function' or 'allowed_tools'.",
                param="tool_choice.type",
            )


def _allowed_tools(value: dict[str, Any], tools: tuple[Tool, ...]) -> ToolChoice:
    param, fields = "tool_choice", value
    if "allowed_tools" in value:
        param, fields = "tool_choice.allowed_tools", value["allowed_tools"]
        if not isinstance(fields, dict):
            raise wrong_type(param, "an object", fields)
    mode = fields.get("mode", "auto")
    if mode not in ("auto", "required"):
        raise InvalidField(
            f"Invalid '{param}.mode': expected 'auto' or 'required'.",
            param=f"{param}.mode",
        )
    allowed = fields.get("tools")
    if allowed is None:
        raise missing(f"{param}.tools")
    if not isinstance(allowed, list):
        raise wrong_type(f"{param}.tools", "an array", allowed)
    if not allowed:
        raise InvalidField(
            f"Invalid '{param}.tools': the array is empty. Name a tool, or set "
            "'tool_choice' to 'none'.",
            param=f"{param}.tools",
        )
    names = tuple(
        _reference(item, f"{param}.tools[{number}]", tools)
        for number, item in enumerate(allowed)
    )
    required = mode == "required"
    return ToolChoice(
        mode="required" if required else "auto", names=tuple(dict.fromkeys(names))
    )


def _reference(value: object, param: str, tools: tuple[Tool, ...]) -> str:
    """Read which tool is meant, with or without the wrapper `function`."""
    if not isinstance(value, dict):
        raise wrong_type(param, "an object", value)
    fields: Any = value
    if "function" in value or "name" not in value:
        param, fields = f"{param}.function", value.get("function")
        if fields is None:
            raise missing(param)
        if not isinstance(fields, dict):
            raise wrong_type(param, "an object", fields)
    name = fields.get("name")
    if name is None:
        raise missing(f"{param}.name")
    if not isinstance(name, str):
        raise wrong_type(f"{param}.name", "a string", name)
    if all(tool.name != name for tool in tools):
        raise InvalidField(
            f"Invalid '{param}.name': no tool of this name is declared. "
            f"{_list_names(tools)}",
            param=f"{param}.name",
        )
    return name


def _function_call(value: object, tools: tuple[Tool, ...]) -> ToolChoice:
    match value:
        case None | "auto":
            return ToolChoice(parallel=False)
        case "none":
            return ToolChoice(mode="none", parallel=False)
        case dict():
            name = _reference({"name": value.get("name")}, "function_call", tools)
            return ToolChoice(mode="required", names=(name,), parallel=False)
        case _:
            raise InvalidField(
                "Invalid 'function_call': expected none, auto or an object with a "
                "'name'.",
                param="function_call",
            )


def _list_names(tools: tuple[Tool, ...]) -> str:
    if not tools:
        return "None is declared at all."
    more = len(tools) - _LISTED_NAMES
    rest = f" and {more} more" if more > 0 else ""
    return f"There are: {', '.join(t.name for t in tools[:_LISTED_NAMES])}{rest}."

import pytest

from server.core.errors import InvalidRequest
from server.core.requests import Tool, ToolChoice
from server.dialects.openai.tools import (
    MAX_NAME_CHARS,
    MAX_TOOLS,
    MAX_TOOLS_BYTES,
    decode_tools,
)
from server.dialects.openai.wire import ChatRequest

SCHEMA = {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {}}


def tool(name, **fields):
    return {"type": "function", "function": {"name": name, **fields}}


def decode(*tools, **fields):
    body = {"model": "m", "messages": [], **fields}
    if tools:
        body["tools"] = list(tools)
    return decode_tools(ChatRequest.model_validate(body))


def refusal(*tools, **fields):
    with pytest.raises(InvalidRequest) as caught:
        decode(*tools, **fields)
    return caught.value.to_info()


def test_a_tool_is_read_whole():
    tools, choice = decode(
        tool("add", description="Add.", parameters=SCHEMA, strict=True), tool("b")
    )
    assert (Tool("add", "Add.", SCHEMA, strict=True), Tool("b")) == tools
    assert ToolChoice() == choice


@pytest.mark.parametrize(
    "name",
    ["getWeather", "get-it", "sub.x", "ns:f", "_", "9", "A" * MAX_NAME_CHARS, "a_b-c"],
)
def test_a_name_is_kept_byte_for_byte(name):
    ((read,), _) = decode(tool(name))
    assert name == read.name


@pytest.mark.parametrize("fields", [{}, {"parameters": None}, {"parameters": {}}])
def test_a_tool_needs_no_parameters(fields):
    ((read,), _) = decode(tool("f", **fields))
    assert read.parameters is None


@pytest.mark.parametrize(
    ("strict", "expected"),
    [(None, False), (False, False), (True, True), ("true", True), ("false", False)],
)
def test_strict_may_be_a_text(strict, expected):
    ((read,), _) = decode(tool("f", strict=strict))
    assert expected == read.strict


def test_a_tool_without_a_type_is_a_function():
    assert ((Tool("f"),), ToolChoice()) == decode({"function": {"name": "f"}})


A, B = tool("a"), tool("b")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("none", ToolChoice(mode="none")),
        ("required", ToolChoice(mode="required")),
        (
            {"type": "function", "function": {"name": "b"}},
            ToolChoice(mode="required", names=("b",), parallel=False),
        ),
        (
            {"type": "function", "name": "b"},
            ToolChoice(mode="required", names=("b",), parallel=False),
        ),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [B, B]},
            },
            ToolChoice(mode="required", names=("b",)),
        ),
        (
            {"type": "allowed_tools", "tools": [{"type": "function", "name": "a"}, B]},
            ToolChoice(names=("a", "b")),
        ),
    ],
)
def test_every_way_to_choose_is_understood(value, expected):
    assert ((Tool("a"), Tool("b")), expected) == decode(A, B, tool_choice=value)


@pytest.mark.parametrize(
    ("parallel", "expected"), [(None, True), (True, True), (False, False)]
)
def test_calls_are_parallel_unless_that_is_refused(parallel, expected):
    _, choice = decode(A, parallel_tool_calls=parallel, tool_choice="required")
    assert ToolChoice(mode="required", parallel=expected) == choice
    _, named = decode(
        A, parallel_tool_calls=parallel, tool_choice={"type": "function", "name": "a"}
    )
    assert named.parallel is False


@pytest.mark.parametrize("value", [None, "auto", "none"])
def test_a_choice_without_tools_means_nothing(value):
    tools, choice = decode(tool_choice=value)
    assert ((), None) == (tools, choice.names)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ToolChoice(parallel=False)),
        ("auto", ToolChoice(parallel=False)),
        ("none", ToolChoice(mode="none", parallel=False)),
        ({"name": "b"}, ToolChoice(mode="required", names=("b",), parallel=False)),
    ],
)
def test_the_older_fields_say_the_same(value, expected):
    functions = [{"name": "a", "parameters": SCHEMA}, {"name": "b"}]
    tools, choice = decode(functions=functions, function_call=value)
    assert ((Tool("a", parameters=SCHEMA), Tool("b")), expected) == (tools, choice)


@pytest.mark.parametrize(
    ("value", "code", "param", "text"),
    [
        (5, "invalid_type", "tools[1]", "expected an object, but got a number."),
        (
            {"type": "function"},
            "missing_required_parameter",
            "tools[1].function",
            "Missing required parameter: 'tools[1].function'.",
        ),
        (
            {"type": "web_search"},
            "unsupported_parameter",
            "tools[1].type",
            "'tools[1].type' must be 'function'.",
        ),
        (
            {"type": "function", "function": []},
            "invalid_type",
            "tools[1].function",
            "expected an object, but got an array.",
        ),
        (
            {"type": "function", "function": {}},
            "missing_required_parameter",
            "tools[1].function.name",
            "Missing required parameter",
        ),
        (
            tool(7),
            "invalid_type",
            "tools[1].function.name",
            "expected a string, but got a number.",
        ),
        (
            tool(""),
            "invalid_value",
            "tools[1].function.name",
            "a name has 1 to 256 letters",
        ),
        (
            tool("a b"),
            "invalid_value",
            "tools[1].function.name",
            "digits and the signs _ - . : only.",
        ),
        (
            tool("a\n"),
            "invalid_value",
            "tools[1].function.name",
            "a name has 1 to 256 letters",
        ),
        (
            tool("é"),
            "invalid_value",
            "tools[1].function.name",
            "a name has 1 to 256 letters",
        ),
        (
            tool("A" * (MAX_NAME_CHARS + 1)),
            "invalid_value",
            "tools[1].function.name",
            "a name has 1 to 256 letters",
        ),
        (
            A,
            "invalid_value",
            "tools[1].function.name",
            "'a' is also the name of tools[0].",
        ),
        (
            tool("b", description=5),
            "invalid_type",
            "tools[1].function.description",
            "expected a string",
        ),
        (
            tool("b", description="x" * 262145),
            "invalid_value",
            "tools[1].function.description",
            "262145 characters are more than the limit of 262144.",
        ),
        (
            tool("b", parameters=[]),
            "invalid_type",
            "tools[1].function.parameters",
            "expected a JSON Schema (an object), but got an array.",
        ),
        (
            tool("b", parameters={"type": "string"}),
            "invalid_value",
            "tools[1].function.parameters",
            "the schema's 'type' must be 'object'.",
        ),
        (
            tool("b", parameters={"x": "y" * 2**19}),
            "invalid_value",
            "tools[1].function.parameters",
            "a schema of 524296 bytes is larger than the limit of 524288.",
        ),
        (
            tool("b", strict="maybe"),
            "invalid_type",
            "tools[1].function.strict",
            "expected a boolean, but got a string.",
        ),
    ],
)
def test_a_wrong_tool_is_refused_by_its_place(value, code, param, text):
    info = refusal(A, value)
    assert (400, code, param) == (info.http_status, info.code, info.param)
    assert text in info.message


def test_too_many_tools_are_refused_with_the_limits():
    many = [tool(f"f{number}") for number in range(MAX_TOOLS + 1)]
    assert "513 tools are more than the limit of 512." in refusal(*many).message
    assert MAX_TOOLS == len(decode(*many[1:])[0])
    large = [tool(f"f{n}", parameters={"x": "y" * 500_000}) for n in range(9)]
    info = refusal(*large)
    assert "tools" == info.param
    assert f"4500072 bytes in all are more than the limit of {MAX_TOOLS_BYTES}." in (
        info.message
    )


@pytest.mark.parametrize(
    ("value", "param", "text"),
    [
        ("any", "tool_choice", "expected one of none, auto, required, or an object"),
        (5, "tool_choice", "expected one of none, auto, required"),
        ({}, "tool_choice.type", "Missing required parameter: 'tool_choice.type'."),
        (
            {"type": "custom"},
            "tool_choice.type",
            "expected 'function' or 'allowed_tools'.",
        ),
        ({"type": "function"}, "tool_choice.function", "Missing required parameter"),
        (
            {"type": "function", "function": "a"},
            "tool_choice.function",
            "expected an object, but got a string.",
        ),
        (
            {"type": "function", "function": {}},
            "tool_choice.function.name",
            "Missing required parameter",
        ),
        (
            {"type": "function", "function": {"name": "c"}},
            "tool_choice.function.name",
            "no tool of this name is declared. There are: a, b.",
        ),
        ({"type": "function", "name": 5}, "tool_choice.name", "expected a string"),
        ({"type": "function", "name": "A"}, "tool_choice.name", "There are: a, b."),
        ({"type": "allowed_tools"}, "tool_choice.tools", "Missing required"),
        (
            {"type": "allowed_tools", "allowed_tools": []},
            "tool_choice.allowed_tools",
            "expected an object, but got an array.",
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"tools": []}},
            "tool_choice.allowed_tools.tools",
            "the array is empty. Name a tool, or set 'tool_choice' to 'none'.",
        ),
        (
            {"type": "allowed_tools", "mode": "none", "tools": [A]},
            "tool_choice.mode",
            "expected 'auto' or 'required'.",
        ),
        (
            {"type": "allowed_tools", "tools": {}},
            "tool_choice.tools",
            "expected an array, but got an object.",
        ),
        (
            {"type": "allowed_tools", "tools": [A, "b"]},
            "tool_choice.tools[1]",
            "expected an object, but got a string.",
        ),
        (
            {"type": "allowed_tools", "tools": [A, tool("c")]},
            "tool_choice.tools[1].function.name",
            "There are: a, b.",
        ),
    ],
)
def test_a_wrong_choice_is_refused_by_its_place(value, param, text):
    info = refusal(A, B, tool_choice=value)
    assert (400, param) == (info.http_status, info.param)
    assert text in info.message


def test_a_long_list_of_names_is_cut():
    tools = [tool(f"f{number}") for number in range(18)]
    choice = {"type": "function", "name": "x"}
    assert refusal(*tools, tool_choice=choice).message.endswith("f15 and 2 more.")


def test_a_call_of_nothing_is_refused():
    info = refusal(tool_choice="required")
    assert "a call is required, but 'tools' declares none." in info.message
    info = refusal(tool_choice={"type": "function", "name": "x"})
    assert info.message.endswith("None is declared at all.")


@pytest.mark.parametrize(
    ("fields", "param", "text"),
    [
        ({"functions": [{"name": "a"}], "tools": [A]}, "functions", "Send one of the"),
        ({"functions": [{}]}, "functions[0].name", "Missing required parameter"),
        (
            {"functions": [{"name": "a"}, {"name": "a"}]},
            "functions[1].name",
            "'a' is also the name of functions[0].",
        ),
        (
            {"functions": [{"name": "a"}], "function_call": {"name": "b"}},
            "function_call.name",
            "There are: a.",
        ),
        (
            {"functions": [{"name": "a"}], "function_call": {}},
            "function_call.name",
            "Missing required parameter",
        ),
        (
            {"functions": [{"name": "a"}], "function_call": "required"},
            "function_call",
            "expected none, auto or an object with a 'name'.",
        ),
    ],
)
def test_a_wrong_older_field_is_refused(fields, param, text):
    info = refusal(**fields)
    assert (400, param) == (info.http_status, info.param)
    assert text in info.message

"""Formats of real models, and two calls as each of them writes them."""

from server.core.requests import Tool
from server.text.format import (
    ArgumentStyle,
    CallSyntax,
    ChatFormat,
    ReasoningSyntax,
)

WEATHER = Tool(
    "get_weather",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "deep": {"type": "object"},
            "maybe": {"type": ["string", "null"]},
            "flag": {"$ref": "#/$defs/flag"},
        },
        "$defs": {"flag": {"type": "boolean"}},
    },
)
TOOLS = (WEATHER, Tool("f"), Tool("ns.do-it"))

BAR = "\uff5c"
"""What DeepSeek's marks have for a vertical line."""

THINK = ReasoningSyntax("<think>\n", "\n</think>\n\n")


def make(
    style: ArgumentStyle, reasoning: ReasoningSyntax | None = None, **marks
) -> ChatFormat:
    return ChatFormat(reasoning, CallSyntax(style, **marks))


JSON_CALL, JSON = ArgumentStyle.JSON_CALL, ArgumentStyle.JSON
TAGGED, QUOTED, PYTHON = (
    ArgumentStyle.TAGGED,
    ArgumentStyle.QUOTED,
    ArgumentStyle.PYTHON,
)

FORMATS = {
    "hermes": make(
        JSON_CALL,
        THINK,
        call_begin="<tool_call>\n",
        call_end="\n</tool_call>",
        separator="\n",
    ),
    "nemo": make(JSON_CALL, section_begin="[TOOL_CALLS]", is_array=True, id_key="id"),
    "small": make(
        JSON,
        call_begin="[TOOL_CALLS]",
        name_end="[CALL_ID]",
        id_end="[ARGS]",
    ),
    "devstral": make(JSON, call_begin="[TOOL_CALLS]", name_end="[ARGS]"),
    "llama": make(JSON_CALL, arguments_key="parameters", is_parallel=False),
    "functionary": make(
        JSON, call_begin="<function=", name_end=">", call_end="</function>"
    ),
    "cohere": ChatFormat(
        ReasoningSyntax("<|START_THINKING|>", "<|END_THINKING|>"),
        CallSyntax(
            JSON_CALL,
            section_begin="<|START_ACTION|>",
            section_end="<|END_ACTION|>",
            is_array=True,
            name_key="tool_name",
            arguments_key="parameters",
            id_key="tool_call_id",
            is_id_first=True,
        ),
        answer_begin="<|START_RESPONSE|>",
        answer_end="<|END_RESPONSE|>",
    ),
    "deepseek-r1": make(
        JSON,
        ReasoningSyntax("<think>\n", "</think>"),
        section_begin="<\uff5ctool▁calls▁begin\uff5c>",
        section_end="<\uff5ctool▁calls▁end\uff5c>",
        separator="\n",
        call_begin="<\uff5ctool▁call▁begin\uff5c>function<\uff5ctool▁sep\uff5c>",
        name_end="\n```json\n",
        call_end="\n```<\uff5ctool▁call▁end\uff5c>",
    ),
    "deepseek-v3.1": make(
        JSON,
        ReasoningSyntax("<think>", "</think>"),
        section_begin="<\uff5ctool▁calls▁begin\uff5c>",
        section_end="<\uff5ctool▁calls▁end\uff5c>",
        call_begin="<\uff5ctool▁call▁begin\uff5c>",
        name_end="<\uff5ctool▁sep\uff5c>",
        call_end="<\uff5ctool▁call▁end\uff5c>",
    ),
    "kimi": make(
        JSON,
        section_begin="<|tool_calls_section_begin|>",
        section_end="<|tool_calls_section_end|>",
        call_begin="<|tool_call_begin|>",
        name_end="<|tool_call_argument_begin|>",
        call_end="<|tool_call_end|>",
        id_holds_name=True,
    ),
    "glm": make(
        TAGGED,
        ReasoningSyntax("\n<think>", "</think>"),
        call_begin="\n<tool_call>",
        name_end="\n",
        key_begin="<arg_key>",
        key_end="</arg_key>\n<arg_value>",
        value_end="</arg_value>\n",
        call_end="</tool_call>",
    ),
    "qwen3-coder": make(
        TAGGED,
        call_begin="\n<tool_call>\n<function=",
        name_end=">\n",
        key_begin="<parameter=",
        key_end=">\n",
        value_end="\n</parameter>\n",
        call_end="</function>\n</tool_call>",
    ),
    "minimax": make(
        TAGGED,
        THINK,
        section_begin="\n<minimax:tool_call>\n",
        section_end="</minimax:tool_call>",
        call_begin='<invoke name="',
        name_end='">\n',
        key_begin='<parameter name="',
        key_end='">',
        value_end="</parameter>\n",
        call_end="</invoke>\n",
    ),
    "seed": make(
        TAGGED,
        ReasoningSyntax("<seed:think>", "</seed:think>"),
        call_begin="\n<seed:tool_call>\n<function=",
        name_end=">\n",
        key_begin="<parameter=",
        key_end=">",
        value_end="</parameter>\n",
        call_end="</function>\n</seed:tool_call>",
    ),
    "granite": make(JSON_CALL, section_begin="<|tool_call|>", is_array=True),
    "nemotron": make(
        JSON_CALL,
        THINK,
        section_begin="<TOOLCALL>",
        section_end="</TOOLCALL>",
        is_array=True,
        args_as_text=True,
    ),
    "apertus": make(
        JSON_CALL,
        ReasoningSyntax("<|inner_prefix|>", "<|inner_suffix|>"),
        section_begin="<|tools_prefix|>",
        section_end="<|tools_suffix|>",
        is_array=True,
        name_key="",
    ),
    "gemma4": make(
        QUOTED,
        ReasoningSyntax("<|channel>thought\n", "\n<channel|>"),
        call_begin="<|tool_call>call:",
        call_end="<tool_call|>",
        quote='<|"|>',
    ),
    "lfm2": make(
        PYTHON,
        section_begin="<|tool_call_start|>",
        section_end="<|tool_call_end|>",
        is_array=True,
    ),
    "firefunction": make(JSON_CALL, section_begin=" functools", is_array=True),
    "wrapped": make(
        JSON_CALL, call_begin="<c>", call_end="</c>", wrapper_key="function"
    ),
    "pythonic": make(PYTHON, is_array=True),
    "harmony": ChatFormat(
        ReasoningSyntax("<|channel|>analysis<|message|>", "<|end|><|start|>assistant"),
        CallSyntax(
            JSON,
            call_begin="<|channel|>commentary to=functions.",
            name_end=" <|constrain|>json<|message|>",
            call_end="<|call|>",
            is_parallel=False,
        ),
        answer_begin="<|channel|>final<|message|>",
        channels=True,
    ),
}

TWO = (
    ("get_weather", '{"city": "Zü\\"rich\\n<b>", "days": 3}'),
    ("ns.do-it", '{"deep": {"a": [1, true, null, {}], "b": "\\\\"}}'),
)
OUTPUTS = {
    "hermes": (
        '<tool_call>\n{"name": "get_weather", "arguments": '
        '{"city": "Zü\\"rich\\n<b>", "days": 3}}\n</tool_call>\n<tool_call>\n'
        '{"name": "ns.do-it", "arguments": '
        '{"deep": {"a": [1, true, null, {}], "b": "\\\\"}}}\n</tool_call>'
    ),
    "nemo": (
        '[TOOL_CALLS][{"name": "get_weather", "arguments": '
        '{"city": "Zü\\"rich\\n<b>", "days": 3}, "id": "abcdefghi"}, '
        '{"name": "ns.do-it", "arguments": '
        '{"deep": {"a": [1, true, null, {}], "b": "\\\\"}}, "id": "123456789"}]'
    ),
    "small": (
        "[TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]"
        '{"city": "Zü\\"rich\\n<b>", "days": 3}'
        "[TOOL_CALLS]ns.do-it[CALL_ID]123456789[ARGS]"
        '{"deep": {"a": [1, true, null, {}], "b": "\\\\"}}'
    ),
    "devstral": (
        '[TOOL_CALLS]get_weather[ARGS]{"city": "Zü\\"rich\\n<b>", "days": 3}'
        "[TOOL_CALLS]ns.do-it[ARGS]"
        '{"deep": {"a": [1, true, null, {}], "b": "\\\\"}}'
    ),
    "llama": (
        '{"name": "get_weather", "parameters": '
        '{"city": "Zü\\"rich\\n<b>", "days": 3}}\n'
        '{"type": "function", "name": "ns.do-it", "parameters": '
        '{"deep": {"a": [1, true, null, {}], "b": "\\\\"}}}'
    ),
    "functionary": (
        '<function=get_weather>{"city": "Zü\\"rich\\n<b>", "days": 3}</function>'
        '<function=ns.do-it>{"deep": {"a": [1, true, null, {}], "b": "\\\\"}}'
        "</function>"
    ),
    "cohere": (
        '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "get_weather", '
        '"parameters": {"city": "Zü\\"rich\\n<b>", "days": 3}},\n'
        '    {"tool_call_id": "1", "tool_name": "ns.do-it", "parameters": '
        '{"deep": {"a": [1, true, null, {}], "b": "\\\\"}}}\n]<|END_ACTION|>'
    ),
    "deepseek-r1": (
        f"<{BAR}tool▁calls▁begin{BAR}><{BAR}tool▁call▁begin{BAR}>function"
        f"<{BAR}tool▁sep{BAR}>get_weather\n```json\n{TWO[0][1]}\n"
        f"```<{BAR}tool▁call▁end{BAR}>\n<{BAR}tool▁call▁begin{BAR}>function"
        f"<{BAR}tool▁sep{BAR}>ns.do-it\n```json\n{TWO[1][1]}\n"
        f"```<{BAR}tool▁call▁end{BAR}><{BAR}tool▁calls▁end{BAR}>"
    ),
    "deepseek-v3.1": (
        f"<{BAR}tool▁calls▁begin{BAR}><{BAR}tool▁call▁begin{BAR}>get_weather"
        f"<{BAR}tool▁sep{BAR}>{TWO[0][1]}<{BAR}tool▁call▁end{BAR}>"
        f"<{BAR}tool▁call▁begin{BAR}>ns.do-it<{BAR}tool▁sep{BAR}>{TWO[1][1]}"
        f"<{BAR}tool▁call▁end{BAR}><{BAR}tool▁calls▁end{BAR}>"
    ),
    "kimi": (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
        '<|tool_call_argument_begin|>{"city": "Zü\\"rich\\n<b>", "days": 3}'
        "<|tool_call_end|><|tool_call_begin|>functions.ns.do-it:1"
        "<|tool_call_argument_begin|>"
        '{"deep": {"a": [1, true, null, {}], "b": "\\\\"}}'
        "<|tool_call_end|><|tool_calls_section_end|>"
    ),
    "glm": (
        "\n<tool_call>get_weather\n<arg_key>city</arg_key>\n"
        '<arg_value>Zü"rich\n<b></arg_value>\n<arg_key>days</arg_key>\n'
        "<arg_value>3</arg_value>\n</tool_call>\n<tool_call>ns.do-it\n"
        "<arg_key>deep</arg_key>\n"
        '<arg_value>{"a": [1, true, null, {}], "b": "\\\\"}</arg_value>\n'
        "</tool_call>"
    ),
    "qwen3-coder": (
        '\n<tool_call>\n<function=get_weather>\n<parameter=city>\nZü"rich\n<b>\n'
        "</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n"
        "</tool_call>\n<tool_call>\n<function=ns.do-it>\n<parameter=deep>\n"
        '{"a": [1, true, null, {}], "b": "\\\\"}\n</parameter>\n</function>\n'
        "</tool_call>"
    ),
    "minimax": (
        '\n<minimax:tool_call>\n<invoke name="get_weather">\n'
        '<parameter name="city">Zü"rich\n<b></parameter>\n'
        '<parameter name="days">3</parameter>\n</invoke>\n'
        '<invoke name="ns.do-it">\n<parameter name="deep">'
        '{"a": [1, true, null, {}], "b": "\\\\"}</parameter>\n</invoke>\n'
        "</minimax:tool_call>"
    ),
    "seed": (
        '\n<seed:tool_call>\n<function=get_weather>\n<parameter=city>Zü"rich\n<b>'
        "</parameter>\n<parameter=days>3</parameter>\n</function>\n"
        "</seed:tool_call>\n<seed:tool_call>\n<function=ns.do-it>\n"
        '<parameter=deep>{"a": [1, true, null, {}], "b": "\\\\"}</parameter>\n'
        "</function>\n</seed:tool_call>"
    ),
    "granite": (
        '<|tool_call|>[{"name": "get_weather", "arguments": '
        '{"city": "Zü\\"rich\\n<b>", "days": 3}}, {"name": "ns.do-it", '
        '"arguments": {"deep": {"a": [1, true, null, {}], "b": "\\\\"}}}]'
    ),
    "nemotron": (
        '<TOOLCALL>[{"name": "get_weather", "arguments": '
        '"{\\"city\\": \\"Z\\u00fc\\\\\\"rich\\\\n<b>\\", \\"days\\": 3}"}, '
        '{"name": "ns.do-it", "arguments": '
        '{"deep": {"a": [1, true, null, {}], "b": "\\\\"}}}]</TOOLCALL>'
    ),
    "apertus": (
        '<|tools_prefix|>[{"get_weather": {"city": "Zü\\"rich\\n<b>", "days": 3}}, '
        '{"ns.do-it": {"deep": {"a": [1, true, null, {}], "b": "\\\\"}}}]'
        "<|tools_suffix|>"
    ),
    "gemma4": (
        '<|tool_call>call:get_weather{city:<|"|>Zü"rich\n<b><|"|>,days:3}'
        "<tool_call|><|tool_call>call:ns.do-it{deep:{a:[1,true,null,{}],"
        'b:<|"|>\\<|"|>}}<tool_call|>'
    ),
    "lfm2": (
        "<|tool_call_start|>[get_weather(city='Zü\"rich\\n<b>', days=3), "
        "ns.do-it(deep={'a': [1, True, None, {}], 'b': '\\\\'})]"
        "<|tool_call_end|>"
    ),
    "firefunction": (
        ' functools[{"name": "get_weather", "arguments": '
        '{"city": "Zü\\"rich\\n<b>", "days": 3}}, {"name": "ns.do-it", '
        '"arguments": {"deep": {"a": [1, true, null, {}], "b": "\\\\"}}}]'
    ),
    "wrapped": (
        '<c>{"type": "function", "function": {"name": "get_weather", "arguments": '
        '{"city": "Zü\\"rich\\n<b>", "days": 3}}}</c><c>{"function": {"arguments": '
        '{"deep": {"a": [1, true, null, {}], "b": "\\\\"}}, "name": "ns.do-it"}}'
        "</c>"
    ),
    "pythonic": (
        "[get_weather(city='Zü\"rich\\n<b>', days=3), "
        "ns.do-it(deep={'a': [1, True, None, {}], 'b': '\\\\'})]"
    ),
    "harmony": (
        "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
        '{"city": "Zü\\"rich\\n<b>", "days": 3}<|call|><|start|>assistant'
        " to=functions.ns.do-it<|channel|>commentary json<|message|>"
        '{"deep": {"a": [1, true, null, {}], "b": "\\\\"}}<|call|>'
    ),
}
"""The two calls of `TWO` as each format writes them."""

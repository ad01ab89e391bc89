"""One syntax of each kind, with tools and calls to write in it."""

import json

from server.core.requests import Tool
from server.text.call_text import WrittenCall
from server.text.format import ArgumentStyle, CallSyntax

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "maximum": 9},
        "unit": {"enum": ["c", "f"]},
        "deep": {
            "type": "object",
            "properties": {
                "on": {"type": "boolean"},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
        },
    },
    "required": ["city"],
}
TOOLS = (Tool("get_weather", parameters=WEATHER), Tool("now"), Tool("get.x-y_2"))
ARGUMENTS = {
    "city": 'São "Paulo"\nand {more}',
    "days": 3,
    "unit": "c",
    "deep": {"on": True, "tags": ["a", "b'"]},
}
CALLS = (
    WrittenCall(
        "get_weather", ARGUMENTS, json.dumps(ARGUMENTS, ensure_ascii=False), "abcdef123"
    ),
    WrittenCall("now", {}, "{}", "abcdef124"),
)
Style = ArgumentStyle
SYNTAXES = {
    "hermes": CallSyntax(
        Style.JSON_CALL,
        separator="\n",
        call_begin="<tool_call>\n",
        call_end="\n</tool_call>",
    ),
    "name as key": CallSyntax(
        Style.JSON_CALL,
        section_begin="<|a|>",
        section_end="<|b|>",
        is_array=True,
        name_key="",
        arguments_key="",
    ),
    "id first": CallSyntax(
        Style.JSON_CALL,
        section_begin="<|a|>",
        section_end="<|b|>",
        is_array=True,
        name_key="tool_name",
        arguments_key="parameters",
        id_key="tool_call_id",
        is_id_first=True,
    ),
    "id last": CallSyntax(
        Style.JSON_CALL, section_begin="[TOOL_CALLS]", is_array=True, id_key="id"
    ),
    "wrapped": CallSyntax(
        Style.JSON_CALL, call_begin="<|a|>", call_end="<|b|>", wrapper_key="function"
    ),
    "bare": CallSyntax(Style.JSON_CALL, arguments_key="parameters", is_parallel=False),
    "tagged": CallSyntax(
        Style.TAGGED,
        separator="\n",
        call_begin="<tool_call>\n<function=",
        call_end="</function>\n</tool_call>",
        name_end=">\n",
        key_begin="<parameter=",
        key_end=">\n",
        value_end="\n</parameter>\n",
    ),
    "tagged in tokens": CallSyntax(
        Style.TAGGED,
        call_begin="<|a|>",
        call_end="<|b|>",
        name_end="\n",
        key_begin="<arg_key>",
        key_end="</arg_key>\n<arg_value>",
        value_end="</arg_value>\n",
    ),
    "id holds name": CallSyntax(
        Style.JSON,
        section_begin="<S>",
        section_end="</S>",
        call_begin="<|a|>",
        call_end="<|b|>",
        name_end="<ARG>",
        id_holds_name=True,
    ),
    "id after name": CallSyntax(
        Style.JSON, call_begin="[TOOL_CALLS]", name_end="[CALL_ID]", id_end="[ARGS]"
    ),
    "fenced": CallSyntax(
        Style.JSON,
        section_begin="<calls>",
        section_end="</calls>",
        separator="\n",
        call_begin="<|a|>function<sep>",
        call_end="\n```<|b|>",
        name_end="\n```json\n",
    ),
    "python": CallSyntax(
        Style.PYTHON, section_begin="<|a|>", section_end="<|b|>", is_array=True
    ),
    "quoted": CallSyntax(
        Style.QUOTED, call_begin="<tc>call:", call_end="</tc>", quote="<|a|>"
    ),
}

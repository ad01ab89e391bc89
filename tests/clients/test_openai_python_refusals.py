"""The official Python client is told what is wrong, and where."""

import pytest

from tests.clients.questions import TOOLS, WANT_WEATHER, WEATHER, ask

openai = pytest.importorskip("openai", reason="needs openai: run make test-clients")


def refuse(create, **more):
    """Return param, code and text of the refusal that must come."""
    with pytest.raises(openai.BadRequestError) as caught:
        create(messages=ask(WANT_WEATHER), **more)
    error = caught.value
    assert "invalid_request_error" == error.type
    return error.param, error.code, error.body["message"]


@pytest.mark.parametrize(
    ("function", "param", "code"),
    [
        (None, "tools[0].function", "missing_required_parameter"),
        ({}, "tools[0].function.name", "missing_required_parameter"),
        ({"name": "a b"}, "tools[0].function.name", "invalid_value"),
        (
            {"name": "f", "parameters": []},
            "tools[0].function.parameters",
            "invalid_type",
        ),
    ],
    ids=["no function", "no name", "bad name", "bad parameters"],
)
def test_a_bad_tool_is_refused_by_its_place(create, function, param, code):
    tool = {"type": "function"} | (
        {"function": function} if function is not None else {}
    )
    told = refuse(create, tools=[tool])
    assert (param, code) == told[:2]
    assert f"'{param}'" in told[2]


def test_two_tools_of_one_name_are_refused(create):
    param, code, text = refuse(create, tools=[WEATHER, WEATHER])
    assert ("tools[1].function.name", "invalid_value") == (param, code)
    assert (
        "Invalid 'tools[1].function.name': 'get_weather' is also the name of "
        "tools[0]. Names must differ."
    ) == text


def test_a_choice_of_a_tool_that_is_not_offered_is_refused(create):
    choice = {"type": "function", "function": {"name": "nope"}}
    param, code, text = refuse(create, tools=TOOLS, tool_choice=choice)
    assert ("tool_choice.function.name", "invalid_value") == (param, code)
    assert (
        "Invalid 'tool_choice.function.name': no tool of this name is declared. "
        "There are: get_weather, set_light."
    ) == text


def test_a_required_call_without_tools_is_refused(create):
    param, code, text = refuse(create, tool_choice="required")
    assert ("tool_choice", "invalid_value") == (param, code)
    assert (
        "Invalid 'tool_choice': a call is required, but 'tools' declares none."
    ) == text


def test_an_unknown_response_format_is_refused(create):
    param, code, text = refuse(create, response_format={"type": "xml"})
    assert ("response_format.type", "invalid_value") == (param, code)
    assert (
        "Invalid 'response_format.type': expected one of text, json_object, "
        "json_schema."
    ) == text


def test_a_response_format_without_its_schema_is_refused(create):
    param, code, text = refuse(create, response_format={"type": "json_schema"})
    assert ("response_format.json_schema", "missing_required_parameter") == (
        param,
        code,
    )
    assert ("Missing required parameter: 'response_format.json_schema'.") == text


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_that_nothing_fulfils_is_refused_before_the_answer(create, stream):
    schema = {"type": "object", "properties": {"a": False}, "required": ["a"]}
    format_of_nothing = {
        "type": "json_schema",
        "json_schema": {"name": "nothing", "strict": True, "schema": schema},
    }
    told = refuse(create, response_format=format_of_nothing, stream=stream)
    assert ("response_format", "invalid_value") == told[:2]
    assert told[2].startswith("No value can be valid under the schema: ")

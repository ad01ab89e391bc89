"""What the tests of tools, thoughts and constrained answers ask."""

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

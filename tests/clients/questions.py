"""What the tests of clients ask: tools, and questions that Novice can answer.

At temperature 0 it copies words of a question into calls and objects; what it
makes of other questions has the right form alone.
"""

import json
from typing import Any, Final

MODEL: Final = "novice"
THINK: Final = {"chat_template_kwargs": {"enable_thinking": True}}
"""What a request carries besides, so that Novice thinks first."""

WEATHER: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
LIGHT: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "set_light",
        "description": "Set the light of a room.",
        "parameters": {
            "type": "object",
            "properties": {"room": {"type": "string"}},
            "required": ["room"],
        },
    },
}
TOOLS: Final = [WEATHER, LIGHT]

WANT_WEATHER: Final = "Use get_weather with city Zurich."
WANT_LIGHT: Final = "Use set_light with room Kitchen."
WANT_BOTH: Final = "Use get_weather with city Zurich and set_light with room Kitchen."
WANT_PERSON: Final = "Give me a JSON object with name Ada and city Zurich."
WANT_PERSON_BY: Final = "Use {tool} with name Ada and city Zurich."
WANT_SUM: Final = "What is 12 + 31?"
SUM: Final = "12 + 31 = 40 + 3 = 43"
WHO: Final = "Who are you?"
NOVICE: Final = "I am Novice, the small self-test model that ships with Cloister."


def ask(question: str) -> list[Any]:
    """Make the messages of a question."""
    return [{"role": "user", "content": question}]


def calls_of(message: Any) -> list[tuple[str, Any]]:
    """List names and parsed arguments of the calls in a message of the openai SDK."""
    return [
        (call.function.name, json.loads(call.function.arguments))
        for call in message.tool_calls or []
    ]

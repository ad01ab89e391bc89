"""A prompt that leaves a thought open is told from one that does not."""

import pytest

from server.text.format import ArgumentStyle, CallSyntax, ChatFormat, ReasoningSyntax
from server.text.thinking import starts_inside_thought

CALLS = CallSyntax(ArgumentStyle.JSON_CALL, call_begin="<c>")
FORMAT = ChatFormat(
    ReasoningSyntax("<think>\n", "\n</think>\n\n"),
    CALLS,
    turn_begins=("</end><bot>\n", "</result>"),
)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("<usr>Hi</end><bot>\n<think>\n", True),
        ("<usr>Hi</end><bot>\n<think>", True),
        ("<usr>Hi</end><bot>\n", False),
        ("<usr>Hi</end><bot>\n<think>\n\n</think>\n\n", False),
        ("<usr>Hi</end><bot>\n<think>\nSo the", True),
        ("<usr>Hi</end><bot>\n<think>\nSo\n</think>\n\nThe", False),
        ("<usr>Is <think> a tag?</end><bot>\n", False),
        ("<usr>Is <think> a tag?</end><bot>\nYes", False),
        ("<bot>\n<think>\nSo\n</think>\n\n</end><usr>Hi</end><bot>\n", False),
        ("</end><bot>\n<think>x</think><c></c><result>y</result>Then <think> z", True),
        ("</end><bot>\n<think>x", True),
        ("", False),
    ],
)
def test_an_open_thought_is_seen(prompt, expected) -> None:
    assert expected is starts_inside_thought(FORMAT, prompt)


def test_without_thoughts_none_is_open() -> None:
    assert not starts_inside_thought(ChatFormat(None, CALLS), "<think>")


def test_without_a_known_turn_only_the_end_counts() -> None:
    plain = ChatFormat(FORMAT.reasoning, CALLS)
    assert starts_inside_thought(plain, "x<think>\n")
    assert not starts_inside_thought(plain, "x<think>\ny")

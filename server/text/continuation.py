"""Leaves the last message of a conversation open, so that it goes on.

The end of what is to go on is found by a mark that is put there: the prompt is
cut where the mark stands, whatever the template writes after it. A template
that drops or refuses the text is asked for the opening of a turn instead, and
the text is put after it; so it is with thoughts that it does not show.
"""

from collections.abc import Callable
from typing import Protocol

from msgspec.structs import replace

from server.core.requests import Message, Text
from server.text.format import ChatFormat, ReasoningSyntax
from server.text.turns import join_text


class Write(Protocol):
    """Renders messages; `thinks` None leaves thinking as the client wants it."""

    def __call__(
        self,
        messages: tuple[Message, ...],
        *,
        add_generation_prompt: bool,
        thinks: bool | None,
    ) -> str:
        """Return the text; it raises whatever the template raises."""


def continue_turn(
    messages: tuple[Message, ...],
    write: Write,
    protect: Callable[[str], str],
    chat_format: ChatFormat,
) -> str:
    """Write a conversation up to the end of its last message.

    Args:
        messages: The last one is an assistant's and calls nothing.
        write: Renders messages.
        protect: Makes control texts harmless.
        chat_format: How the model writes thoughts.
    """
    *before, last = messages
    content, thought = join_text(last), last.reasoning or ""
    text = _write_marked(messages, write)
    if text is not None:
        return _leave_thought(text, protect(content), chat_format)
    reasoning = chat_format.reasoning
    if thought and reasoning is None:
        thought = ""
    text = write(
        tuple(before), add_generation_prompt=True, thinks=bool(thought) or None
    )
    if reasoning is not None:
        if thought:
            text = _open_thought(text, reasoning) + protect(thought)
            text += reasoning.end if content else ""
        elif content:
            text = _close_thought(text, reasoning)
    opening = chat_format.answer_begin
    if content and opening and not text.endswith(opening):
        text += opening
    return text + protect(content)


def _write_marked(messages: tuple[Message, ...], write: Write) -> str | None:
    """Cut the prompt at the mark; None where a mark is not shown."""
    *before, last = messages
    content, thought = join_text(last), last.reasoning or ""
    everything = "".join([thought, *map(join_text, messages)])
    end = _make_mark("Zonwardz", everything)
    inner = _make_mark("Zthusz", everything) if thought else ""
    if content or not thought:
        last = replace(last, content=(Text(content + end),))
    if thought:
        last = replace(last, reasoning=thought + inner)
    try:
        text = write((*before, last), add_generation_prompt=False, thinks=None)
    except Exception:  # noqa: BLE001 a foreign program; the opening of a turn may do
        return None
    stop = end if content or not thought else inner
    if stop not in text or inner not in text:
        return None
    text = text[: text.rindex(stop)]
    return text.replace(inner, "") if inner else text


def _leave_thought(text: str, content: str, chat_format: ChatFormat) -> str:
    """Close a thought that the template opened right before the answer."""
    reasoning = chat_format.reasoning
    shown = content.lstrip()
    if reasoning is None or not shown or not text.endswith(shown):
        return text
    head = text[: len(text) - len(shown)]
    return _close_thought(head, reasoning) + shown


def _close_thought(text: str, reasoning: ReasoningSyntax) -> str:
    if text.rstrip().endswith(reasoning.begin.strip()):
        return text.rstrip() + _blank_of(reasoning.begin) + reasoning.end.lstrip()
    return text


def _open_thought(text: str, reasoning: ReasoningSyntax) -> str:
    if text.rstrip().endswith(reasoning.begin.strip()):
        return text
    return text + reasoning.begin


def _blank_of(mark: str) -> str:
    return mark[len(mark.rstrip()) :]


def _make_mark(word: str, everything: str) -> str:
    """Return a word that stands nowhere in the conversation."""
    while word in everything:
        word += "z"
    return word

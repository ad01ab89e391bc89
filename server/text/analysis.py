"""Finds a model's format from its chat template.

How a model writes calls and thoughts is in its template: the program that
shows the model its own past turns. So the template is run with made-up
conversations, and what it writes is compared. No model's name is asked for.

1. `analysis_shape`: in which form does the template show calls at all? Some
   drop or refuse what has not the ids, texts or results that they want.
2. `analysis_thought`: what stands around a thought, and what turns it off?
3. `analysis_calls`: which marks stand around name, arguments and calls?
4. What rendering does not show is looked up by marks in the template's text
   (`overrides`), and failing that the model is told a format (`fallback`).

A template is a foreign program. Whatever it raises only means that something
was not found in that way; the time for all of it is limited by the caller.
"""

import re
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from server.text.analysis_calls import find_calls
from server.text.analysis_probe import (
    ANSWER,
    FIRST,
    RESULT,
    Drawable,
    Probe,
    make_calls,
    make_result,
    say,
)
from server.text.analysis_shape import find_probe, find_shape
from server.text.analysis_thought import find_reasoning, strip_thought
from server.text.fallback import FALLBACK_CALLS
from server.text.format import ChatFormat, ReasoningSyntax
from server.text.overrides import find_override
from server.text.shapes import TurnShape

T = TypeVar("T")

_MAX_MARK_CHARS: Final = 100


class Explorable(Drawable, Protocol):
    """A template that bounds the time of trying it out."""

    def explore(self, action: Callable[[], T]) -> T | None:
        """Run something that draws; None if it took too long."""


class Study(Struct, frozen=True):
    """What was found about a template."""

    chat_format: ChatFormat
    shape: TurnShape


class Studied(Protocol):
    """A template that was tried out."""

    @property
    def study(self) -> Study:
        """What was found, once."""


_NOTHING: Final = Study(
    ChatFormat(reasoning=None, calls=FALLBACK_CALLS, source="fallback"),
    TurnShape(shows_tools=False, shows_calls=False, shows_results=False),
)


def analyse(template: Studied) -> ChatFormat:
    """Find how a model writes calls, thoughts and answers.

    Args:
        template: A `ChatTemplate`, which is tried out the first time only.
    """
    return template.study.chat_format


def study(template: Explorable) -> Study:
    """Find the format, and the shape in which conversations are given."""
    return template.explore(lambda: _study(template)) or _NOTHING


def _study(template: Explorable) -> Study:
    shape = find_shape(template)
    probe = find_probe(template, shape)
    reasoning = find_reasoning(probe)
    known = find_override(template.source, comes_first=True)
    calls = None
    if known is None and shape.shows_calls:
        calls = find_calls(probe, reasoning)
    if calls is not None:
        begin, end = _find_answer_marks(probe, reasoning)
        found = ChatFormat(reasoning, calls, begin, end)
    else:
        known = known or find_override(template.source, comes_first=False)
        found, shape = _settle(known, reasoning, shape)
    if not found.turn_begins:
        found = replace(found, turn_begins=_find_turn_begins(probe, reasoning))
    return Study(found, shape)


def _settle(
    known: ChatFormat | None, reasoning: ReasoningSyntax | None, shape: TurnShape
) -> tuple[ChatFormat, TurnShape]:
    """Take a known format, or the fallback, where rendering showed no calls."""
    if known is None:
        # Half of what a template makes of tools would only confuse the model.
        shape = replace(
            shape, shows_tools=False, shows_calls=False, shows_results=False
        )
        return ChatFormat(reasoning, FALLBACK_CALLS, source="fallback"), shape
    return replace(known, reasoning=known.reasoning or reasoning), shape


def _find_answer_marks(
    probe: Probe, reasoning: ReasoningSyntax | None
) -> tuple[str, str]:
    """Return marks that stand around a plain answer; mostly none."""
    tail = probe.draw_tail(say("assistant", ANSWER))
    prompt = probe.draw_prompt_tail()
    if tail is None or prompt is None or ANSWER not in tail:
        return "", ""
    before, _, after = tail.partition(ANSWER)
    begin = before[probe.atoms.count_prefix(before, prompt) :]
    begin = strip_thought(begin, reasoning)
    tags = [atom for atom in probe.atoms.split(after) if probe.atoms.is_tag(atom)]
    if not any(map(probe.atoms.is_tag, probe.atoms.split(begin))) or len(tags) < 2:  # noqa: PLR2004 the mark, and the end of the turn
        return "", ""
    return begin, tags[0]


def _find_turn_begins(
    probe: Probe, reasoning: ReasoningSyntax | None
) -> tuple[str, ...]:
    """Return how the model's turn begins after a question and after a result."""
    prompts = [probe.draw_prompt_tail()]
    if probe.shape.shows_calls and probe.shape.shows_results:
        reply = probe.draw_reply_prompt(make_calls(FIRST), make_result(FIRST))
        after = (reply or "").rpartition(RESULT)[2]
        # Some results end with the id or the name of the call.
        prompts.append(after.rpartition(FIRST.id)[2].rpartition(FIRST.name)[2])
    begins = [_drop_thought(prompt, reasoning) for prompt in prompts if prompt]
    return tuple(
        begin for begin in begins if begin.strip() and len(begin) <= _MAX_MARK_CHARS
    )


def _drop_thought(prompt: str, reasoning: ReasoningSyntax | None) -> str:
    if reasoning is None:
        return prompt
    begin, end = map(re.escape, (reasoning.begin.strip(), reasoning.end.strip()))
    return re.sub(rf"\s*{begin}\s*(?:{end}\s*)?$", "", prompt)

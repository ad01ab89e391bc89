"""Finds how a template writes thoughts, and how they are switched off.

Three sources, in this order. A template that keeps thoughts writes one that it
is given: the marks stand around it. One that drops them has to look for their
end in the text (`content.split('</think>')`). And what a model is to think is
sometimes seen in the prompt alone, which opens a thought, or holds an empty
one when thinking is off.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from server.core.requests import Message, Text
from server.text.analysis_probe import (
    ANSWER,
    FIRST,
    FOLLOWING,
    QUESTION,
    THOUGHT,
    Probe,
    cut_tail,
    make_calls,
    make_result,
    say,
)
from server.text.format import ReasoningSyntax
from server.text.turns import make_turn

_SWITCHES: Final[tuple[tuple[str, Any, Any], ...]] = (
    ("enable_thinking", True, False),
    ("thinking", True, False),
    ("thinking_budget", -1, 0),
)
"""Variables of templates, with their values for on and off.

Source: the chat templates of Qwen3, GLM, SmolLM3 (enable_thinking), DeepSeek
V3.1, Granite 3.3 (thinking), Seed-OSS (thinking_budget).
"""

TEXT_SWITCH: Final = "/no_think"
"""A word in a system message that switches thoughts off.

Source: the chat templates of SmolLM3 and NVIDIA's Nemotron Nano v2.
"""

_WORDS: Final = r"think|thought|reason|cot|reflect"
_LITERAL: Final = re.compile(
    rf"""(['"])(</[^<>\s]*(?:{_WORDS})[^<>\s]*>|\[/[A-Z_]*(?:{_WORDS})[A-Z_]*\])\1""",
    re.IGNORECASE,
)
_MAX_MARK_CHARS: Final = 100


def find_reasoning(probe: Probe) -> ReasoningSyntax | None:
    """Return the marks of thoughts; None where the template knows none."""
    switch = _find_switch(probe)
    marks = (
        _find_rendered(probe)
        or _find_in_source(probe, switch)
        or _find_in_prompt(probe, switch)
    )
    if marks is None:
        return None
    return ReasoningSyntax(*marks, can_disable=bool(switch), switch=switch)


def find_prompts(probe: Probe, switch: str) -> list[str]:
    """Return openings of the model's turn: as it comes, thinking on, and off."""
    tails = [probe.draw_prompt_tail()]
    for name, on, off in _SWITCHES:
        if name == switch:
            tails += [probe.draw_prompt_tail(**{name: value}) for value in (on, off)]
    if switch == TEXT_SWITCH:
        tails.append(cut_tail(_draw_quiet(probe)))
    return [tail for tail in tails if tail is not None]


def strip_thought(text: str, reasoning: ReasoningSyntax | None) -> str:
    """Take an empty thought, or the end of one, from the start of a text."""
    if reasoning is None:
        return text
    begin, end = reasoning.begin.strip(), reasoning.end.strip()
    pattern = rf"\s*(?:{re.escape(begin)}\s*)?{re.escape(end)}"
    found = re.match(pattern, text)
    if found is None:
        return text
    rest = text[found.end() :]
    # What the mark itself ends with is not part of what follows.
    blank = reasoning.end[len(reasoning.end.rstrip()) :]
    return rest.removeprefix(blank)


def _find_switch(probe: Probe) -> str:
    for name, on, off in _SWITCHES:
        if not re.search(rf"\b{name}\b", probe.template.source):
            continue
        if probe.draw_prompt(**{name: on}) != probe.draw_prompt(**{name: off}):
            return name
    if TEXT_SWITCH in probe.template.source:
        quiet, usual = _draw_quiet(probe), probe.draw_prompt()
        if quiet is not None and cut_tail(quiet) != cut_tail(usual):
            return TEXT_SWITCH
    return ""


def _draw_quiet(probe: Probe) -> str | None:
    messages = (say("system", TEXT_SWITCH), say("user", QUESTION))
    turns = [make_turn(message) for message in messages]
    return probe.template.draw(turns, add_generation_prompt=True)


def _find_rendered(probe: Probe) -> tuple[str, str] | None:
    for draw in _list_drawings(probe):
        for variables in ({}, *({name: on} for name, on, _ in _SWITCHES)):
            with_thought = draw(THOUGHT, variables)
            if with_thought is None or THOUGHT not in with_thought:
                continue
            marks = _cut_marks(probe, with_thought, draw(None, variables))
            if marks is not None:
                return marks
    return None


_Draw = Callable[[str | None, dict[str, Any]], str | None]


def _list_drawings(probe: Probe) -> Iterator[_Draw]:
    """Yield ways to render an assistant's turn with a thought or none."""

    def draw_answer(thought: str | None, variables: dict[str, Any]) -> str | None:
        message = Message("assistant", (Text(ANSWER),), reasoning=thought)
        return probe.draw_tail(message, **variables)

    def draw_call(thought: str | None, variables: dict[str, Any]) -> str | None:
        return probe.draw_tail(make_calls(FIRST, thought=thought), **variables)

    def draw_answered(thought: str | None, variables: dict[str, Any]) -> str | None:
        messages = (make_calls(FIRST, thought=thought), make_result(FIRST))
        return probe.draw_tail(*messages, **variables)

    if probe.shape.thought_key:
        yield draw_answer
        if probe.shape.shows_calls:
            yield draw_call
            yield draw_answered
    for word, write in (("blocks", _write_blocks), ("thinking", _write_parts)):
        if word in probe.template.source:
            yield _make_drawing(probe, write)


def _make_drawing(probe: Probe, write: Callable[[str | None], object]) -> _Draw:
    def draw(thought: str | None, variables: dict[str, Any]) -> str | None:
        question, answer = map(make_turn, (say("user", QUESTION), say("assistant", "")))
        turns = [question, {**answer, "content": write(thought)}]
        return cut_tail(probe.template.draw(turns, variables=variables))

    return draw


def _write_blocks(thought: str | None) -> object:
    """Write a content of blocks.

    Source: the chat template of Apertus.
    """
    blocks = [{"type": "response", "text": ANSWER}]
    if thought is not None:
        blocks.insert(0, {"type": "thoughts", "text": thought})
    return {"blocks": blocks}


def _write_parts(thought: str | None) -> object:
    """Write a content of parts, a thought among them.

    Source: the chat template of Mistral's Magistral.
    """
    parts: list[dict[str, Any]] = [{"type": "text", "text": ANSWER}]
    if thought is not None:
        inner = [{"type": "text", "text": thought}]
        parts.insert(0, {"type": "thinking", "thinking": inner})
    return parts


def _cut_marks(probe: Probe, tail: str, without: str | None) -> tuple[str, str] | None:
    """Take the marks from around the thought."""
    before, _, after = tail.partition(THOUGHT)
    if THOUGHT in after:
        return None
    atoms = probe.atoms
    history = probe.draw_tail(say("assistant", ANSWER), say("user", FOLLOWING))
    others = [probe.draw_prompt_tail(), without, history]
    heads = [atoms.count_prefix(tail, other) for other in others if other is not None]
    begin = before[min(heads, default=0) :]
    if not begin.strip():
        begin = _take_last_tag(probe, before)
    end = after.partition(ANSWER)[0] if ANSWER in after else ""
    if FIRST.name in after:
        # The mark ends where begins what follows it in a turn without thoughts.
        until = after.partition(FIRST.name)[0]
        other = (without or "").partition(FIRST.name)[0]
        end = until[: len(until) - atoms.count_suffix(until, other)]
        end = end if end.strip() else _take_first_tag(probe, until)
    if not begin.strip() or not end.strip():
        return None
    is_short = max(len(begin), len(end)) <= _MAX_MARK_CHARS
    # A list that was put into the text as it is has no marks around the thought.
    is_plain = not any(bracket in begin for bracket in ("{'", '{"'))
    return (begin, end) if is_short and is_plain else None


def _take_last_tag(probe: Probe, text: str) -> str:
    atoms = probe.atoms.split(text)
    places = [i for i, atom in enumerate(atoms) if probe.atoms.is_tag(atom)]
    return "".join(atoms[places[-1] :]) if places else ""


def _take_first_tag(probe: Probe, text: str) -> str:
    atoms = probe.atoms.split(text)
    places = [i for i, atom in enumerate(atoms) if probe.atoms.is_tag(atom)]
    return "".join(atoms[: places[0] + 1]) if places else ""


def _find_in_source(probe: Probe, switch: str) -> tuple[str, str] | None:
    """Find a closing mark that the template looks for, and its opening one."""
    source = probe.template.source
    for found in _LITERAL.finditer(source):
        end = found[2]
        begin = end.replace("/", "", 1)
        if begin in source:
            return _add_blanks(begin, end, find_prompts(probe, switch))
    return None


def _add_blanks(begin: str, end: str, prompts: list[str]) -> tuple[str, str]:
    """Give marks the white space that they have in the prompts.

    A thought that begins on a line of its own ends on one.
    """
    for prompt in prompts:
        opened = re.search(rf"{re.escape(begin)}(\s*)$", prompt)
        empty = re.search(rf"{re.escape(begin)}(\s*){re.escape(end)}(\s*)$", prompt)
        if empty is not None and len(empty[1]) > 1:
            return begin + empty[1][:1], empty[1][1:] + end + empty[2]
        if opened is not None and opened[1]:
            return begin + opened[1], f"\n{end}\n\n"
    return begin, end


def _find_in_prompt(probe: Probe, switch: str) -> tuple[str, str] | None:
    """Find an empty thought in the prompt when thinking is off."""
    prompts = find_prompts(probe, switch)
    if not switch or len(prompts) < 2:  # noqa: PLR2004 nothing to compare
        return None
    quiet = prompts[-1]
    for other in prompts[:-1]:
        added = quiet[probe.atoms.count_prefix(quiet, other) :]
        atoms = probe.atoms.split(added)
        tags = [i for i, atom in enumerate(atoms) if probe.atoms.is_tag(atom)]
        if len(tags) == 2:  # noqa: PLR2004 one that begins and one that ends
            begin = "".join(atoms[: tags[1]])
            end = "".join(atoms[tags[1] :])
            blank = begin[len(begin.rstrip()) :]
            return begin.removesuffix(blank) + blank[:1], blank[1:] + end
    return None

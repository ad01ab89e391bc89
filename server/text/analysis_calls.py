"""Finds how a template writes calls.

The model's part of a rendering is what stands between the opening of its turn
(known from the prompt) and the end of its turn (known from a plain answer).
In it the made-up names, ids and values are landmarks:

    section_begin call_begin NAME … ARGUMENTS call_end section_end

One call alone does not tell where `section_begin` ends and `call_begin` starts,
but two calls do: what stands between them ends as what stands before the first
(`call_begin`) and begins as what stands after the last (`call_end`).

What is found is believed only if it reads the template's own text of other
calls back (`server.text.analysis_check`).
"""

import re
from typing import Final, TypedDict

from msgspec import Struct
from msgspec.structs import replace

from server.text.analysis_check import is_confirmed
from server.text.analysis_json import find_json_call
from server.text.analysis_marks import Atoms, iterate_json
from server.text.analysis_probe import (
    ANSWER,
    EMPTY,
    FIRST,
    FOLLOWING,
    RESULT,
    SECOND,
    TYPED,
    MadeUpCall,
    Probe,
    make_calls,
    make_result,
    say,
)
from server.text.analysis_thought import strip_thought
from server.text.format import ArgumentStyle, CallSyntax, ReasoningSyntax

_INDEX: Final = re.compile(r":\d+")
_NAMESPACE: Final = "functions."


class Edges(Struct, frozen=True):
    """The texts around the calls of one and of two calls.

    `head` stands before the first, `middle` between two (None where only one
    can be written) and `tail` after the last.
    """

    head: str
    middle: str | None
    tail: str


class Marks(TypedDict, total=False):
    """The fields of a `CallSyntax` that stand around calls."""

    section_begin: str
    section_end: str
    separator: str
    call_begin: str
    call_end: str


class Parts(Struct, frozen=True):
    """The model's part of renderings with different calls."""

    one: str
    two: str | None
    typed: str | None
    empty: str | None


def find_calls(probe: Probe, reasoning: ReasoningSyntax | None) -> CallSyntax | None:
    """Return the syntax of calls; None where it is like nothing that is known."""
    for has_result in (False, True):
        parts = _cut_parts(probe, reasoning, has_result=has_result)
        if parts is None:
            continue
        for find in _FINDERS:
            syntax = find(parts, probe.atoms)
            if syntax is not None and _confirm(syntax, parts):
                return syntax
    return None


def cut_model_part(
    probe: Probe,
    calls: tuple[MadeUpCall, ...],
    reasoning: ReasoningSyntax | None,
    *,
    has_result: bool = False,
) -> str | None:
    """Return what the model would write to make these calls."""
    results = tuple(map(make_result, calls)) if has_result else ()
    tail = probe.draw_tail(make_calls(*calls), *results)
    prompt = probe.draw_prompt_tail()
    if tail is None or prompt is None or any(c.name not in tail for c in calls):
        return None
    part = tail.partition(RESULT)[0] if has_result else tail
    part = part[probe.atoms.count_prefix(prompt, part) :]
    part = strip_thought(part, reasoning)
    last = [calls[-1].name, *_list_landmarks(calls[-1])]
    n_kept = max(part.rfind(mark) + len(mark) for mark in last)
    return part[:n_kept] + _cut_turn_end(probe, part[n_kept:], has_result=has_result)


def _list_landmarks(call: MadeUpCall) -> list[str]:
    return [value for value in call.arguments.values() if isinstance(value, str)]


def _cut_turn_end(probe: Probe, text: str, *, has_result: bool) -> str:
    """Take off how a turn ends, as far as a plain answer shows it."""
    messages = [say("assistant", ANSWER)]
    if has_result:
        messages.append(say("user", FOLLOWING))
    plain = (probe.draw_tail(*messages) or "").rpartition(ANSWER)[2]
    plain = plain.partition(FOLLOWING)[0]
    n_same = probe.atoms.count_suffix(text, plain)
    text = text[: len(text) - n_same]
    tags = [atom for atom in probe.atoms.split(plain) if probe.atoms.is_tag(atom)]
    for mark in (*tags[:1], probe.template.eos):
        if mark and mark in text:
            text = text.partition(mark)[0]
            blank = plain[: len(plain) - len(plain.lstrip())]
            text = text.removesuffix(blank)
    return text


def _cut_parts(
    probe: Probe, reasoning: ReasoningSyntax | None, *, has_result: bool
) -> Parts | None:
    def cut(*calls: MadeUpCall) -> str | None:
        return cut_model_part(probe, calls, reasoning, has_result=has_result)

    one = cut(FIRST)
    if one is None:
        return None
    two = None if probe.shape.splits_calls else cut(FIRST, SECOND)
    return Parts(one, two, cut(TYPED), cut(EMPTY))


def _confirm(syntax: CallSyntax, parts: Parts) -> bool:
    """Read back what the template wrote."""
    is_bracketed = syntax.is_array or syntax.arguments is ArgumentStyle.JSON_CALL
    if not (syntax.trigger or is_bracketed):
        return False  # nothing would tell such a call from an answer
    checks: list[tuple[str | None, tuple[MadeUpCall, ...]]] = [(parts.one, (FIRST,))]
    if syntax.is_parallel:
        checks.append((parts.two, (FIRST, SECOND)))
    if parts.typed is not None:
        checks.append((parts.typed, (TYPED,)))
    return all(
        text is not None and is_confirmed(syntax, text, calls) for text, calls in checks
    )


def split_edges(edges: Edges, atoms: Atoms) -> Marks:
    """Tell section from call, by what stands between two calls."""
    head, middle, tail = edges.head, edges.middle, edges.tail
    if middle is None:
        return Marks(call_begin=head, call_end=tail)
    if not middle.strip():
        is_begun = bool(head.strip())
        return Marks(
            section_begin=head, section_end=tail if is_begun else "", separator=middle
        )
    n_begin = atoms.count_suffix(head, middle)
    call_begin, section_begin = _cut_end(head, n_begin)
    rest = middle[: len(middle) - n_begin]
    n_end = atoms.count_prefix(rest, tail)
    section_end = tail[n_end:]
    # What nothing began is how this turn ends, not how a section does.
    section_end = section_end if section_begin.strip() else ""
    return Marks(
        section_begin=section_begin,
        section_end=section_end,
        separator=rest[n_end:],
        call_begin=call_begin,
        call_end=tail[:n_end],
    )


def _cut_end(text: str, n_chars: int) -> tuple[str, str]:
    """Return the last characters, and those before them."""
    place = len(text) - n_chars
    return text[place:], text[:place]


def find_json_call_syntax(parts: Parts, atoms: Atoms) -> CallSyntax | None:
    """Find calls that are JSON as a whole, alone or as the items of a list."""
    first = find_json_call(parts.one, FIRST)
    if first is None:
        return None
    syntax = first.syntax
    head, tail = parts.one[: first.begin], parts.one[first.end :]
    if syntax.is_array:
        both = find_json_call(parts.two, FIRST, SECOND) if parts.two else None
        return replace(
            syntax,
            section_begin=head,
            section_end=tail,
            is_parallel=both is not None,
            id_key=syntax.id_key or (both.syntax.id_key if both else ""),
        )
    middle = None
    if parts.two is not None:
        one = find_json_call(parts.two, FIRST)
        other = find_json_call(parts.two, SECOND)
        if one is not None and other is not None and one.end <= other.begin:
            middle = parts.two[one.end : other.begin]
    marks = split_edges(Edges(head, middle, tail), atoms)
    return replace(syntax, is_parallel=middle is not None, **marks)


def _find_named(parts: Parts, atoms: Atoms) -> CallSyntax | None:
    """Find a name between marks, and arguments as one JSON object after it."""
    first = _find_after_name(parts.one, FIRST)
    if first is None:
        return None
    begin, inner, end = first
    head, tail = parts.one[:begin], parts.one[end:]
    middle = None
    second = _find_after_name(parts.two or "", SECOND)
    if parts.two is not None and second is not None:
        one = _find_after_name(parts.two, FIRST)
        middle = parts.two[one[2] : second[0]] if one is not None else None
    is_named_id = head.endswith(_NAMESPACE) and _INDEX.match(inner) is not None
    if is_named_id:
        head = head.removesuffix(_NAMESPACE)
        middle = middle.removesuffix(_NAMESPACE) if middle is not None else None
        inner = _INDEX.sub("", inner, count=1)
    name_end, has_id, id_end = inner.partition(FIRST.id)
    return CallSyntax(
        ArgumentStyle.JSON,
        name_end=name_end,
        id_end=id_end if has_id else "",
        id_holds_name=is_named_id,
        is_parallel=middle is not None,
        **split_edges(Edges(head, middle, tail), atoms),
    )


def _find_after_name(text: str, call: MadeUpCall) -> tuple[int, str, int] | None:
    """Return where the name begins, what follows it, where the arguments end."""
    begin = text.find(call.name)
    if begin < 0:
        return None
    after = begin + len(call.name)
    for span in iterate_json(text, after, len(text)):
        if span.value == call.arguments:
            return begin, text[after : span.begin], span.end
    return None


def _find_tagged(parts: Parts, atoms: Atoms) -> CallSyntax | None:
    """Find arguments that stand one by one between marks."""
    places = _find_places(parts.one, FIRST)
    if places is None:
        return None
    name, key1, value1, key2, value2 = places
    text = parts.one
    (key_a, value_a), (key_b, value_b) = FIRST.arguments.items()
    after_name = text[name + len(FIRST.name) : key1]
    key_end = text[key1 + len(key_a) : value1]
    between = text[value1 + len(value_a) : key2]
    after = text[value2 + len(value_b) :]
    if key_end != text[key2 + len(key_b) : value2] or not key_end.strip():
        return None
    n_value_end = atoms.count_prefix(between, after)
    value_end, key_begin = between[:n_value_end], between[n_value_end:]
    if not value_end.strip() or not after_name.endswith(key_begin):
        return None
    middle = None
    second = _find_places(parts.two or "", SECOND)
    if parts.two is not None and second is not None:
        first = _find_places(parts.two, FIRST)
        if first is not None:
            begin = first[4] + len(value_b) + len(value_end)
            middle = parts.two[begin : second[0]]
    edges = Edges(text[:name], middle, after[n_value_end:])
    return CallSyntax(
        ArgumentStyle.TAGGED,
        name_end=after_name.removesuffix(key_begin),
        key_begin=key_begin,
        key_end=key_end,
        value_end=value_end,
        is_parallel=middle is not None,
        **split_edges(edges, atoms),
    )


def _find_places(text: str, call: MadeUpCall) -> list[int] | None:
    """Find name, keys and values in the order in which they must stand."""
    marks = [call.name, *(part for pair in call.arguments.items() for part in pair)]
    places = []
    place = 0
    for mark in marks:
        place = text.find(mark, place)
        if place < 0:
            return None
        places.append(place)
        place += len(mark)
    return places


def _find_quoted(parts: Parts, atoms: Atoms) -> CallSyntax | None:
    """Find bare keys in braces, with texts between marks of their own."""
    key, value = next(iter(FIRST.arguments.items()))
    pattern = rf"{FIRST.name}([^{{]*){{{key}:(.+?){value}(.+?),"
    found = re.search(pattern, parts.one, re.DOTALL)
    if found is None or found[2] != found[3]:
        return None
    return _find_bracketed(parts, atoms, "}", found[1], quote=found[2])


def _find_python(parts: Parts, atoms: Atoms) -> CallSyntax | None:
    """Find calls as Python writes them."""
    key, value = next(iter(FIRST.arguments.items()))
    if not re.search(rf"{FIRST.name}\({key}=['\"]{value}['\"],", parts.one):
        return None
    return _find_bracketed(parts, atoms, ")", "", quote="")


def _find_bracketed(
    parts: Parts, atoms: Atoms, bracket: str, name_end: str, quote: str
) -> CallSyntax | None:
    def cut(text: str | None, call: MadeUpCall) -> tuple[int, int] | None:
        begin = (text or "").find(call.name)
        value = list(call.arguments.values())[-1]
        place = (text or "").find(value, begin)
        end = (text or "").find(bracket, place) + 1
        return (begin, end) if min(begin, place) >= 0 and end > 0 else None

    only, first, second = (
        cut(parts.one, FIRST),
        cut(parts.two, FIRST),
        cut(parts.two, SECOND),
    )
    if only is None:
        return None
    middle = None
    if parts.two is not None and first is not None and second is not None:
        middle = parts.two[first[1] : second[0]]
    head, tail = parts.one[: only[0]], parts.one[only[1] :]
    style = ArgumentStyle.QUOTED if quote else ArgumentStyle.PYTHON
    if not quote and head.endswith("[") and tail.startswith("]"):
        is_list = middle is not None and middle.strip() == ","
        return CallSyntax(
            style,
            section_begin=head[:-1],
            section_end=tail[1:],
            is_array=True,
            is_parallel=is_list,
        )
    marks = split_edges(Edges(head, middle, tail), atoms)
    return CallSyntax(
        style,
        name_end=name_end,
        quote=quote,
        is_parallel=middle is not None,
        **marks,
    )


_FINDERS: Final = (
    find_json_call_syntax,
    _find_named,
    _find_quoted,
    _find_python,
    _find_tagged,
)

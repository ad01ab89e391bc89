"""Writes a grammar that was read from GBNF in llguidance's Lark.

Two forms, see `server.text.gbnf`: with lexemes as long as they can be, and
with one character each.
"""

from collections.abc import Mapping

from server.text.gbnf import (
    SURROGATES,
    Alt,
    Chars,
    Lexeme,
    Node,
    Ref,
    Repeat,
    Seq,
    Token,
    list_refs,
    read_gbnf,
)
from server.text.gbnf_automaton import TooLarge
from server.text.gbnf_lexemes import are_safe, merge
from server.text.schema_pattern import quote_char


def translate_gbnf(text: str, control: Mapping[str, int]) -> str:
    """Write a GBNF grammar in Lark.

    Args:
        text: The grammar.
        control: Texts of control tokens and their ids.

    Raises:
        InvalidRequest: It is no valid grammar.
    """
    rules = read_gbnf(text, control)
    regular = find_regular(rules)
    for across in (True, False):
        try:
            merged = merge(rules, regular, across=across)
        except TooLarge:
            continue
        if are_safe(merged):
            rules = merged
            break
    names = {name: f"r{number}" for number, name in enumerate(rules)}
    writer = _Writer(names)
    lines = [f"{names[name]}: {writer.write(node)}" for name, node in rules.items()]
    return "\n".join([f"start: {names['root']}", *lines, *writer.terminals]) + "\n"


def find_regular(rules: Mapping[str, Node]) -> frozenset[str]:
    """Find the rules without recursion and without tokens."""
    used = {name: set(list_refs(node)) for name, node in rules.items()}
    done: set[str] = set()
    while True:
        ready = {
            name
            for name, node in rules.items()
            if name not in done and used[name] <= done and not _has_token(node)
        }
        if not ready:
            return frozenset(done)
        done |= ready


def _has_token(node: Node) -> bool:
    match node:
        case Token():
            return True
        case Seq() | Alt():
            return any(map(_has_token, node.parts))
        case Repeat():
            return _has_token(node.part)
        case _:
            return False


class _Writer:
    """Writes rules, and terminals for the lexemes in them."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.terminals: list[str] = []
        self._names = names
        self._known: dict[str, str] = {}

    def write(self, node: Node) -> str:
        """Write one part of a rule."""
        match node:
            case Lexeme():
                text = self._terminal(write_expression(node.node))
            case Chars():
                text = self._terminal(write_expression(node))
            case Token():
                text = f"<[{'^' * node.negated}{node.token}]>"
            case Ref():
                text = self._names[node.name]
            case Seq():
                text = " ".join(map(self.write, node.parts)) or '""'
            case Alt():
                text = f"({' | '.join(map(self.write, node.parts))})"
            case Repeat():
                text = f"({self.write(node.part)}){_write_counts(node)}"
        return text

    def _terminal(self, expression: str) -> str:
        known = self._known.get(expression)
        if known is None:
            known = self._known[expression] = f"T{len(self._known)}"
            self.terminals.append(f"{known}: /{expression}/")
        return known


def write_expression(node: Node) -> str:
    """Write a part without references as a regular expression."""
    match node:
        case Chars():
            return _write_class(node)
        case Seq():
            return "".join(map(write_expression, node.parts))
        case Alt():
            return f"(?:{'|'.join(map(write_expression, node.parts))})"
        case Repeat():
            return f"(?:{write_expression(node.part)}){_write_counts(node)}"
        case _:
            raise TooLarge


def _write_counts(node: Repeat) -> str:
    if node.most is None:
        return {0: "*", 1: "+"}.get(node.least, f"{{{node.least},}}")
    if (node.least, node.most) == (0, 1):
        return "?"
    return f"{{{node.least},{node.most}}}"


def _write_class(node: Chars) -> str:
    if len(node.ranges) == 1 and node.ranges[0][0] == node.ranges[0][1]:
        return quote_char(node.ranges[0][0])
    parts = []
    for low, high in node.ranges:
        # Half a surrogate pair is no character, and no class may have one.
        below, above = SURROGATES.start - 1, SURROGATES.stop
        for first, last in ((low, min(high, below)), (max(low, above), high)):
            if first <= last:
                parts.append(f"{quote_char(first)}-{quote_char(last)}")
    return f"[{''.join(parts)}]"

"""Text values that stand in a call without quotes of their own.

    raw text, up to the mark behind it, that obeys the schema of a string

What JSON would enforce inside of quotes is said here as expressions that the
text must match as a whole.
"""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

from server.text.grammar_lark import ANY_TEXT, Lark, choice, quote, sequence
from server.text.schema_pattern import UnsupportedPattern, anchor_pattern

_LOOKS_TYPED = r"/\s*(?:-?[0-9][0-9.eE+\-]*|true|false|null|[\[\{\x22](?s:.*))\s*/"
"""Text that a parser may take for JSON where a schema allows text and more."""

_BROKEN = r"/\n(?s:.*)/"
_BEGINNINGS = MappingProxyType(
    {
        "null": "null",
        "boolean": "true|false",
        "integer": "[0-9-]",
        "number": "[0-9-]",
        "array": r"\[",
        "object": r"\{",
    }
)
"""How values of other types begin. A text must not, or the lexer would hope for it."""

Relax = Callable[[str, str], None]
"""Notes a keyword that is not enforced, with the reason."""


def write_text(
    lark: Lark,
    schema: dict[str, Any],
    end: str,
    relax: Relax,
    *,
    others: Sequence[str],
) -> str:
    """Stand for a text that obeys a schema, with the mark behind it.

    Args:
        lark: Takes the rules.
        schema: Rewritten, of a string; other types' keywords are not looked at.
        end: The mark; its first word ends the text.
        relax: Is told what is not enforced.
        others: Other types that are allowed too and written as JSON; the text must
            not look so.
    """
    values = list_texts(schema)
    if values is not None:
        options = choice([quote(text) for text in values])
        return sequence(write_break(lark), options, lark.mark(end))
    must = list_rules(schema, relax)
    if others:
        begins = "|".join(dict.fromkeys(_BEGINNINGS[name] for name in others))
        typed = f"~/\\s*(?:{begins})(?s:.*)/"
        must = (*(must or (ANY_TEXT,)), f"~{_LOOKS_TYPED}", typed)
    if must and lark.loose:
        # The break behind the tag has a lexeme of its own.
        return sequence(
            write_break(lark), lark.text_until(end, must=(*must, f"~{_BROKEN}"))
        )
    return lark.text_until(end, must=must)


def write_break(lark: Lark) -> str:
    """Stand for the line break that may follow a tag in loose writing."""
    return r'"\n"?' if lark.loose else ""


def list_texts(schema: dict[str, Any]) -> list[str] | None:
    """List the texts of `const` or `enum`; None where there is neither."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(values, list):
        return None
    return [value for value in values if isinstance(value, str)]


def list_rules(schema: dict[str, Any], relax: Relax) -> tuple[str, ...]:
    """List expressions that a text must match as a whole."""
    rules = []
    if "minLength" in schema or "maxLength" in schema:
        least, most = schema.get("minLength", 0), schema.get("maxLength", "")
        rules.append(f"/(?s:.){{{least},{most}}}/")
    parts = [schema, *(p for p in schema.get("allOf", []) if isinstance(p, dict))]
    for part in parts:
        if "pattern" in part:
            try:
                rules.append(f"/{anchor_pattern(part['pattern'])}/")
            except UnsupportedPattern as error:
                relax("pattern", str(error))
    if "format" in schema:
        relax("format", "texts in this model's calls have no quotes")
    return tuple(rules)

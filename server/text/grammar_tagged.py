"""Arguments between tags: texts as they are, other values as JSON.

    (key_begin KEY key_end VALUE value_end)*

Whether a value is a text is told by the schema, as in the parser.
"""

from typing import Any

from server.text.format import CallSyntax
from server.text.grammar_lark import Lark, choice, quote, sequence
from server.text.grammar_text import Relax, write_break, write_text
from server.text.grammar_values import ValueWriter
from server.text.schema_keywords import TYPES, list_types
from server.text.schema_refs import move_references

_MAX_NAME = 128


class TaggedWriter:
    """Writes the arguments of one tool.

    Args:
        lark: Takes the rules.
        syntax: The tags.
        values: Knows the tool's schema.
        relax: Is told what is not enforced.
    """

    def __init__(
        self, lark: Lark, syntax: CallSyntax, values: ValueWriter, relax: Relax
    ) -> None:
        self._lark = lark
        self._syntax = syntax
        self._values = values
        self._relax = relax

    def write(self, schema: dict[str, Any]) -> str:
        """Stand for all arguments, in the order of the schema."""
        required = dict.fromkeys(schema.get("required", []))
        properties = schema.get("properties", {})
        parts = []
        for name in [*properties, *(n for n in required if n not in properties)]:
            value = self._write_value(properties.get(name, True))
            if not value:
                continue
            key = sequence(self._lark.mark(self._syntax.key_begin), quote(name))
            rule = self._lark.add_rule(
                "argument", sequence(key, self._write_key_end(), value)
            )
            parts.append(rule if name in required else f"{rule}?")
        if schema.get("additionalProperties", True) is not False:
            parts.append(f"{self._write_more()}*")
        return sequence(*parts)

    def _write_key_end(self) -> str:
        """Stand for the end of a key; white space behind it belongs to the value."""
        lark, mark = self._lark, self._syntax.key_end
        if not lark.loose:
            return lark.mark(mark)
        return lark.mark(mark).removesuffix(lark.space()).rstrip()

    def _write_more(self) -> str:
        """Stand for an argument that the schema does not declare."""
        syntax, lark = self._syntax, self._lark
        head = (syntax.key_end.strip() or "\n")[0]
        taken = "".join(f"\\x{{{ord(char):x}}}" for char in sorted({head, "<", "\n"}))
        return lark.add_rule(
            "more",
            sequence(
                lark.mark(syntax.key_begin),
                f"/[^{taken}]{{1,{_MAX_NAME}}}/",
                self._write_key_end(),
                lark.text_until(syntax.value_end),
            ),
        )

    def _write_value(self, schema: object) -> str:
        """Stand for a value and the mark behind it; "" where none is allowed."""
        if schema is False:
            return ""
        kinds = self._values.list_kinds(schema)
        types = {name for kind in kinds for name in _list_kind_types(kind)}
        if "string" not in types:
            return sequence(self._lark.space(), self._write_json(schema))
        texts = [kind for kind in kinds if "string" in _list_kind_types(kind)]
        # Of what allows everything, any text is a value.
        others = [name for name in TYPES if name in types - {"string"}]
        if types >= set(TYPES):
            others = []
        rules = texts[0] if len(texts) == 1 else self._join_texts(texts)
        text = write_text(
            self._lark, rules, self._syntax.value_end, self._relax, others=others
        )
        if not others:
            return text
        other = self._write_json({"allOf": [schema, {"type": others}]})
        return choice([sequence(write_break(self._lark), other), text])

    def _write_json(self, schema: object) -> str:
        lark = self._lark
        moved = move_references(schema, "t0")
        body = lark.json({**moved, "$defs": self._values.move_definitions("t0")})
        space = lark.space()
        return sequence(body, space, lark.mark(self._syntax.value_end))

    def _join_texts(self, texts: list[dict[str, Any]]) -> dict[str, Any]:
        """Say of several kinds of text what can be said of all at once."""
        values = [
            [kind["const"]] if "const" in kind else kind.get("enum") for kind in texts
        ]
        known = [part for part in values if isinstance(part, list)]
        if len(known) == len(texts):
            return {"enum": [value for part in known for value in part]}
        plain = {"type", "title", "description"}
        for keyword in sorted({key for kind in texts for key in kind} - plain):
            self._relax(keyword, "several kinds of text are allowed")
        return {}


def _list_kind_types(kind: dict[str, Any]) -> set[str]:
    """List the types of a schema without alternatives."""
    values = [kind["const"]] if "const" in kind else kind.get("enum")
    if not isinstance(values, list):
        return set(list_types(kind))
    return {_type_of(value) for value in values}


def _type_of(value: object) -> str:
    names = {
        str: "string",
        bool: "boolean",
        int: "integer",
        float: "number",
        list: "array",
        dict: "object",
    }
    return names.get(type(value), "null")

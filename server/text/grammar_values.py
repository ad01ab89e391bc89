"""Values of a call's arguments in notations that are not JSON.

    QUOTED   {key:<|"|>text<|"|>,other:[1,true]}
    PYTHON   key="text", other=[1, True]

Numbers and Python's texts are written as JSON writes them, so the compiler
does them; structure is written here. It enforces types, `properties`,
`required`, `items`, `prefixItems`, counts of items, `enum`, `const`, `anyOf`
and references; `allOf` is joined as far as that is plain.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from server.core.errors import InvalidRequest
from server.text.grammar_lark import Lark, choice, quote, sequence
from server.text.grammar_text import Relax, list_rules
from server.text.schema_keywords import NUMBER_KEYWORDS, STRING_KEYWORDS, list_types
from server.text.schema_refs import move_references

MAX_STEPS = 20_000
"""Looks at the parts of one tool's schema."""

_MAX_DEPTH = 16

_KEY = "/[^:{}\\[\\],\\x22\\x00-\\x20]{1,256}/"


@dataclass(frozen=True, slots=True)
class Notation:
    """How values are written.

    Args:
        words: The texts of true, false and null.
        comma: Between items.
        colon: Between a key and its value.
        mark: On both sides of a text; "" where texts are as in JSON.
        is_sorted: Keys come in alphabetical order.
    """

    words: tuple[str, str, str]
    comma: str
    colon: str
    mark: str = ""
    is_sorted: bool = False


PYTHON = Notation(("True", "False", "None"), ", ", ": ")


def make_quoted(mark: str) -> Notation:
    """Make the notation of texts between marks."""
    return Notation(("true", "false", "null"), ",", ":", mark, is_sorted=True)


class ValueWriter:
    """Writes rules for the values of one tool's schema.

    Args:
        lark: Takes the rules.
        notation: How values are written.
        root: The schema, rewritten; its `$defs` are looked up.
        relax: Is told which keyword is not enforced, and why.
        param: The request's field that errors name.
    """

    def __init__(
        self,
        lark: Lark,
        notation: Notation,
        root: dict[str, Any],
        relax: Relax,
        param: str,
    ) -> None:
        self._lark = lark
        self._notation = notation
        self._root = root
        self._relax = relax
        self._references: dict[str, str] = {}
        self._any = ""
        self._param = param
        self._n_steps = 0

    def write(self, schema: object) -> str:
        """Stand for a value; "" where none is allowed."""
        if schema is False:
            return ""
        node = self.merge(schema)
        if not node:
            return self._write_any()
        if "$ref" in node:
            return self._write_reference(node["$ref"])
        if "const" in node or "enum" in node:
            values = [node["const"]] if "const" in node else node["enum"]
            return choice([self._write_constant(value) for value in values])
        if "anyOf" in node:
            rest = {key: part for key, part in node.items() if key != "anyOf"}
            options = [self.write(self._join(rest, part)) for part in node["anyOf"]]
            return choice([option for option in options if option])
        types = list_types(node)
        if "number" in types:
            types = tuple(name for name in types if name != "integer")
        return choice([self._write_type(name, node) for name in types])

    def move_definitions(self, prefix: str) -> dict[str, Any]:
        """Return the schema and all it refers to under names with a prefix."""
        own = {key: part for key, part in self._root.items() if key != "$defs"}
        return {
            prefix: move_references(own, prefix),
            **{
                f"{prefix}_{name}": move_references(part, prefix)
                for name, part in self._root.get("$defs", {}).items()
            },
        }

    def merge(self, schema: object) -> dict[str, Any]:
        """Join a schema with its `allOf`, as far as that is plain.

        Raises:
            InvalidRequest: Its parts refer to each other too often.
        """
        self._n_steps += 1
        if self._n_steps > MAX_STEPS:
            raise InvalidRequest(
                f"The parameters take more than {MAX_STEPS} steps to understand: "
                "their parts refer to each other too often. Simplify them.",
                param=self._param,
            )
        node = dict(schema) if isinstance(schema, dict) else {}
        node.pop("$defs", None)
        for part in node.pop("allOf", []):
            node = self._join(node, self.merge(self._look(part)))
        if "$ref" in node and len(node) > 1:
            target = self.merge(self._look({"$ref": node.pop("$ref")}))
            node = self._join(target, node)
        return node

    def list_kinds(self, schema: object, depth: int = 0) -> list[dict[str, Any]]:
        """List the alternatives of a schema, through `anyOf` and references.

        An empty one stands for any value.
        """
        node = self.merge(schema)
        if depth > _MAX_DEPTH:
            return [{}]
        if "$ref" in node:
            return self.list_kinds(self._look(node), depth + 1)
        if "anyOf" not in node:
            return [node]
        rest = {key: part for key, part in node.items() if key != "anyOf"}
        parts = [part for part in node["anyOf"] if part is not False]
        return [
            kind
            for part in parts
            for kind in self.list_kinds(self._join(rest, part), depth + 1)
        ]

    def write_members(self, schema: dict[str, Any], colon: str) -> str:
        """Stand for `key colon value` of all properties, with commas between.

        Properties come in order, each at most once; those required must come.
        """
        names = schema.get("properties", {})
        required = set(schema.get("required", []))
        ordered = [*names, *(n for n in schema.get("required", []) if n not in names)]
        if self._notation.is_sorted:
            ordered.sort()
        members = []
        for name in ordered:
            value = self.write(names.get(name, True))
            if value:
                key = self._write_key(name) if colon != "=" else quote(name)
                member = sequence(key, self._sign(colon), value)
                members.append((member, name in required))
        if schema.get("additionalProperties", True) is not False and colon != "=":
            members.append((self._write_more(schema, colon), False))
        return self._chain(members)

    def _write_more(self, schema: dict[str, Any], colon: str) -> str:
        value = self.write(schema.get("additionalProperties", True))
        key = _KEY if self._notation.mark else self._lark.json({"type": "string"})
        member = self._lark.add_rule("more", sequence(key, self._sign(colon), value))
        return f"{member} ({self._sign(self._notation.comma)} {member})*"

    def _chain(self, members: list[tuple[str, bool]]) -> str:
        """Write members of which some may be left out, with commas between."""
        comma = self._sign(self._notation.comma)
        # What follows when something stood before, and when nothing did.
        after, first = "", ""
        for member, is_required in reversed(members):
            name = self._lark.add_rule("member", member)
            tail = self._lark.add_rule("rest", after) if after else ""
            alone = sequence(name, tail)
            if is_required:
                after, first = sequence(comma, name, tail), alone
            else:
                other = self._lark.add_rule("other", first) if first else '""'
                after = sequence(f"({comma} {name})?", tail)
                first = f"({alone} | {other})"
        return first

    def _write_type(self, name: str, node: dict[str, Any]) -> str:
        true, false, null = self._notation.words
        match name:
            case "null":
                return quote(null)
            case "boolean":
                return f"({quote(true)} | {quote(false)})"
            case "string":
                return self._write_text(node)
            case "array":
                return self._write_array(node)
            case "object":
                inner = self.write_members(node, self._notation.colon)
                return sequence('"{"', self._space(), inner, self._space(), '"}"')
            case _:
                kept = {key: node[key] for key in NUMBER_KEYWORDS & node.keys()}
                return self._lark.json({"type": name, **kept})

    def _write_text(self, node: dict[str, Any]) -> str:
        mark = self._notation.mark
        if not mark:
            kept = {key: node[key] for key in STRING_KEYWORDS & node.keys()}
            return self._lark.json({"type": "string", **kept})
        rules = list_rules(node, self._relax)
        return sequence(self._lark.mark(mark), self._lark.text_until(mark, must=rules))

    def _write_array(self, node: dict[str, Any]) -> str:
        comma = self._sign(self._notation.comma)
        first = [self.write(item) for item in node.get("prefixItems", [])]
        more = self.write(node.get("items", True))
        least, most = node.get("minItems", 0), node.get("maxItems")
        if first:
            body = ""
            for place in range(len(first) - 1, -1, -1):
                follows = sequence(comma, body)
                if body and place + 1 >= least:
                    # An item can only be left out with all behind it.
                    follows = f"({follows})?"
                body = sequence(first[place], follows if body else "")
            inner = body if least else f"({body})?"
        elif not more or most == 0:
            inner = ""
        else:
            name = self._lark.add_rule("item", more)
            low = max(least - 1, 0)
            high = "" if most is None else str(most - 1)
            inner = f"{name} ({comma} {name}){{{low},{high}}}"
            inner = inner if least else f"({inner})?"
        return sequence('"["', self._space(), inner, self._space(), '"]"')

    def _write_constant(self, value: Any) -> str:  # noqa: ANN401 - any JSON value
        notation = self._notation
        if value is True or value is False or value is None:
            return quote(notation.words[(True, False, None).index(value)])
        if isinstance(value, str):
            if not notation.mark:
                return quote(json.dumps(value, ensure_ascii=False))
            mark = self._lark.mark(notation.mark)
            return sequence(mark, quote(value) if value else "", mark)
        if isinstance(value, list):
            items = self._with_commas(self._write_constant(item) for item in value)
            return sequence('"["', items, '"]"')
        if isinstance(value, dict):
            pairs = self._with_commas(
                sequence(
                    self._write_key(key),
                    self._sign(notation.colon),
                    self._write_constant(part),
                )
                for key, part in value.items()
            )
            return sequence('"{"', pairs, '"}"')
        return quote(json.dumps(value))

    def _with_commas(self, parts: Iterable[str]) -> str:
        return f" {self._sign(self._notation.comma)} ".join(parts)

    def _write_key(self, name: str) -> str:
        if self._notation.mark:
            return quote(name)
        return quote(json.dumps(name, ensure_ascii=False))

    def _sign(self, sign: str) -> str:
        """Write a comma, a colon or an equals sign."""
        if not self._lark.loose:
            return quote(sign)
        return sequence(self._space(), quote(sign.strip()), self._space())

    def _space(self) -> str:
        return self._lark.space()

    def _write_reference(self, reference: str) -> str:
        known = self._references.get(reference)
        if known is None:
            known = self._references[reference] = self._lark.reserve("named")
            self._lark.define(known, self.write(self._look({"$ref": reference})))
        return known

    def _write_any(self) -> str:
        """Stand for any value at all."""
        if not self._any:
            self._any = self._lark.reserve("any")
            types = ("null", "boolean", "number", "string", "array", "object")
            body = choice([self._write_type(name, {}) for name in types])
            self._lark.define(self._any, body)
        return self._any

    def _look(self, schema: object) -> dict[str, Any]:
        node = schema if isinstance(schema, dict) else {}
        if node.keys() != {"$ref"}:
            return node
        reference = node["$ref"]
        if reference == "#":
            return self._root
        target = self._root.get("$defs", {}).get(reference.removeprefix("#/$defs/"))
        return target if isinstance(target, dict) else {}

    def _join_parts(self, one: object, other: object) -> object:
        if isinstance(one, dict) and isinstance(other, dict):
            return self._join(one, other)
        if one is False or other is False:
            return False
        return other if one is True else one

    def _join(self, one: dict[str, Any], other: object) -> dict[str, Any]:
        """Join two schemas; of two values of a keyword the later one counts."""
        if not isinstance(other, dict):
            return one
        joined = {**one, **other}
        if "properties" in one and "properties" in other:
            joined["properties"] = dict(one["properties"])
            for name, part in other["properties"].items():
                known = joined["properties"].get(name, True)
                joined["properties"][name] = self._join_parts(known, part)
        if "required" in one and "required" in other:
            joined["required"] = [
                *one["required"],
                *(n for n in other["required"] if n not in one["required"]),
            ]
        if "anyOf" in one and "anyOf" in other:
            self._relax("anyOf", "two of them hold at once")
        return joined

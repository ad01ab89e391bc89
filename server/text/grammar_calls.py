"""Grammars of tool calls, in each of the ways that templates write them.

A tool's schema comes here already rewritten. In the JSON styles it goes to the
compiler as it is; in the others its structure is written as rules, and what
cannot be said there is relaxed with a warning, or is an error with `strict`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.core.errors import InvalidRequest
from server.text.format import ArgumentStyle, CallSyntax
from server.text.grammar_lark import Lark, choice, quote, sequence
from server.text.grammar_tagged import TaggedWriter
from server.text.grammar_text import Relax
from server.text.grammar_values import PYTHON, ValueWriter, make_quoted
from server.text.schema_refs import move_references

_ID = "/[A-Za-z0-9_\\-]{1,64}/"
_ID_SCHEMA = {"type": "string", "pattern": "^[A-Za-z0-9_\\-]{1,64}$"}
_INDEX = "/[0-9]{1,4}/"
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_TOP_LEVEL = frozenset(
    {"type", "properties", "required", "additionalProperties", "$defs", "$ref", "allOf"}
)


@dataclass(frozen=True, slots=True)
class CallableTool:
    """A tool as the grammar sees it.

    Args:
        name: What the model writes.
        schema: Of the arguments, rewritten by `relax_arguments`.
        strict: What cannot be enforced is an error.
        param: The request's field that errors name.
    """

    name: str
    schema: dict[str, Any]
    strict: bool
    param: str


class CallWriter:
    """Writes the rules of calls; `warnings` grow as it goes."""

    def __init__(self, lark: Lark, syntax: CallSyntax) -> None:
        self.warnings: list[str] = []
        self._lark = lark
        self._syntax = syntax

    def write_section(
        self, tools: tuple[CallableTool, ...], *, parallel: bool, only_one: bool
    ) -> str:
        """Stand for a whole section of calls, at least one.

        Args:
            tools: Those that may be called; not empty.
            parallel: Several calls may stand in it.
            only_one: The section ends after a call where no mark ends it, since
                another one begins anew.
        """
        syntax, lark = self._syntax, self._lark
        several = parallel and syntax.is_parallel
        if syntax.is_array:
            inner = self._write_array(tools, several=several)
        else:
            call = lark.add_rule("call", choice([self._write_call(t) for t in tools]))
            has_section = bool(syntax.section_begin or syntax.section_end)
            inner = call
            if several and (has_section or not only_one):
                separator = lark.mark(syntax.separator)
                inner = f"{call} ({sequence(separator, call)})*"
        return sequence(
            lark.mark(syntax.section_begin) if syntax.section_begin else "",
            inner,
            lark.mark(syntax.section_end) if syntax.section_end else "",
        )

    def _write_array(self, tools: tuple[CallableTool, ...], *, several: bool) -> str:
        lark = self._lark
        if self._syntax.arguments is ArgumentStyle.JSON_CALL:
            forms = [self._call_schema(tool, n) for n, tool in enumerate(tools)]
            items = {"anyOf": forms}
            schema: dict[str, Any] = {"type": "array", "items": items, "minItems": 1}
            if not several:
                schema["maxItems"] = 1
            return lark.json({**schema, "$defs": _collect_definitions(tools)})
        call = lark.add_rule("call", choice([self._write_python(t) for t in tools]))
        comma = sequence(lark.space(), '","', lark.space()) if lark.loose else '", "'
        more = f"({comma} {call})*" if several else ""
        return sequence('"["', lark.space(), call, more, lark.space(), '"]"')

    def _write_call(self, tool: CallableTool) -> str:
        """Stand for one call with its marks."""
        syntax, lark = self._syntax, self._lark
        match syntax.arguments:
            case ArgumentStyle.JSON_CALL:
                schema = self._call_schema(tool, 0)
                definitions = _collect_definitions((tool,))
                body = lark.json({**schema, "$defs": definitions})
            case ArgumentStyle.JSON:
                body = sequence(self._write_head(tool), lark.json(tool.schema))
            case ArgumentStyle.TAGGED:
                writer = self._make_writer(tool, quoted=False)
                plain = self._plain_object(tool, writer)
                relax = self._relaxer(tool)
                tagged = TaggedWriter(lark, syntax, writer, relax)
                body = sequence(self._write_head(tool), tagged.write(plain))
            case ArgumentStyle.QUOTED:
                writer = self._make_writer(tool, quoted=True)
                value = writer.write(self._plain_object(tool, writer))
                body = sequence(self._write_head(tool), value)
            case ArgumentStyle.PYTHON:
                body = self._write_python(tool)
        begin = lark.mark(syntax.call_begin) if syntax.call_begin else ""
        end = lark.mark(syntax.call_end) if syntax.call_end else ""
        return lark.add_rule("one", sequence(begin, body, end))

    def _write_head(self, tool: CallableTool) -> str:
        """Stand for the name and what follows it."""
        syntax, lark = self._syntax, self._lark
        if syntax.id_holds_name:
            name = sequence(quote(f"functions.{tool.name}:"), _INDEX)
            return sequence(name, lark.mark(syntax.name_end))
        head = sequence(quote(tool.name), lark.mark(syntax.name_end))
        if syntax.id_end:
            return sequence(head, _ID, lark.mark(syntax.id_end))
        return head

    def _call_schema(self, tool: CallableTool, number: int) -> dict[str, Any]:
        """Describe a call that is one JSON object."""
        syntax = self._syntax
        arguments: Any = {"$ref": f"#/$defs/t{number}"}
        if syntax.args_as_text:
            self._relax(tool, "parameters", "this model writes arguments as a text")
            arguments = {"type": "string"}
        if not syntax.name_key:
            return _object({tool.name: arguments})
        parts = {syntax.name_key: {"const": tool.name}, syntax.arguments_key: arguments}
        if syntax.id_key:
            has_id = {syntax.id_key: _ID_SCHEMA}
            parts = {**has_id, **parts} if syntax.is_id_first else {**parts, **has_id}
        call = _object(parts)
        return _object({syntax.wrapper_key: call}) if syntax.wrapper_key else call

    def _write_python(self, tool: CallableTool) -> str:
        """Stand for `name(key=value, …)`."""
        writer = self._make_writer(tool, quoted=False)
        schema = self._plain_object(tool, writer)
        names = [*schema.get("properties", {}), *schema.get("required", [])]
        odd = [name for name in names if not _IDENTIFIER.fullmatch(name)]
        if odd:
            raise InvalidRequest(
                f"The tool '{tool.name}' has a parameter '{odd[0]}', but this model "
                "writes calls as Python does, where that is no name. Rename it.",
                param=tool.param,
            )
        inner = writer.write_members(schema, "=")
        space = self._lark.space()
        return sequence(quote(f"{tool.name}("), space, inner, space, '")"')

    def _make_writer(self, tool: CallableTool, *, quoted: bool) -> ValueWriter:
        notation = make_quoted(self._syntax.quote) if quoted else PYTHON
        return ValueWriter(
            self._lark, notation, tool.schema, self._relaxer(tool), tool.param
        )

    def _relaxer(self, tool: CallableTool) -> Relax:
        return lambda keyword, reason: self._relax(tool, keyword, reason)

    def _plain_object(self, tool: CallableTool, writer: ValueWriter) -> dict[str, Any]:
        """Join a schema's parts to one object whose properties can be listed."""
        schema = writer.merge(tool.schema)
        for keyword in sorted(schema.keys() - _TOP_LEVEL):
            self._relax(tool, keyword, "this model's calls have no place for it")
        return schema

    def _relax(self, tool: CallableTool, keyword: str, reason: str) -> None:
        if tool.strict:
            raise InvalidRequest(
                f"'{keyword}' in the parameters of '{tool.name}' cannot be enforced: "
                f"{reason}. Change or remove it, or ask without strict.",
                param=tool.param,
            )
        warning = (
            f"'{keyword}' in the parameters of '{tool.name}' is not enforced: {reason}."
        )
        if warning not in self.warnings:
            self.warnings.append(warning)


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Describe an object that has exactly these properties, in this order."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _collect_definitions(tools: tuple[CallableTool, ...]) -> dict[str, Any]:
    """Bring the schemas of several tools under one root, each with its own names."""
    definitions: dict[str, Any] = {}
    for number, tool in enumerate(tools):
        prefix = f"t{number}"
        own = {key: part for key, part in tool.schema.items() if key != "$defs"}
        definitions[prefix] = move_references(own, prefix)
        for name, part in tool.schema.get("$defs", {}).items():
            definitions[f"{prefix}_{name}"] = move_references(part, prefix)
    return definitions

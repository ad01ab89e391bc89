"""Writes one JSON Schema anew, keyword by keyword; `server.text.schema` says how.

A `Rewriter` walks the schema once. Each object of it becomes one object:

1. `modernise` gives it the words of draft 2020-12; values of a wrong form go.
2. Keywords are rewritten by type: objects and arrays in `schema_containers`,
   strings and numbers in `schema_scalars`, logic in `schema_logic`.
3. What must hold as well and has no keyword of its own goes into `allOf`.

`closed` says that the object stands alone, so that an object with properties
may be closed against others. It is False below `allOf` and beside other
keywords, where closing would take away what a neighbour asks for; there the
object that joins them is closed instead, with the names of all.
"""

from typing import Any

from server.core.errors import InvalidRequest
from server.text import (
    schema_arrays,
    schema_logic,
    schema_objects,
    schema_scalars,
)
from server.text.schema_keywords import (
    ARRAY_KEYWORDS,
    CONSTRAINING,
    NUMBER_KEYWORDS,
    OBJECT_KEYWORDS,
    STRING_KEYWORDS,
    has_form,
    modernise,
    read_node,
)
from server.text.schema_refs import ROOT, Document

MAX_DEFINITIONS = 2_000
"""Places that references may point at; each can be needed twice."""

MAX_STEPS = 100_000
"""Looks at schemas, counting those through references again each time."""

MAX_WARNINGS = 32
"""Warnings about one schema; the rest is counted."""

_BY_TYPE = (
    (OBJECT_KEYWORDS, "object"),
    (ARRAY_KEYWORDS, "array"),
    (STRING_KEYWORDS, "string"),
    (NUMBER_KEYWORDS, "number"),
)


class Rewriter:
    """Rewrites one schema; `warnings` grow as it goes."""

    def __init__(self, root: object, *, strict: bool, param: str) -> None:
        self.document = Document(root)
        self.warnings: list[str] = []
        self._root = root
        self._strict = strict
        self._param = param
        self._names: dict[tuple[str, bool], str] = {(ROOT, True): "#"}
        self._waiting: list[tuple[str, bool]] = []
        self._owner = ROOT
        self._n_steps = 0

    def rewrite(self) -> dict[str, Any] | bool:
        """Return the whole schema, with all that it refers to in `$defs`."""
        written = self.write(self._root, "#", closed=True)
        definitions: dict[str, Any] = {}
        while self._waiting:
            pointer, closed = self._waiting.pop()
            name = self._names[pointer, closed].removeprefix("#/$defs/")
            self._owner = pointer
            definitions[name] = self.write(
                self.document.get(pointer), f"#{pointer}", closed=closed
            )
        if isinstance(written, dict) and definitions:
            written["$defs"] = definitions
        return written

    def write(self, value: object, path: str, *, closed: bool) -> dict[str, Any] | bool:
        """Rewrite one schema; `path` is where it stands, for messages."""
        self.count_step()
        if isinstance(value, bool):
            return value
        if not isinstance(value, dict):
            self.drop(path, "", "a schema is an object or true or false")
            return True
        node = modernise(value)
        self._drop_malformed(node, path)
        if value.get("nullable") is True:
            return self._write_nullable(value, path, closed=closed)
        if "$ref" in node:
            written = self._write_ref(node, path, closed=closed)
            if written is not None:
                return written
        return self._write_node(node, path, closed=closed)

    def drop(self, path: str, keyword: str, reason: str) -> None:
        """Note that a keyword is not enforced.

        Raises:
            InvalidRequest: With `strict`.
        """
        what = f"'{keyword}' at {path}" if keyword else f"The schema at {path}"
        if self._strict:
            raise InvalidRequest(
                f"{what} cannot be enforced: {reason}. Change or remove it, or ask "
                "without strict.",
                param=self._param,
            )
        self.note(f"{what} is not enforced: {reason}.")

    def note(self, warning: str) -> None:
        """Add a warning once."""
        if warning in self.warnings or len(self.warnings) > MAX_WARNINGS:
            return
        full = len(self.warnings) == MAX_WARNINGS
        self.warnings.append("More is not enforced." if full else warning)

    def count_step(self) -> None:
        """Count a look at a schema.

        Raises:
            InvalidRequest: There were too many.
        """
        self._n_steps += 1
        if self._n_steps > MAX_STEPS:
            raise self.refuse(
                f"The schema takes more than {MAX_STEPS} steps to understand: its "
                "parts refer to each other too often. Simplify it."
            )

    def refuse(self, message: str) -> InvalidRequest:
        """Make an error that does not depend on `strict`."""
        return InvalidRequest(message, param=self._param)

    def find(self, reference: str, path: str) -> str:
        """Find the pointer that a reference means in the end.

        Raises:
            InvalidRequest: It points elsewhere, nowhere, or only at itself.
        """
        seen: set[str] = set()
        while True:
            pointer = self.document.resolve(reference)
            if pointer is None:
                raise self.refuse(
                    f"'$ref' at {path} points to '{reference}', which is not in this "
                    "schema. Nothing is fetched: put it into '$defs'."
                )
            if pointer in seen:
                raise self.refuse(
                    f"'$ref' at {path} points to '{reference}', which refers only to "
                    "itself. Correct it."
                )
            seen.add(pointer)
            target = self.document.get(pointer)
            node = read_node(target) if isinstance(target, dict) else {}
            following = node.get("$ref")
            if len(node) != 1 or not isinstance(following, str):
                return pointer
            reference = following

    def look(self, value: object, path: str) -> dict[str, Any] | bool:
        """Read a schema as it stands, through a plain reference."""
        if isinstance(value, dict):
            node = read_node(value)
            if len(node) == 1 and isinstance(node.get("$ref"), str):
                return self.look(self.document.get(self.find(node["$ref"], path)), path)
            return node
        return value if isinstance(value, bool) else True

    def name(self, pointer: str, *, closed: bool) -> str:
        """Give the place that a pointer means its reference in the result."""
        known = self._names.get((pointer, closed))
        if known is not None:
            return known
        if len(self._names) > MAX_DEFINITIONS:
            raise self.refuse(
                f"The schema refers to more than {MAX_DEFINITIONS} places in itself. "
                "Make it smaller."
            )
        last = pointer.rsplit("/", 1)[-1]
        plain = "".join(c for c in last if c.isascii() and (c.isalnum() or c == "_"))
        name = f"#/$defs/{plain[:40]}_{len(self._names)}"
        self._names[pointer, closed] = name
        self._waiting.append((pointer, closed))
        return name

    def _drop_malformed(self, node: dict[str, Any], path: str) -> None:
        for keyword in list(node):
            if not has_form(keyword, node[keyword]):
                self.drop(path, keyword, "its value has no valid form")
                del node[keyword]

    def _write_nullable(
        self, value: dict[str, Any], path: str, *, closed: bool
    ) -> dict[str, Any] | bool:
        rest = {key: part for key, part in value.items() if key != "nullable"}
        written = self.write(rest, path, closed=closed)
        if isinstance(written, bool):
            return written or {"type": "null"}
        return {"anyOf": [written, {"type": "null"}]}

    def _write_ref(
        self, node: dict[str, Any], path: str, *, closed: bool
    ) -> dict[str, Any] | bool | None:
        """Write a reference that stands alone; None where it has company."""
        pointer = self.find(node["$ref"], path)
        target = self.document.get(pointer)
        if isinstance(target, bool) and len(node) == 1:
            return target
        if len(node) == 1:
            return {"$ref": self.name(pointer, closed=closed)}
        if self.document.reaches(pointer, self._owner):
            beside = ", ".join(sorted(node.keys() - {"$ref"}))
            self.drop(path, beside, "it stands beside a '$ref' that is recursive")
            return {"$ref": self.name(pointer, closed=closed)}
        return None

    def _write_node(
        self, node: dict[str, Any], path: str, *, closed: bool
    ) -> dict[str, Any] | bool:
        if closed:
            _infer_type(node)
        out: dict[str, Any] = {}
        if "type" in node:
            out["type"] = node["type"]
        if "$ref" in node:
            out["$ref"] = self.name(self.find(node["$ref"], path), closed=False)
        also = schema_logic.write_logic(self, node, out, path, closed=closed)
        if also is False:
            return False
        schema_scalars.write_scalars(self, node, out, also, path)
        schema_arrays.write_array(self, node, out, path, closed=closed)
        schema_objects.write_object(self, node, out, also, path=path, closed=closed)
        return _join(out, also)


def _infer_type(node: dict[str, Any]) -> None:
    """Give a schema the type that all its keywords speak of."""
    if "type" in node or not node.keys() <= CONSTRAINING:
        return
    for keywords, name in _BY_TYPE:
        if node and node.keys() <= keywords:
            node["type"] = name


def _join(out: dict[str, Any], also: list[Any]) -> dict[str, Any] | bool:
    parts = [part for part in also if part is not True]
    if False in parts:
        return False
    if not parts:
        return out or True
    if not out and len(parts) == 1:
        only: dict[str, Any] | bool = parts[0]
        return only
    return {**out, "allOf": [*out.get("allOf", []), *parts]}

"""Where a `$ref` inside of a JSON Schema points.

Only places in the same document are found: by JSON pointer, by `$anchor`, and
by the `$id` that the document gives itself or a part. Nothing is ever fetched.

Source: JSON Schema draft 2020-12, core, sections 8.2 and 9.2; RFC 6901.
"""

from typing import Any
from urllib.parse import unquote, urljoin

_ID_KEYS = ("$id", "id")
_ANCHOR_KEYS = ("$anchor", "$dynamicAnchor")
_DATA_KEYS = frozenset({"const", "enum", "default", "examples", "example", "required"})
_NAME_MAPS = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
)
"""Keywords whose value has names of the client's, not keywords."""
_REFERENCE_KEYS = ("$ref", "$dynamicRef", "$recursiveRef")
ROOT = ""


class Document:
    """A schema with all of its parts, found by JSON pointer.

    Pointers are written without the "#"; "" is the whole document.
    """

    def __init__(self, root: object) -> None:
        self._root = root
        self._places: dict[str, str] = {}
        self._refs: dict[str, list[str]] = {}
        self._reach: dict[str, frozenset[str]] = {}
        self._index(root, ROOT, "")

    def resolve(self, reference: str) -> str | None:
        """Find the pointer of a reference; None where nothing is there."""
        if reference in self._places:
            return self._places[reference]
        uri, _, fragment = reference.partition("#")
        start = self._places.get(uri, None) if uri else ROOT
        if start is None:
            return None
        fragment = unquote(fragment)
        if not fragment:
            return start
        if not fragment.startswith("/"):
            return self._places.get(f"#{fragment}")
        pointer = start + fragment.rstrip("/") if fragment != "/" else start
        return pointer if self._exists(pointer) else None

    def get(self, pointer: str) -> Any:  # noqa: ANN401 - any JSON value
        """Return the value at a pointer that `resolve` gave."""
        value: Any = self._root
        for segment in pointer.split("/")[1:]:
            key = segment.replace("~1", "/").replace("~0", "~")
            value = value[int(key)] if isinstance(value, list) else value[key]
        return value

    def reaches(self, pointer: str, goal: str) -> bool:
        """Tell whether `goal` is used in what stands at `pointer`, or is it."""
        known = self._reach.get(pointer)
        if known is None:
            found: set[str] = set()
            waiting = [pointer]
            while waiting:
                here = waiting.pop()
                if here not in found:
                    found.add(here)
                    waiting.extend(self._targets(self.get(here)))
            known = self._reach[pointer] = frozenset(found)
        return goal in known

    def _exists(self, pointer: str) -> bool:
        try:
            self.get(pointer)
        except (KeyError, IndexError, ValueError, TypeError):
            return False
        return True

    def _targets(self, value: object) -> list[str]:
        """List where the references inside of a value point."""
        found = []
        waiting = [value]
        while waiting:
            part = waiting.pop()
            if isinstance(part, list):
                waiting.extend(part)
            if not isinstance(part, dict):
                continue
            for key, inner in part.items():
                if key in _REFERENCE_KEYS and isinstance(inner, str):
                    target = self.resolve(inner)
                    if target is not None:
                        found.append(target)
                elif key in ("$defs", "definitions") or key in _DATA_KEYS:
                    continue
                elif key in _NAME_MAPS and isinstance(inner, dict):
                    waiting.extend(inner.values())
                else:
                    waiting.append(inner)
        return found

    def _index(self, value: object, pointer: str, base: str) -> None:
        """Note the names that parts of the document give themselves."""
        if isinstance(value, list):
            for number, part in enumerate(value):
                self._index(part, f"{pointer}/{number}", base)
        if not isinstance(value, dict):
            return
        base = self._note_names(value, pointer, base)
        for key, part in value.items():
            if key in _DATA_KEYS:
                continue
            here = f"{pointer}/{_escape(key)}"
            if key in _NAME_MAPS and isinstance(part, dict):
                for name, inner in part.items():
                    self._index(inner, f"{here}/{_escape(name)}", base)
            else:
                self._index(part, here, base)

    def _note_names(self, value: dict[str, Any], pointer: str, base: str) -> str:
        for key in _ID_KEYS:
            name = value.get(key)
            if isinstance(name, str) and name:
                base = self._note_id(name, pointer, base)
        for key in _ANCHOR_KEYS:
            if isinstance(value.get(key), str):
                self._places.setdefault(f"#{value[key]}", pointer)
        return base

    def _note_id(self, name: str, pointer: str, base: str) -> str:
        if name.startswith("#"):
            self._places.setdefault(name, pointer)
            return base
        name = name.rstrip("#")
        full = urljoin(base, name)
        for known in (name, full, name.rsplit("/", 1)[-1]):
            self._places.setdefault(known, pointer)
        return full


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def move_references(schema: Any, prefix: str) -> Any:  # noqa: ANN401 - any JSON value
    """Point a rewritten schema's references to where its parts are moved.

    "#" becomes "#/$defs/PREFIX", and "#/$defs/NAME" "#/$defs/PREFIX_NAME".
    """
    if isinstance(schema, list):
        return [move_references(part, prefix) for part in schema]
    if not isinstance(schema, dict):
        return schema
    moved: dict[str, Any] = {}
    for key, part in schema.items():
        if key == "$ref":
            name = part.removeprefix("#").removeprefix("/$defs/")
            moved[key] = f"#/$defs/{prefix}_{name}" if name else f"#/$defs/{prefix}"
        elif key in _NAME_MAPS:
            moved[key] = {
                name: move_references(inner, prefix) for name, inner in part.items()
            }
        elif key in _DATA_KEYS:
            moved[key] = part
        else:
            moved[key] = move_references(part, prefix)
    return moved

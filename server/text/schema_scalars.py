"""Strings, numbers and fixed values of a JSON Schema."""

from typing import TYPE_CHECKING, Any

from server.text.schema_keywords import FORMATS, NUMBER_KEYWORDS, list_types
from server.text.schema_pattern import UnsupportedPattern, translate_pattern

if TYPE_CHECKING:
    from server.text.schema_rewrite import Rewriter

MAX_TEXT_LENGTH = 20_000
"""The largest `minLength` or `maxLength` that is counted."""

EXACT_INTEGER = 2**53
"""Above it the compiler, which reads numbers as doubles, cannot tell them apart."""

_LEAP_YEAR = (
    "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
)
_REAL_DATE = f"(?:[0-9]{{4}}-(?:0[13-9]|1|02-(?:[01]|2[0-8]))|{_LEAP_YEAR}-02-29)"
_YEAR_ONE = "^(?:[1-9]|0[1-9]|00[1-9]|000[1-9])"
_NO_LEAP_SECOND = "[0-9]{2}:[0-9]{2}:[0-5]"
STRICTER = {
    "date": (_YEAR_ONE, f"^{_REAL_DATE}"),
    "time": (f"^{_NO_LEAP_SECOND}",),
    "date-time": (_YEAR_ONE, f"^{_REAL_DATE}[^T]*[tT]{_NO_LEAP_SECOND}"),
    "hostname": ("^(?s:.){1,253}$",),
}
"""What the compiler's formats let pass and readers do not, as further patterns.

That is 29 February of other years, the year 0, leap seconds, and names of hosts
that are too long (RFC 1035, section 2.3.4).
"""

_MAX_EXPONENT_FREE = 1e15
_LEAST_MULTIPLE = 1e-6


def write_scalars(
    rewriter: "Rewriter",
    node: dict[str, Any],
    out: dict[str, Any],
    also: list[Any],
    path: str,
) -> None:
    """Write the keywords of strings, numbers, `const` and `enum` into `out`."""
    _write_values(rewriter, node, out, path)
    types = list_types(node)
    if "string" in types:
        _write_string(rewriter, node, out, also, path)
    if "number" in types or "integer" in types:
        _write_number(rewriter, node, out, path)


def _write_values(
    rewriter: "Rewriter", node: dict[str, Any], out: dict[str, Any], path: str
) -> None:
    for keyword in ("const", "enum"):
        if keyword not in node:
            continue
        values = node["enum"] if keyword == "enum" else [node["const"]]
        if any(not is_exact(value) for value in values):
            rewriter.drop(
                path, keyword, "it has numbers of more digits than a double holds"
            )
        else:
            out[keyword] = node[keyword]


def is_exact(value: object) -> bool:
    """Tell whether all numbers in a value survive as doubles, without exponent."""
    if isinstance(value, dict):
        return all(map(is_exact, value.values()))
    if isinstance(value, list):
        return all(map(is_exact, value))
    if isinstance(value, float):
        size = abs(value)
        return size == 0 or _LEAST_MULTIPLE <= size < _MAX_EXPONENT_FREE
    return not isinstance(value, int) or abs(value) < EXACT_INTEGER


def _write_string(
    rewriter: "Rewriter",
    node: dict[str, Any],
    out: dict[str, Any],
    also: list[Any],
    path: str,
) -> None:
    if "pattern" in node:
        try:
            first, *others = translate_pattern(node["pattern"])
        except UnsupportedPattern as error:
            rewriter.drop(path, "pattern", str(error))
        else:
            out["pattern"] = first
            also.extend({"pattern": other} for other in others)
    if "format" in node:
        if node["format"] in FORMATS:
            out["format"] = node["format"]
            patterns = STRICTER.get(node["format"], ())
            also.extend({"pattern": pattern} for pattern in patterns)
        else:
            # JSON Schema itself asks that unknown formats are ignored.
            rewriter.note(
                f"'format' at {path} is not enforced: '{node['format']}' is none of "
                f"{', '.join(sorted(FORMATS))}."
            )
    for keyword in ("minLength", "maxLength"):
        if keyword not in node:
            continue
        if node[keyword] > MAX_TEXT_LENGTH:
            rewriter.drop(
                path, keyword, f"{node[keyword]} is more than {MAX_TEXT_LENGTH}"
            )
        else:
            out[keyword] = node[keyword]


def _write_number(
    rewriter: "Rewriter", node: dict[str, Any], out: dict[str, Any], path: str
) -> None:
    for keyword in sorted(NUMBER_KEYWORDS & node.keys()):
        bound = node[keyword]
        if is_exact(bound):
            out[keyword] = bound
        elif keyword.endswith("aximum") and bound >= EXACT_INTEGER:
            # Stricter, and nobody means the largest integer of a machine.
            out[keyword] = EXACT_INTEGER - 1
        elif keyword.endswith("inimum") and bound <= -EXACT_INTEGER:
            out[keyword] = 1 - EXACT_INTEGER
        else:
            rewriter.drop(path, keyword, f"{bound} is not exact as a double")

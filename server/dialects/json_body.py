"""From the bytes of a request body to a wire model, with errors that help.

Every step that can fail names what was wrong and where: the line and column
of a syntax error, the path of a field (`messages[0].content`). Errors never
quote the client's values, so they may be logged.
"""

import asyncio
import json
import math
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from server.core.errors import ErrorInfo, InvalidRequest

MAX_DEPTH = 128
"""Levels of nesting in a body; a tool schema of real life has under 30."""

MAX_VALUES = 4 * 2**20
"""Values in a body, estimated from above. Each takes about 64 bytes of memory,
so 128 MiB of `[[],[],[]…` would take gigabytes and many seconds."""

THREAD_BYTES = 2**20
"""Larger bodies are read in a thread, so that streams go on meanwhile."""

MAX_PATH_CHARS = 200
"""Of a field's path in an error; keys come from the client."""

M = TypeVar("M", bound=BaseModel)

Path = tuple[str | int, ...]

_EXPECTED = {
    "bool_type": "a boolean",
    "dict_type": "an object",
    "float_type": "a number",
    "int_type": "an integer",
    "list_type": "an array",
    "model_type": "an object",
    "string_type": "a string",
}


class InvalidField(InvalidRequest):
    """A request field is wrong in a way that has a code of its own."""

    def __init__(
        self, message: str, *, code: str = "invalid_value", param: str | None = None
    ) -> None:
        super().__init__(message, param=param)
        self.info_code = code

    def to_info(self) -> ErrorInfo:
        """Describe this error with its own code."""
        return ErrorInfo(
            code=self.info_code,
            message=self.message,
            http_status=self.http_status,
            param=self.param,
        )


async def read_body(model: type[M], body: bytes, *, max_depth: int = MAX_DEPTH) -> M:
    """Read a JSON object into a wire model, a large one in a thread.

    Raises:
        InvalidRequest: See `parse_body`.
    """
    if len(body) <= THREAD_BYTES:
        return parse_body(model, body, max_depth=max_depth)
    return await asyncio.to_thread(parse_body, model, body, max_depth=max_depth)


def parse_body(model: type[M], body: bytes, *, max_depth: int = MAX_DEPTH) -> M:
    """Read a JSON object into a wire model.

    Args:
        model: What is expected.
        body: The bytes as they came.
        max_depth: Levels of nesting.

    Raises:
        InvalidRequest: The body is not JSON, not an object, nested too deep,
            or a field is missing or has the wrong type.
    """
    document = parse_json(body, max_depth=max_depth)
    if not isinstance(document, dict):
        raise InvalidField(
            f"The request body must be a JSON object, but it is {json_type(document)}.",
            code="invalid_type",
        )
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise _describe(first) from None


def parse_json(body: bytes, *, max_depth: int = MAX_DEPTH) -> object:
    """Read one JSON value that is safe to pass on.

    Of a key that is given twice, the last value counts.

    Raises:
        InvalidRequest: Not UTF-8, not JSON, nested deeper than `max_depth`, more
            than `MAX_VALUES` values, a number that is not finite, or a lone
            surrogate in a string.
    """
    if len(body) > MAX_VALUES and sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise InvalidField(
            f"The request body holds more than {MAX_VALUES} values. Send fewer.",
            code="invalid_json",
        )
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidField(
            f"The request body is not valid UTF-8: byte {error.start} cannot be "
            "decoded. Send JSON in UTF-8.",
            code="invalid_json",
        ) from None
    try:
        document: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidField(
            f"The request body is not valid JSON: {error.msg} at line "
            f"{error.lineno} column {error.colno}.",
            code="invalid_json",
        ) from None
    except RecursionError:
        raise _too_deep(max_depth) from None
    except ValueError:  # an integer of thousands of digits
        raise InvalidField(
            "The request body holds an integer with too many digits.",
            code="invalid_json",
        ) from None
    _check(document, max_depth)
    return document


def json_type(value: object) -> str:
    """Name the JSON type of a parsed value, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def path_text(path: Path) -> str:
    """Write a path the way a client would: `messages[0].content`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text[:MAX_PATH_CHARS]


def wrong_type(param: str, expected: str, value: object) -> InvalidField:
    """Describe a field whose value has the wrong JSON type."""
    return InvalidField(
        f"Invalid type for '{param}': expected {expected}, but got {json_type(value)}.",
        code="invalid_type",
        param=param,
    )


def missing(param: str) -> InvalidField:
    """Describe a required field that is absent."""
    return InvalidField(
        f"Missing required parameter: '{param}'.",
        code="missing_required_parameter",
        param=param,
    )


def _check(document: object, max_depth: int) -> None:
    """Refuse what JSON text can say but no field can mean."""
    stack: list[tuple[object, Path]] = [(document, ())]
    while stack:
        value, path = stack.pop()
        for step, item in _items(value):
            kind = type(item)
            if kind is str:
                _check_text(item, (*path, step))
            elif kind is float:
                if not math.isfinite(item):
                    param = path_text((*path, step))
                    raise InvalidField(
                        f"Invalid '{param}': the number is not finite.", param=param
                    )
            elif kind is dict or kind is list:
                if len(path) + 2 > max_depth:
                    raise _too_deep(max_depth)
                stack.append((item, (*path, step)))


def _items(value: object) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, dict):
        for key in value:
            _check_text(key, ())
        return iter(value.items())
    return enumerate(value) if isinstance(value, list) else iter(())


def _check_text(text: str, path: Path) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        param = path_text(path) or None
        where = f"Invalid '{param}'" if param else "Invalid object key"
        raise InvalidField(
            f"{where}: the text holds a lone surrogate (half of a \\uD83D\\uDE00 "
            "pair). Send both halves or the character itself.",
            param=param,
        ) from None


def _too_deep(max_depth: int) -> InvalidField:
    return InvalidField(
        f"The request body is nested deeper than {max_depth} levels.",
        code="invalid_json",
    )


def _describe(error: ErrorDetails) -> InvalidField:
    param = path_text(error["loc"])
    kind = error["type"]
    if kind == "missing":
        return missing(param)
    expected = _EXPECTED.get(kind)
    if expected is not None:
        value = error["input"]
        got = json_type(value)
        if kind == "int_type" and isinstance(value, float):
            got = "a number with a fraction"
        elif kind == "float_type" and type(value) is int:
            got = "one that is too large"
        return InvalidField(
            f"Invalid type for '{param}': expected {expected}, but got {got}.",
            code="invalid_type",
            param=param,
        )
    return InvalidField(f"Invalid '{param}': {error['msg']}.", param=param)

"""Text or token ids, one or many, as completions and embeddings take them."""

from dataclasses import dataclass

from server.core.requests import Embed
from server.dialects.json_body import InvalidField, missing, wrong_type
from server.dialects.openai.sampling import MAX_TOKEN_ID, check_range
from server.dialects.openai.wire import EmbeddingRequest

MAX_INPUTS = 2048
MAX_DIMENSIONS = 2**31 - 1
ENCODING_FORMATS = ("float", "base64")

Input = str | tuple[int, ...]


@dataclass(frozen=True)
class EmbedCall:
    """What to embed, and whether the vectors are sent as base64."""

    request: Embed
    base64: bool


def decode_embedding(wire: EmbeddingRequest, *, request_id: str) -> EmbedCall:
    """Turn an embedding request's body into the internal request.

    Raises:
        InvalidRequest: A field has a value that means nothing or is out of
            range.
    """
    if not wire.model:
        raise InvalidField(
            "Invalid 'model': it is empty. Name a model that GET /v1/models lists.",
            param="model",
        )
    if wire.dimensions is not None:
        check_range(wire.dimensions, 1, MAX_DIMENSIONS, "dimensions")
    encoding_format = wire.encoding_format or "float"
    if encoding_format not in ENCODING_FORMATS:
        raise InvalidField(
            "Invalid 'encoding_format': expected 'float' or 'base64'.",
            param="encoding_format",
        )
    inputs = decode_inputs(wire.input, param="input", max_items=MAX_INPUTS)
    for number, item in enumerate(inputs):
        if not item:
            param = "input" if isinstance(wire.input, str) else f"input[{number}]"
            raise InvalidField(
                f"Invalid '{param}': the text is empty, so it has no vector.",
                param=param,
            )
    return EmbedCall(
        request=Embed(
            id=request_id, model=wire.model, inputs=inputs, dimensions=wire.dimensions
        ),
        base64=encoding_format == "base64",
    )


def decode_inputs(value: object, *, param: str, max_items: int) -> tuple[Input, ...]:
    """Read a string, token ids, or an array of either.

    Returns:
        At least one input. Strings may be empty, lists of ids may not.

    Raises:
        InvalidRequest: Wrong types, nothing at all, more than `max_items`, or
            a token id that no vocabulary has.
    """
    if isinstance(value, str):
        return (value,)
    if value is None:
        raise missing(param)
    if not isinstance(value, list):
        raise wrong_type(param, "a string or an array", value)
    if not value:
        raise InvalidField(f"Invalid '{param}': the array is empty.", param=param)
    if _is_number(value[0]):
        return (decode_token_ids(value, param),)
    if len(value) > max_items:
        raise InvalidField(
            f"Invalid '{param}': {len(value)} entries are more than the limit of "
            f"{max_items}.",
            param=param,
        )
    return tuple(
        _input(item, f"{param}[{number}]") for number, item in enumerate(value)
    )


def _input(item: object, param: str) -> Input:
    if isinstance(item, str):
        return item
    if not isinstance(item, list):
        raise wrong_type(param, "a string or an array of token ids", item)
    if not item:
        raise InvalidField(f"Invalid '{param}': the array is empty.", param=param)
    return decode_token_ids(item, param)


def decode_token_ids(values: list[object], param: str) -> tuple[int, ...]:
    """Read a list of token ids.

    Raises:
        InvalidRequest: An entry that no vocabulary has.
    """
    return tuple(_token_id(value, param, number) for number, value in enumerate(values))


def _token_id(value: object, param: str, number: int) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(f"{param}[{number}]", "a token id (an integer)", value)
    if not 0 <= value <= MAX_TOKEN_ID:
        check_range(value, 0, MAX_TOKEN_ID, f"{param}[{number}]")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

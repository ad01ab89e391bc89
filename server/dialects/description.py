"""How a request body looks, for the OpenAPI description.

Endpoints read their bodies themselves, so FastAPI knows nothing of them.
"""

from typing import Any

from pydantic import BaseModel

_REF_PREFIX = "#/$defs/"


def describe_body(model: type[BaseModel]) -> dict[str, Any]:
    """Describe a wire model as the JSON body of an operation.

    Returns:
        The `requestBody` of an OpenAPI operation, with every reference written
        out: a definition inside an operation cannot be referred to.
    """
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _inline(schema, definitions)}},
        }
    }


def _inline(value: Any, definitions: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, list):
        return [_inline(item, definitions) for item in value]
    if not isinstance(value, dict):
        return value
    reference = value.get("$ref")
    if isinstance(reference, str):
        return _inline(definitions[reference.removeprefix(_REF_PREFIX)], definitions)
    return {key: _inline(item, definitions) for key, item in value.items()}

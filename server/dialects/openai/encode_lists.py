"""Models and embeddings in OpenAI's list shapes. Pure.

Model items carry what other client families look for besides OpenAI's four
fields: one path serves them all.

Source: OpenAI API reference, "The model object", "The embedding object".
"""

import struct
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime

from server.core.events import Embeddings
from server.core.models import ModelInfo
from server.dialects.openai.encode import Json

FLOAT_BYTES = 4


def encode_model(model: ModelInfo) -> Json:
    """Show one model."""
    created_at = datetime.fromtimestamp(model.created_s, UTC)
    return {
        "id": model.id,
        "object": "model",
        "created": model.created_s,
        "owned_by": "organization_owner",
        "type": "model",
        "display_name": model.id,
        "created_at": created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def encode_models(models: Sequence[ModelInfo]) -> Json:
    """Show all models, in the given order, as one complete page."""
    return {
        "object": "list",
        "data": [encode_model(model) for model in models],
        "has_more": False,
        "first_id": models[0].id if models else None,
        "last_id": models[-1].id if models else None,
    }


def encode_embeddings(answer: Embeddings, *, base64: bool) -> Json:
    """Show vectors in the order of the inputs.

    Args:
        answer: The engine's answer.
        base64: Whether each vector is the base64 text of its little-endian
            float32 values rather than a list of numbers.
    """
    row_bytes = answer.n_embd * FLOAT_BYTES
    rows = [
        answer.vectors[start : start + row_bytes]
        for start in range(0, len(answer.vectors), row_bytes)
    ]
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": b64encode(row).decode()
                if base64
                else list(struct.unpack(f"<{answer.n_embd}f", row)),
            }
            for index, row in enumerate(rows)
        ],
        "model": answer.instance_id,
        "usage": {
            "prompt_tokens": answer.prompt_tokens,
            "total_tokens": answer.prompt_tokens,
        },
    }

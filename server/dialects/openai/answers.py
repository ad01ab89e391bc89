"""What all answers have: an identity, and bytes of JSON."""

import secrets
import time

import msgspec
from starlette.responses import Response

from server.dialects.openai.encode import Head, Json
from server.dialects.openai.errors import JSON_MEDIA_TYPE

ID_CHARS = "0123456789abcdefghijklmnopqrstuvwxyz"
ID_LENGTH = 21


def make_head(prefix: str) -> Head:
    """Make the identity of an answer that begins now.

    Args:
        prefix: What the id begins with, such as `chatcmpl-`.
    """
    name = "".join(secrets.choice(ID_CHARS) for _ in range(ID_LENGTH))
    return Head(id=prefix + name, created_s=int(time.time()))


def json_response(body: Json) -> Response:
    """Answer with a JSON object."""
    return Response(msgspec.json.encode(body), media_type=JSON_MEDIA_TYPE)

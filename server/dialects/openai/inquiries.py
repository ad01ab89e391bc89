"""What clients ask about text, and how the answers look. Pure.

llama.cpp's server has these endpoints, with these fields. It holds one model
at a time, so its clients do not name one: a model may be left out where there
is no doubt which is meant.

Source: llama.cpp, tools/server/README.md, `/tokenize`, `/detokenize`,
`/apply-template` and `/v1/chat/completions/input_tokens`.
"""

from collections.abc import Sequence
from typing import Any

from server.core.models import ModelInfo, ModelType
from server.core.requests import (
    Detokenize,
    Detokenized,
    Rendered,
    RenderPrompt,
    Tokenize,
    Tokenized,
)
from server.dialects.json_body import InvalidField
from server.dialects.openai.decode import decode_chat
from server.dialects.openai.encode import Json
from server.dialects.openai.inputs import decode_token_ids
from server.dialects.openai.wire import (
    DetokenizeRequest,
    TemplateRequest,
    TokenizeRequest,
)

MAX_TEXT_BYTES = 1024 * 1024
"""Of a text to tokenize, which takes seconds for each megabyte."""

MAX_TOKENS = 1024 * 1024

_LISTED_MODELS = 8


def choose_model(models: Sequence[ModelInfo]) -> str:
    """Name the model that a request means which names none.

    That is the only one that is loaded, or else the only one there is; models
    that answer come before those that only make embeddings.

    Raises:
        InvalidRequest: None is available, or it could be one of several.
    """
    chats = [model for model in models if model.type is not ModelType.EMBEDDING]
    candidates = chats or list(models)
    candidates = [model for model in candidates if model.instances] or candidates
    if len(candidates) == 1:
        return candidates[0].id
    if not candidates:
        known = "No model is available: put a GGUF file into a models directory."
    else:
        more = len(candidates) - _LISTED_MODELS
        rest = f" and {more} more" if more > 0 else ""
        names = ", ".join(model.id for model in candidates[:_LISTED_MODELS])
        known = f"Name one of: {names}{rest}."
    raise InvalidField(
        f"Missing required parameter: 'model'. {known}",
        code="missing_required_parameter",
        param="model",
    )


def decode_tokenize(wire: TokenizeRequest, *, request_id: str, model: str) -> Tokenize:
    """Read which text to turn into tokens.

    Raises:
        InvalidRequest: The text is longer than `MAX_TEXT_BYTES` in UTF-8.
    """
    n_bytes = len(wire.content.encode())
    if n_bytes > MAX_TEXT_BYTES:
        raise InvalidField(
            f"Invalid 'content': {n_bytes} bytes are more than the limit of "
            f"{MAX_TEXT_BYTES}. Send it in parts.",
            param="content",
        )
    return Tokenize(
        id=request_id,
        model=model,
        text=wire.content,
        add_special=bool(wire.add_special),
        parse_special=wire.parse_special is not False,
    )


def decode_detokenize(
    wire: DetokenizeRequest, *, request_id: str, model: str
) -> Detokenize:
    """Read which tokens to turn into text.

    Raises:
        InvalidRequest: More than `MAX_TOKENS`, or what is no token id.
    """
    if len(wire.tokens) > MAX_TOKENS:
        raise InvalidField(
            f"Invalid 'tokens': {len(wire.tokens)} tokens are more than the limit of "
            f"{MAX_TOKENS}. Send them in parts.",
            param="tokens",
        )
    tokens = decode_token_ids(wire.tokens, "tokens")
    return Detokenize(id=request_id, model=model, tokens=tokens)


def decode_render(
    wire: TemplateRequest, *, request_id: str, model: str
) -> RenderPrompt:
    """Read which conversation to render, with all that a chat request can say.

    Raises:
        InvalidRequest: See `decode_chat`.
    """
    named = wire.model_copy(update={"model": model})
    (request,) = decode_chat(named, request_id=request_id).requests
    return RenderPrompt(id=request.id, model=request.model, prompt=request.prompt)


def encode_tokens(result: Tokenized, *, with_pieces: bool) -> Json:
    """Show tokens, as numbers or with their text.

    A piece that is no UTF-8 by itself is shown as a list of bytes.
    """
    if not with_pieces:
        return {"tokens": result.tokens}
    return {
        "tokens": [
            {"id": token, "piece": _piece(data)}
            for token, data in zip(result.tokens, result.pieces, strict=True)
        ]
    }


def encode_text(result: Detokenized) -> Json:
    """Show the text of tokens."""
    return {"content": result.text}


def encode_prompt(result: Rendered) -> Json:
    """Show a rendered conversation."""
    return {"prompt": result.text}


def encode_count(result: Rendered) -> Json:
    """Show how many tokens a request's prompt has."""
    return {"object": "response.input_tokens", "input_tokens": result.n_tokens}


def _piece(data: bytes) -> Any:  # noqa: ANN401 - a string or a list of numbers
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)

"""The endpoints that ask about text: tokens, prompts and their length."""

from typing import TypeVar

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.core.errors import EngineFailed
from server.core.requests import (
    Detokenized,
    Inquiry,
    InquiryResult,
    Rendered,
    Tokenized,
)
from server.dialects.description import describe_body
from server.dialects.feed import until_disconnect
from server.dialects.json_body import MAX_DEPTH, M, read_body
from server.dialects.openai.answers import json_response, make_head
from server.dialects.openai.inquiries import (
    choose_model,
    decode_detokenize,
    decode_render,
    decode_tokenize,
    encode_count,
    encode_prompt,
    encode_text,
    encode_tokens,
)
from server.dialects.openai.wire import (
    DetokenizeRequest,
    TemplateRequest,
    TokenizeRequest,
)
from server.engine.api import Engine

R = TypeVar("R", bound=InquiryResult)


class TextEndpoints:
    """The handlers, with what they need.

    Args:
        engine: Answers the questions.
        max_json_depth: Levels of nesting in a request body.
    """

    def __init__(self, engine: Engine, *, max_json_depth: int) -> None:
        self._engine = engine
        self._max_json_depth = max_json_depth

    async def tokenize(self, request: Request) -> Response:
        """Turn text into token ids."""
        wire = await self._read(TokenizeRequest, request)
        inquiry = decode_tokenize(
            wire,
            request_id=make_head("inquiry-").id,
            model=await self._model(wire.model),
        )
        result = await self._inquire(request, inquiry, Tokenized)
        shown = encode_tokens(result, with_pieces=bool(wire.with_pieces))
        return json_response(shown)

    async def detokenize(self, request: Request) -> Response:
        """Turn token ids into text."""
        wire = await self._read(DetokenizeRequest, request)
        inquiry = decode_detokenize(
            wire,
            request_id=make_head("inquiry-").id,
            model=await self._model(wire.model),
        )
        return json_response(
            encode_text(await self._inquire(request, inquiry, Detokenized))
        )

    async def apply_template(self, request: Request) -> Response:
        """Write a conversation as the model would read it."""
        return json_response(encode_prompt(await self._render(request)))

    async def count_tokens(self, request: Request) -> Response:
        """Count the prompt tokens of a chat request without running it."""
        return json_response(encode_count(await self._render(request)))

    async def _render(self, request: Request) -> Rendered:
        wire = await self._read(TemplateRequest, request)
        inquiry = decode_render(
            wire,
            request_id=make_head("inquiry-").id,
            model=await self._model(wire.model),
        )
        return await self._inquire(request, inquiry, Rendered)

    async def _read(self, model: type[M], request: Request) -> M:
        body = await request.body()
        return await read_body(model, body, max_depth=self._max_json_depth)

    async def _model(self, name: str) -> str:
        return name or choose_model(await self._engine.list_models())

    async def _inquire(self, request: Request, inquiry: Inquiry, kind: type[R]) -> R:
        result = await until_disconnect(request.receive, self._engine.inquire(inquiry))
        if not isinstance(result, kind):
            raise EngineFailed(
                "The engine answered another question. Send the request again."
            )
        return result


def build_text_router(engine: Engine, *, max_json_depth: int = MAX_DEPTH) -> APIRouter:
    """Build the routes; each stands at the root, as in llama.cpp, and under `/v1`.

    Args:
        engine: Answers the questions.
        max_json_depth: Levels of nesting in a request body.
    """
    endpoints = TextEndpoints(engine, max_json_depth=max_json_depth)
    router = APIRouter(tags=["Text"])
    for path, handler, wire in (
        ("/tokenize", endpoints.tokenize, TokenizeRequest),
        ("/detokenize", endpoints.detokenize, DetokenizeRequest),
        ("/apply-template", endpoints.apply_template, TemplateRequest),
    ):
        for prefix in ("", "/v1"):
            router.add_api_route(
                prefix + path,
                handler,
                methods=["POST"],
                openapi_extra=describe_body(wire),
            )
    router.add_api_route(
        "/v1/chat/completions/input_tokens",
        endpoints.count_tokens,
        methods=["POST"],
        openapi_extra=describe_body(TemplateRequest),
    )
    return router

"""The endpoints of the OpenAI dialect: bytes in, the engine, bytes out."""

from collections.abc import Callable, Iterator

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.core.errors import ErrorInfo, RouteNotFound
from server.core.events import Event, Started
from server.core.fold import Fold
from server.dialects.description import describe_body
from server.dialects.feed import Feed, collect, start, until_disconnect
from server.dialects.json_body import MAX_DEPTH, M, read_body
from server.dialects.openai.answers import json_response, make_head
from server.dialects.openai.decode import Call, decode_chat, decode_completion
from server.dialects.openai.encode import ChatChunks, Json, Showing, encode_chat
from server.dialects.openai.encode_lists import (
    encode_embeddings,
    encode_model,
    encode_models,
)
from server.dialects.openai.encode_text import CompletionChunks, encode_completion
from server.dialects.openai.errors import error_object
from server.dialects.openai.inputs import decode_embedding
from server.dialects.openai.text_routes import build_text_router
from server.dialects.openai.warning_header import warn
from server.dialects.openai.wire import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
)
from server.dialects.sse import DONE, EventStream, frame
from server.engine.api import Engine


class Endpoints:
    """The handlers, with what they all need.

    Args:
        engine: Runs the requests.
        heartbeat_s: Silence after which a stream sends a comment.
        shutdown_grace_s: How long streams may go on once the server stops.
        max_json_depth: Levels of nesting in a request body.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        heartbeat_s: float,
        shutdown_grace_s: float,
        max_json_depth: int = MAX_DEPTH,
    ) -> None:
        self._engine = engine
        self._max_json_depth = max_json_depth
        self._heartbeat_s = heartbeat_s
        self._shutdown_grace_s = shutdown_grace_s

    async def list_models(self) -> Response:
        """List every model that can be asked for."""
        return json_response(encode_models(await self._engine.list_models()))

    async def retrieve_model(self, model_id: str) -> Response:
        """Show one model; the id may hold slashes."""
        if not model_id:
            raise RouteNotFound("No model is named. List all with GET /v1/models.")
        return json_response(encode_model(await self._engine.find_model(model_id)))

    async def create_chat_completion(self, request: Request) -> Response:
        """Continue a conversation."""
        wire = await self._read(ChatRequest, request)
        head = make_head("chatcmpl-")
        call = decode_chat(wire, request_id=head.id)
        showing = Showing(
            logprobs=call.top_logprobs is not None,
            reasoning=call.reasoning,
            legacy_call=call.legacy_call,
        )
        if call.stream:
            chunks = ChatChunks(
                head, n=call.n, showing=showing, include_usage=call.include_usage
            )
            return await self._stream(
                request, call, lambda _, event: chunks.chunks(event)
            )
        (fold,) = await self._complete(request, call)
        return warn(
            json_response(encode_chat(head, fold, showing=showing)), fold.warnings
        )

    async def create_completion(self, request: Request) -> Response:
        """Continue texts as they stand, without a chat template."""
        wire = await self._read(CompletionRequest, request)
        head = make_head("cmpl-")
        call = decode_completion(wire, request_id=head.id)
        logprobs = call.top_logprobs is not None
        if call.stream:
            chunks = CompletionChunks(
                head,
                n_prompts=len(call.requests),
                n=call.n,
                logprobs=logprobs,
                include_usage=call.include_usage,
            )
            return await self._stream(request, call, chunks.chunks)
        folds = await self._complete(request, call)
        return warn(
            json_response(encode_completion(head, folds, logprobs=logprobs)),
            [text for fold in folds for text in fold.warnings],
        )

    async def create_embeddings(self, request: Request) -> Response:
        """Turn texts into vectors."""
        wire = await self._read(EmbeddingRequest, request)
        call = decode_embedding(wire, request_id=make_head("embd-").id)
        answer = await until_disconnect(
            request.receive, self._engine.embed(call.request)
        )
        return json_response(encode_embeddings(answer, base64=call.base64))

    async def _read(self, model: type[M], request: Request) -> M:
        body = await request.body()
        return await read_body(model, body, max_depth=self._max_json_depth)

    async def _complete(self, request: Request, call: Call) -> tuple[Fold, ...]:
        async with self._feed(call) as feed:
            return await until_disconnect(request.receive, collect(feed, n=call.n))

    async def _stream(
        self,
        request: Request,
        call: Call,
        chunks: Callable[[int, Event], Iterator[Json]],
    ) -> Response:
        """Wait until the request is accepted, then answer with a stream.

        What is wrong with a request thus still gets a status of its own.
        """
        feed = self._feed(call)
        try:
            first = await until_disconnect(request.receive, start(feed))
        except BaseException:
            await feed.aclose()
            raise
        stream = EventStream(
            feed,
            first,
            _ChunkFrames(chunks),
            heartbeat_s=self._heartbeat_s,
            shutdown_grace_s=self._shutdown_grace_s,
            request_id=request.state.request_id,
        )
        started = [event for _, event in first if isinstance(event, Started)]
        return warn(stream, [text for event in started for text in event.warnings])

    def _feed(self, call: Call) -> Feed:
        return Feed([self._engine.generate(request) for request in call.requests])


class _ChunkFrames:
    """Frames chunks the way OpenAI does."""

    def __init__(self, chunks: Callable[[int, Event], Iterator[Json]]) -> None:
        self._chunks = chunks

    def encode(self, source: int, event: Event) -> bytes:
        return b"".join(frame(chunk) for chunk in self._chunks(source, event))

    def fail(self, error: ErrorInfo) -> bytes:
        return frame(error_object(error), event="error")

    def end(self) -> bytes:
        return DONE


def build_router(
    engine: Engine,
    *,
    heartbeat_s: float,
    shutdown_grace_s: float,
    max_json_depth: int = MAX_DEPTH,
) -> APIRouter:
    """Build the routes under `/v1`, and llama.cpp's about text.

    Args:
        engine: Runs the requests.
        heartbeat_s: Silence after which a stream sends a comment.
        shutdown_grace_s: How long streams may go on once the server stops.
        max_json_depth: Levels of nesting in a request body.
    """
    endpoints = Endpoints(
        engine,
        heartbeat_s=heartbeat_s,
        shutdown_grace_s=shutdown_grace_s,
        max_json_depth=max_json_depth,
    )
    router = APIRouter(prefix="/v1", tags=["OpenAI"])
    router.add_api_route("/models", endpoints.list_models, methods=["GET"])
    router.add_api_route(
        "/models/{model_id:path}", endpoints.retrieve_model, methods=["GET"]
    )
    for path, handler, wire in (
        ("/chat/completions", endpoints.create_chat_completion, ChatRequest),
        ("/completions", endpoints.create_completion, CompletionRequest),
        ("/embeddings", endpoints.create_embeddings, EmbeddingRequest),
    ):
        router.add_api_route(
            path, handler, methods=["POST"], openapi_extra=describe_body(wire)
        )
    both = APIRouter()
    both.include_router(router)
    both.include_router(build_text_router(engine, max_json_depth=max_json_depth))
    return both

"""The engine that dialects use: names to models, models to workers."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from model_store.catalog import BrokenModel, Catalog, StoredModel
from server.core.errors import (
    ModelLoadFailed,
    ModelNotFound,
    ServerError,
    WrongModelType,
)
from server.core.events import Embeddings, Event, Failed, Loading
from server.core.models import ModelInfo, ModelType
from server.core.requests import (
    Embed,
    Generate,
    Inquiry,
    InquiryResult,
    RenderPrompt,
)
from server.engine.pool import Pool
from server.engine.queue_limit import QueueLimit


class Client:
    """Implements `server.engine.api.Engine` over a catalog and a pool.

    Args:
        catalog: Which models there are.
        pool: Loads and lends them.
        queue: How many requests may wait; None means any number.
    """

    def __init__(
        self, catalog: Catalog, pool: Pool, queue: QueueLimit | None = None
    ) -> None:
        self._catalog = catalog
        self._pool = pool
        self._queue = queue or QueueLimit()

    async def list_models(self) -> tuple[ModelInfo, ...]:
        """List every model that can be asked for, ordered by id."""
        await self._refresh()
        return tuple(self._describe(model) for model in self._catalog.models())

    async def find_model(self, name: str) -> ModelInfo:
        """Resolve a client's name for a model; see `Engine.find_model`."""
        return self._describe(await self._resolve(name))

    async def generate(self, request: Generate) -> AsyncGenerator[Event]:
        """Run a generation; see `Engine.generate`."""
        try:
            model = await self._resolve(request.model)
            if model.is_embedding:
                raise WrongModelType(
                    f"The model '{model.id}' only makes embeddings: it cannot answer. "
                    "Choose another model, or use /v1/embeddings."
                )
            with self._queue.enter(model.id):
                async with aclosing(self._pool.watch_load(model)) as progress:
                    async for done in progress:
                        yield Loading(model.id, done)
                async with (
                    self._pool.lease(model) as instance,
                    aclosing(instance.process.generate(request)) as events,
                ):
                    async for event in events:
                        yield event
        except ServerError as error:
            yield Failed(error.to_info())

    async def embed(self, request: Embed) -> Embeddings:
        """Compute embeddings; see `Engine.embed`."""
        model = await self._resolve(request.model)
        if not model.is_embedding:
            raise WrongModelType(
                f"The model '{model.id}' is not an embedding model. Choose one whose "
                "type is 'embeddings' in GET /v1/models."
            )
        with self._queue.enter(model.id):
            async with self._pool.lease(model) as instance:
                return await instance.process.embed(request)

    async def inquire(self, request: Inquiry) -> InquiryResult:
        """Answer a question about text; see `Engine.inquire`."""
        model = await self._resolve(request.model)
        if model.is_embedding and isinstance(request, RenderPrompt):
            raise WrongModelType(
                f"The model '{model.id}' only makes embeddings: it has no prompts. "
                "Choose another model."
            )
        with self._queue.enter(model.id):
            async with self._pool.lease(model) as instance:
                return await instance.process.inquire(request)

    async def _refresh(self) -> None:
        """Look at the models directories again, away from the event loop.

        They may lie on a slow network disk; streams must not wait for it.
        """
        await asyncio.to_thread(self._catalog.refresh)

    async def _resolve(self, name: str) -> StoredModel:
        found = self._catalog.find(name)
        if not isinstance(found, StoredModel):
            # It may have been added or mended a moment ago.
            await self._refresh()
            found = self._catalog.find(name)
        match found:
            case StoredModel():
                return found
            case BrokenModel():
                raise ModelLoadFailed(found.reason, param="model")
            case None:
                known = tuple(model.id for model in self._catalog.models())
                raise ModelNotFound(name, known)

    def _describe(self, model: StoredModel) -> ModelInfo:
        return ModelInfo(
            id=model.id,
            type=ModelType.EMBEDDING if model.is_embedding else ModelType.LLM,
            publisher=model.publisher,
            repository=model.repository,
            file_name=model.file_name,
            quantization=model.quantization,
            architecture=model.summary.architecture,
            size_bytes=model.size_bytes,
            n_ctx_train=model.summary.n_ctx_train,
            created_s=model.mtime_s,
            aliases=model.aliases,
            instances=self._pool.instances(model.id),
        )

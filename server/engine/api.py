"""The engine as dialects see it.

Dialects know this protocol and nothing behind it: no process, no path, no
template. `FakeEngine` in the tests and `server.engine.client.Client` both
implement it.
"""

from collections.abc import AsyncGenerator
from typing import Protocol

from server.core.events import Embeddings, Event
from server.core.models import ModelInfo
from server.core.requests import Embed, Generate, Inquiry, InquiryResult


class Engine(Protocol):
    """Lists models and runs requests on them."""

    async def list_models(self) -> tuple[ModelInfo, ...]:
        """List every model that can be asked for, ordered by id."""
        ...

    async def find_model(self, name: str) -> ModelInfo:
        """Resolve a client's name for a model.

        Raises:
            ModelNotFound: No model has this id or alias.
        """
        ...

    def generate(self, request: Generate) -> AsyncGenerator[Event]:
        """Run a generation; see `server.core.events` for the order.

        Closing the iterator cancels the request. Errors never leave it as
        exceptions: they are its last event, `Failed`.
        """
        ...

    async def embed(self, request: Embed) -> Embeddings:
        """Compute embeddings; cancelling the call cancels the work.

        Raises:
            ServerError: Any of its kinds, `ModelNotFound` among them.
        """
        ...

    async def inquire(self, request: Inquiry) -> InquiryResult:
        """Answer a question about text without a decode step.

        The model is loaded for it if need be.

        Returns:
            The result that belongs to the kind of the request.

        Raises:
            ServerError: Any of its kinds, `ModelNotFound` among them.
        """
        ...

"""What only this server has to tell: the state of its seal."""

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from server.seal.apply import Seal

_JSON = "application/json; charset=utf-8"


class Endpoints:
    """The handlers, with what they need."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    async def show_seal(self) -> Response:
        """Show the offline seal: its level, its layers and what it blocked."""
        return Response(msgspec.json.encode(self._seal.status()), media_type=_JSON)

    async def show_health(self) -> Response:
        """Say that requests are accepted, and how tight the seal is."""
        body = {"status": "ok", "seal": self._seal.level}
        return Response(msgspec.json.encode(body), media_type=_JSON)


def build_router(seal: Seal) -> APIRouter:
    """Build the routes.

    Args:
        seal: What is in force in this process.
    """
    endpoints = Endpoints(seal)
    router = APIRouter(tags=["Cloister"])
    router.add_api_route("/cloister/seal", endpoints.show_seal, methods=["GET"])
    router.add_api_route("/health", endpoints.show_health, methods=["GET"])
    router.add_api_route(
        "/health", endpoints.show_health, methods=["HEAD"], include_in_schema=False
    )
    return router

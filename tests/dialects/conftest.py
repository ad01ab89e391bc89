from contextlib import ExitStack

import pytest

from server.app import create_app
from tests.live_server import live_server


@pytest.fixture
def serve():
    """Serve an engine on a real socket: `port = serve(engine, heartbeat_s=…)`."""
    with ExitStack() as stack:
        yield lambda engine, **settings: stack.enter_context(
            live_server(create_app(engine=engine, **settings))
        )

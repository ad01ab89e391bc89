"""The endpoints of this server's own."""

import json

from server.app import create_app
from server.seal.apply import Seal
from server.seal.attempts import Attempt, AttemptLog
from server.seal.layers import Layers
from server.seal.level import Level
from tests.fake_engine import FakeEngine
from tests.live_server import exchange, live_server

GET = b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def get(port, path):
    status, _, body = exchange(port, GET % path.encode())
    return status, json.loads(body)


def test_without_a_seal_both_say_off():
    with live_server(create_app(engine=FakeEngine())) as port:
        assert (200, {"status": "ok", "seal": "off"}) == get(port, "/health")
        status, body = get(port, "/cloister/seal")
    assert (200, "off", None) == (status, body["level"], body["installed_at"])


def test_a_seal_tells_its_layers_and_what_it_blocked():
    log = AttemptLog(lambda _: None)
    layers = Layers(Level.KERNEL, filter_instructions=141, landlock_abi=7)
    app = create_app(
        engine=FakeEngine(), seal=Seal(layers, log, "2026-11-22T00:00:00Z")
    )
    with live_server(app) as port:
        assert {"connect"} != set(get(port, "/cloister/seal")[1]["blocked"]["counts"])
        log.record(Attempt("connect", "socket.connect", "192.0.2.1:80", "m.n", 7))
        body = get(port, "/cloister/seal")[1]
        assert "kernel" == get(port, "/health")[1]["seal"]
    assert "2026-11-22T00:00:00Z" == body["installed_at"]
    assert 141 == body["layers"]["filter_instructions"]
    assert {"connect": 1} == body["blocked"]["counts"]
    (last,) = body["blocked"]["last"]
    assert ("m.n", 7, "192.0.2.1:80") == (
        last["module"],
        last["line"],
        last["address"],
    )

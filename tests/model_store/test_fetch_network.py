"""How a hub is reached: proxies, certificates, and without a network."""

import contextlib
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from model_store.fetch import Hub
from model_store.hub_errors import (
    BadHubSetting,
    HubFailed,
    HubUnreachable,
    WrongBytes,
)
from model_store.patience import Patience
from model_store.remote import Access, read_access
from tests.hub_server import HubServer

NAME = "acme/tiny-GGUF"
FILE = "tiny-Q4_K_M.gguf"
CONTENT = bytes(range(256)) * 100
HASTY = Patience(attempts=2, first_wait_s=0.01, most_wait_s=3.0, timeout_s=5.0)
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server():
    with contextlib.closing(HubServer()) as hub:
        hub.add(NAME, {FILE: CONTENT, "README.md": b"# Tiny"})
        yield hub


@pytest.fixture
def connect(server):
    """Return a function that opens a hub; it is closed at the end."""
    with contextlib.ExitStack() as stack:

        def open_hub(token=None, endpoint=None, patience=HASTY, tell=None, **more):
            access = Access(endpoint=endpoint or server.endpoint, token=token, **more)
            return stack.enter_context(Hub(access, patience=patience, tell=tell))

        yield open_hub


def fetch_all(hub, target, name=NAME, path=FILE):
    repository = hub.look_up(name)
    file = next(each for each in repository.files if each.path == path)
    hub.fetch(repository, file, target)
    return target.read_bytes()


def test_no_network_is_said_at_once(server, connect):
    server.close()
    told = []
    with pytest.raises(HubUnreachable, match="cloister import FILE --sha256 HEX"):
        connect(tell=told.append).look_up(NAME)
    assert [] == told


class _Proxy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.command, self.path))
        self.send_error(502)

    do_CONNECT = do_GET  # noqa: N815 - the name http.server looks for

    def log_message(self, *args):
        """Keep stderr for the tests."""


@pytest.fixture
def proxy():
    server = HTTPServer(("127.0.0.1", 0), _Proxy)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("variable", "endpoint", "asked"),
    [
        ("HTTPS_PROXY", None, ("CONNECT", "huggingface.co:443")),
        (
            "HTTP_PROXY",
            "http://hub.test",
            ("GET", f"http://hub.test/api/models/{NAME}"),
        ),
    ],
)
def test_a_proxy_of_the_environment_is_asked_instead(
    monkeypatch, proxy, connect, variable, endpoint, asked
):
    monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.server_address[1]}")
    access = read_access({}, endpoint)
    hub = connect(endpoint=access.endpoint)
    with pytest.raises((HubUnreachable, HubFailed)):
        hub.look_up(NAME)
    assert asked == (proxy.asked[0][0], proxy.asked[0][1].partition("?")[0])


@pytest.mark.parametrize("value", ["socks5://h:1", "gopher://user:pw@h", "http://[::"])
def test_a_proxy_that_cannot_be_used_is_refused_without_its_password(
    monkeypatch, connect, value
):
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(BadHubSetting, match="SOCKS is not supported") as caught:
        connect()
    assert "pw" not in str(caught.value)


def test_certificates_that_are_none_are_refused(connect, tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(BadHubSetting, match=r"ca.pem' cannot be read"):
        connect(ca_file=str(tmp_path / "ca.pem"))


@pytest.fixture
def tls_hub(server, tmp_path):
    """Serve the hub encrypted, by a certificate that nobody knows."""
    key, certificate = tmp_path / "key.pem", tmp_path / "own_ca.pem"
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    server.redirects = False
    server.encrypt(key, certificate)
    return f"https://127.0.0.1:{server.port}", str(certificate)


def test_an_own_ca_is_trusted_when_named_and_only_then(connect, tls_hub, tmp_path):
    endpoint, certificate = tls_hub
    with pytest.raises(HubUnreachable, match=r"not trusted .* set SSL_CERT_FILE"):
        connect(endpoint=endpoint).look_up(NAME)
    access = read_access({"SSL_CERT_FILE": certificate}, endpoint)
    hub = connect(endpoint=endpoint, ca_file=access.ca_file)
    assert fetch_all(hub, tmp_path / "part") == CONTENT


def test_an_encrypted_hub_does_not_lead_to_a_plain_one(
    server, connect, tls_hub, tmp_path
):
    endpoint, certificate = tls_hub
    server.redirects = True
    with pytest.raises(WrongBytes, match=r"leads to '127\.0\.0\.1' without encryption"):
        fetch_all(connect(endpoint=endpoint, ca_file=certificate), tmp_path / "part")

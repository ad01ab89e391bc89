"""A client that talks to a server of this very machine and to nothing else.

It goes by numbers: no name is resolved, no proxy of the environment is used, no
redirect is followed, and there is no encryption that would read certificates.
"""

import ipaddress
import json
import ssl
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx2  # noqa: TID251 - `parse_loopback_url` lets it reach this machine alone
from msgspec import Struct

from server.selftest.report import CheckFailed

_MAX_SHOWN: Final = 400
_PATHS: Final = frozenset({"", "/", "/v1", "/v1/"})
_DEFAULT_PORT: Final = 80
_IPV6: Final = 6


class Reply(Struct, frozen=True):
    """An answer; `body` is its JSON value, or its text where it is not JSON."""

    status: int
    body: Any

    def show(self) -> str:
        """Write it for a person, shortened."""
        text = self.body if isinstance(self.body, str) else json.dumps(self.body)
        short = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
        return f"status {self.status}: {short}"


def parse_loopback_url(text: str) -> str:
    """Bring the address of a server on this machine into its plain form.

    `localhost` means 127.0.0.1; a final `/v1`, as clients write it, is dropped.

    Raises:
        ValueError: It is no http URL of a loopback address; the text says so.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port or _DEFAULT_PORT
        is_whole = parts.scheme == "http" and not (
            parts.username or parts.password or parts.query or parts.fragment
        )
        host = "127.0.0.1" if host == "localhost" else host
        address = ipaddress.ip_address(host)
    except ValueError:
        is_whole, address = False, ipaddress.IPv4Address(0)
    if not is_whole or not address.is_loopback or parts.path not in _PATHS:
        raise ValueError(
            f"'{text}' is not the address of a server on this machine, such as "
            "http://127.0.0.1:1234. The self-test talks to no other machine: run "
            "it there."
        )
    shown = f"[{address}]" if address.version == _IPV6 else str(address)
    return f"http://{shown}:{port}"


class LoopbackClient:
    """Speaks HTTP with one server; may be used by several threads.

    Args:
        url: What `parse_loopback_url` returned.
        timeout_s: Longest wait for the next bytes of an answer.
        key: Sent as a bearer token; None sends none.
    """

    def __init__(self, url: str, *, timeout_s: float, key: str | None = None) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self._http = httpx2.Client(
            base_url=url,
            headers={} if key is None else {"authorization": f"Bearer {key}"},
            timeout=timeout_s,
            trust_env=False,
            # Trusts nobody; making the default one would read all certificates.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str) -> Reply:
        """GET a path.

        Raises:
            CheckFailed: No answer came.
        """
        try:
            response = self._http.get(path)
        except httpx2.HTTPError as error:
            raise self._no_answer(path, error) from error
        return _read(response.status_code, response.text)

    def post(self, path: str, body: object) -> Reply:
        """POST a JSON value.

        Raises:
            CheckFailed: No answer came.
        """
        try:
            response = self._http.post(path, json=body)
        except httpx2.HTTPError as error:
            raise self._no_answer(path, error) from error
        return _read(response.status_code, response.text)

    def stream(self, path: str, body: object) -> tuple[int, list[str]]:
        """POST a JSON value and read the answer as server-sent events.

        Returns:
            The status and the data of each event, in their order. An answer
            that is no stream is one text.

        Raises:
            CheckFailed: No answer came, or it broke off.
        """
        try:
            with self._http.stream("POST", path, json=body) as response:
                if response.status_code != httpx2.codes.OK:
                    response.read()
                    return response.status_code, [response.text]
                data = [
                    line.removeprefix("data: ")
                    for line in response.iter_lines()
                    if line.startswith("data: ")
                ]
        except httpx2.HTTPError as error:
            raise self._no_answer(path, error) from error
        return httpx2.codes.OK, data

    def _no_answer(self, path: str, error: httpx2.HTTPError) -> CheckFailed:
        what = f"{type(error).__name__} {error}".strip()
        return CheckFailed(
            expected=f"an answer from {self.url}{path} within {self._timeout_s:g} s",
            actual=what,
            advice="See what the server logged; on a very slow machine give a larger "
            "--timeout.",
        )


def _read(status: int, text: str) -> Reply:
    try:
        return Reply(status, json.loads(text))
    except ValueError:
        return Reply(status, text)

"""The one module that opens connections to the outside.

Nobody imports it but the commands that were told to fetch something; it loads
huggingface_hub only when a `Hub` is entered.

huggingface_hub is used for the hub's API, its addresses and its session. The
bytes are fetched by a loop of our own, because its downloader

* does not compare the SHA-256 that the hub announces;
* writes a cache of its own, in the user's home unless told otherwise, and does
  not take a file that was begun before at a place of our choice;
* waits as long as a server's Retry-After says, an hour or a day;
* refuses files of more than 50 GB without its native transfer library, which
  speaks to further hosts.

Its own side traffic is cut off: telemetry, the registry of agents that it
fetches to describe the caller, tokens it finds in the user's home.

Every request of the session, redirects too, passes `_guard_request`: the token
leaves only for the scheme, host and port of the endpoint. Every answer passes
`_guard_response`: only a file's bytes may be longer than `MAX_ANSWER_BYTES`.

Source: the API of huggingface_hub 2.4.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import httpx2

from model_store.hub_errors import (
    Answer,
    BadHubSetting,
    HubError,
    HubFailed,
    HubUnreachable,
    WrongBytes,
    explain_answer,
    explain_break,
    explain_nonsense,
)
from model_store.names import quoted
from model_store.partial import Progress, append, measure
from model_store.patience import Patience, Pauses
from model_store.ranges import check_range, cut_out, read_retry_after
from model_store.remote import (
    Access,
    RemoteFile,
    RemoteRepository,
    build_file,
    check_commit,
    read_files,
)
from model_store.surroundings import load_certificates, pinned_environment

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

MAX_ANSWER_BYTES: Final = 32 * 2**20
"""Longest answer that is not the bytes of a file."""

MAX_REDIRECTS: Final = 10
WINDOW_BYTES: Final = 40 * 10**9
"""Most bytes of one request: the hub's network ends answers beyond 50 GB."""

_HTTP_ERRORS: Final = 300
_PROXIES: Final = ("https_proxy", "http_proxy", "all_proxy")
_NO_CONTACT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)
"""Where the first request ends so there is no network; waiting is no help."""


class Hub:
    """A connection to one hub; a context manager, one at a time in a process.

    Args:
        access: Address, token and certificates.
        patience: When to give up.
        tell: Told in a sentence why it pauses; None tells nobody.
    """

    def __init__(
        self,
        access: Access,
        *,
        patience: Patience | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.access = access
        self._patience = patience or Patience()
        self._tell = tell
        self._origin = httpx2.URL(access.endpoint).origin
        self._leave = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Load huggingface_hub and make the session.

        Raises:
            BadHubSetting: The certificates or a proxy cannot be used.
        """
        client = self._make_client()
        with pinned_environment():
            from huggingface_hub import (  # noqa: PLC0415 - see above
                HfApi,
                constants,
                get_hf_file_metadata,
                hf_hub_url,
                set_client_factory,
            )
        # It may have been loaded before; it reads this at each request.
        constants.HF_HUB_DISABLE_TELEMETRY = True
        set_client_factory(lambda: client)
        self._leave.callback(client.close)
        self._leave.callback(set_client_factory, _refuse_session)
        self._client = client
        self._ask_about = get_hf_file_metadata
        self._address = hf_hub_url
        self._api = HfApi(
            endpoint=self.access.endpoint,
            token=self.access.token or False,
            headers={"user-agent": "cloister"},
        )
        return self

    def __exit__(self, *error: object) -> None:
        """Close the session."""
        self._leave.close()

    def look_up(self, repository: str, revision: str | None = None) -> RemoteRepository:
        """Ask which GGUF files a repository has, at which commit.

        Raises:
            HubError: There is no answer, or not the one that was hoped for.
        """
        pauses = Pauses(self._patience, self._tell)
        while True:
            try:
                return self._look_up(repository, revision)
            except HubUnreachable as error:
                if isinstance(error.__cause__, _NO_CONTACT):
                    raise
                pauses.wait(error)
            except HubError as error:
                pauses.wait(error)

    def fetch(
        self,
        repository: RemoteRepository,
        file: RemoteFile,
        target: Path,
        progress: Progress | None = None,
    ) -> None:
        """Append to `target` what it lacks of a file.

        What it has already counts as the file's beginning; the caller compares
        the digest of the whole. A broken connection is taken up again.

        Raises:
            HubError: The hub does not give the bytes.
            DiskFull: They do not fit.
            StoreUnwritable: The target cannot be written.
        """
        pauses = Pauses(self._patience, self._tell)
        while (start := measure(target)) < file.size_bytes:
            try:
                stop = min(file.size_bytes, start + WINDOW_BYTES)
                pieces = self._read(repository, file, start, stop)
                append(pieces, target, progress)
            except HubError as error:
                if measure(target) == file.size_bytes and error.is_passing:
                    return
                pauses.wait(error, has_moved=measure(target) > start)

    def read_range(
        self, repository: RemoteRepository, file: RemoteFile, start: int, stop: int
    ) -> bytes:
        """Fetch the bytes from `start` to before `stop`; they are not checked.

        Raises:
            HubError: The hub does not give them.
        """
        pauses = Pauses(self._patience, self._tell)
        content = bytearray()
        while len(content) < stop - start:
            before = len(content)
            try:
                for piece in self._read(repository, file, start + before, stop):
                    content += piece
            except HubError as error:
                if len(content) == stop - start and error.is_passing:
                    break
                pauses.wait(error, has_moved=len(content) > before)
        return bytes(content)

    def _make_client(self) -> httpx2.Client:
        try:
            return httpx2.Client(
                verify=load_certificates(self.access.ca_file),
                headers={"Accept-Encoding": "identity", "User-Agent": "cloister"},
                timeout=self._patience.timeout_s,
                follow_redirects=True,
                max_redirects=MAX_REDIRECTS,
                event_hooks={
                    "request": [self._guard_request],
                    "response": [_guard_response],
                },
            )
        except (ImportError, ValueError, httpx2.InvalidURL) as error:
            # Its text would show a password in the proxy's address.
            raise BadHubSetting(
                f"a proxy of the environment cannot be used ({type(error).__name__})",
                "Write HTTPS_PROXY and HTTP_PROXY like http://host:port; SOCKS is "
                "not supported.",
            ) from None

    def _guard_request(self, request: httpx2.Request) -> None:
        """Keep the token at home and the connection encrypted."""
        if request.url.origin != self._origin:
            request.headers.pop("Authorization", None)
        if self.access.endpoint.startswith("https:") and request.url.scheme != "https":
            raise WrongBytes(
                self.access.endpoint,
                f"the hub leads to {quoted(str(request.url.host))} without encryption",
                "Try another mirror by --endpoint.",
            )

    def _look_up(self, repository: str, revision: str | None) -> RemoteRepository:
        try:
            info = self._api.model_info(
                repository,
                revision=revision,
                files_metadata=True,
                timeout=self._patience.timeout_s,
            )
            return self._read_info(repository, revision, info)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._explain(error, repository) from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise explain_nonsense(repository, self.access.endpoint) from error

    def _read_info(
        self, repository: str, revision: str | None, info: "ModelInfo"
    ) -> RemoteRepository:
        """Check what a hub says about a repository.

        Raises:
            ValueError: It is not what the API promises.
            httpx2.HTTPError: It could not be asked about a file.
        """
        commit = check_commit(info.sha)
        files = read_files(
            info.siblings or (),
            lambda path: self._ask_file(repository, commit, path),
        )
        licence = getattr(info.card_data, "license", None)
        return RemoteRepository(
            id=repository,
            endpoint=self.access.endpoint,
            commit=commit,
            files=files,
            asked_revision=revision,
            licence=licence if isinstance(licence, str) else None,
            is_gated=bool(info.gated),
        )

    def _ask_file(self, repository: str, commit: str, path: str) -> RemoteFile:
        """Ask for one file's size and digest.

        Raises:
            ValueError: The hub does not say them.
            httpx2.HTTPError: The hub did not answer.
        """
        about = self._ask_about(
            self._locate(repository, path, commit),
            token=self.access.token or False,
            timeout=self._patience.timeout_s,
            headers={"user-agent": "cloister"},
        )
        return build_file(path, about.size, about.etag)

    def _locate(self, repository: str, path: str, commit: str) -> str:
        return self._address(
            repository, path, revision=commit, endpoint=self.access.endpoint
        )

    def _read(
        self, repository: RemoteRepository, file: RemoteFile, start: int, stop: int
    ) -> Iterator[bytes]:
        """Ask once for a range of a file; ends with its last byte.

        Raises:
            HubError: There is no answer, another one, or it ends too early.
        """
        subject = f"{repository.id}/{file.path}"
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        if self.access.token is not None:
            headers["Authorization"] = f"Bearer {self.access.token}"
        url = self._locate(repository.id, file.path, repository.commit)
        try:
            with self._client.stream("GET", url, headers=headers) as response:
                if response.status_code >= _HTTP_ERRORS:
                    raise self._explain_status(response, subject)
                skip = check_range(
                    response.status_code,
                    response.headers,
                    subject=subject,
                    start=start,
                    size_bytes=file.size_bytes,
                )
                yield from cut_out(
                    response.iter_raw(),
                    subject=subject,
                    skip=skip,
                    n_bytes=stop - start,
                )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._explain(error, subject) from error

    def _explain(self, error: Exception, subject: str) -> HubError:
        """Turn what httpx2 or huggingface_hub raised into our error."""
        response = getattr(error, "response", None)
        if isinstance(response, httpx2.Response):
            return self._explain_status(response, subject)
        if isinstance(error, httpx2.TooManyRedirects):
            return HubFailed(
                subject,
                f"the hub leads on and on for {quoted(subject)} "
                f"(more than {MAX_REDIRECTS} redirects)",
                "Check --endpoint or HF_ENDPOINT.",
            )
        return explain_break(
            error,
            host=self._origin.host,
            subject=subject,
            has_proxy=any(
                os.environ.get(name) or os.environ.get(name.upper())
                for name in _PROXIES
            ),
        )

    def _explain_status(self, response: httpx2.Response, subject: str) -> HubError:
        headers = response.headers
        return explain_answer(
            Answer(
                status=response.status_code,
                error_code=headers.get("X-Error-Code", ""),
                said=headers.get("X-Error-Message", ""),
                wait_s=read_retry_after(headers.get("Retry-After", "")),
            ),
            subject=subject,
            endpoint=self.access.endpoint,
            has_token=self.access.token is not None,
        )


def _refuse_session() -> httpx2.Client:
    """Stand in for huggingface_hub's own session: nothing goes past a `Hub`."""
    raise BadHubSetting("the connection to the hub is closed", "Open it again.")


class _BoundedStream(httpx2.SyncByteStream):
    """An answer that may not be longer than `MAX_ANSWER_BYTES`."""

    def __init__(self, stream: httpx2.SyncByteStream, host: str) -> None:
        self._stream = stream
        self._host = host

    def __iter__(self) -> Iterator[bytes]:
        n_bytes = 0
        for piece in self._stream:
            n_bytes += len(piece)
            if n_bytes > MAX_ANSWER_BYTES:
                raise WrongBytes(
                    self._host,
                    f"{quoted(self._host)} answers with more than {MAX_ANSWER_BYTES} "
                    "bytes where a short text was expected",
                    "Check --endpoint and HF_ENDPOINT.",
                )
            yield piece

    def close(self) -> None:
        self._stream.close()


def _guard_response(response: httpx2.Response) -> None:
    """Refuse packed answers, bound all but a file's bytes."""
    host = str(response.request.url.host)
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise WrongBytes(
            host,
            f"{quoted(host)} sends packed answers although none were asked for",
            "Try another mirror by --endpoint, or look at the proxy between.",
        )
    is_file = "Range" in response.request.headers
    if is_file and response.status_code < _HTTP_ERRORS:
        return
    if isinstance(response.stream, httpx2.SyncByteStream):
        response.stream = _BoundedStream(response.stream, host)

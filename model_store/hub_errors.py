"""What can go wrong between this machine and a hub, and what to do then.

    HubError (StoreError)
    ├── BadRequest       the words on the command line name nothing that can be asked
    ├── BadHubSetting    endpoint, token or certificates, or the network is forbidden
    ├── HubUnreachable   no connection, or it breaks again and again
    ├── HubRefused       401 and 403: private, gated, or a wrong token
    ├── NotOnHub         404: no such repository, revision or file
    ├── HubBusy          429
    ├── HubFailed        5xx, and answers that are not the hub's API
    ├── WrongBytes       the bytes that came are not those that the hub announced
    ├── BrokenUpstream   the file is as the hub has it, and is no usable model
    ├── NothingFits      no file of the repository can be chosen
    └── DownloadRunning  another process fetches the same file

Texts say what happened and what to do, and never hold a token.
"""

import socket
import ssl
from pathlib import Path
from typing import ClassVar, Final

from msgspec import Struct

from model_store.errors import StoreError
from model_store.names import printable, quoted

CARRY: Final = (
    "If this machine has no network, fetch the file on another one and carry it "
    "in: cloister import FILE --sha256 HEX."
)
_MAX_CAUSES: Final = 10
AGAIN: Final = "Run the same command again; it goes on where it stopped."


class HubError(StoreError):
    """Base of the errors of a download.

    Args:
        subject: What was asked for: a repository, a file, an address.
        reason: What happened.
        hint: What to do.
    """

    code = "hub_error"
    is_passing: ClassVar[bool] = False
    """Whether the same request may succeed a little later."""

    def __init__(self, subject: str, reason: str, hint: str) -> None:
        text = f"{reason[:1].upper()}{reason[1:]}. {hint}"
        super().__init__(text, path=Path(subject), reason=reason)
        self.subject = subject
        self.next_step = hint
        self.wait_s: float | None = None


class BadRequest(HubError):
    """The user's words do not name a repository, revision or file."""

    code = "bad_hub_request"


class BadHubSetting(HubError):
    """Endpoint, token or certificate file cannot be used."""

    code = "bad_hub_setting"

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__("hub", reason, hint)


class HubUnreachable(HubError):
    """There is no connection, or it does not last."""

    code = "hub_unreachable"
    is_passing = True


class HubRefused(HubError):
    """The hub wants a token, or another one, or consent to a licence."""

    code = "hub_refused"


class NotOnHub(HubError):
    """The hub has no such repository, revision or file."""

    code = "not_on_hub"


class HubBusy(HubError):
    """The hub asks to come back later; `wait_s` is when, if it said so."""

    code = "hub_busy"
    is_passing = True


class HubFailed(HubError):
    """The hub, or something before it, answers with an error of its own."""

    code = "hub_failed"
    is_passing = True


class WrongBytes(HubError):
    """The hub sends something else than it announced; `reason` has both."""

    code = "wrong_bytes"


class BrokenUpstream(HubError):
    """The repository's file is not a usable GGUF file."""

    code = "broken_upstream"

    def __init__(self, repository: str, reason: str) -> None:
        super().__init__(
            repository,
            f"a file of {quoted(repository)} is not a usable GGUF file: {reason}",
            "It arrived as the hub has it, so fetching it again is no help; choose "
            "another quantisation, revision or repository.",
        )


class NothingFits(HubError):
    """No file of the repository is what was wanted; the text lists them."""

    code = "nothing_fits"


class DownloadRunning(HubError):
    """Another process is fetching the same file."""

    code = "download_running"


class Answer(Struct, frozen=True):
    """The head of an HTTP answer that is not a success.

    `error_code` is the header X-Error-Code: "RepoNotFound", "GatedRepo",
    "RevisionNotFound", "EntryNotFound" or empty. `said` are the hub's own
    words, `wait_s` is the header Retry-After in seconds.
    """

    status: int
    error_code: str = ""
    said: str = ""
    wait_s: float | None = None

    @property
    def words(self) -> str:
        """What the hub said, shortened and printable, in brackets."""
        return f" ({quoted(self.said)})" if self.said else ""


def explain_answer(
    answer: Answer, *, subject: str, endpoint: str, has_token: bool
) -> HubError:
    """Turn an answer that is not a success into an error.

    Args:
        answer: Its status is 300 or more.
        subject: Repository, or repository and file, that was asked for.
        endpoint: The hub's address.
        has_token: Whether a token was sent.
    """
    page = f"{endpoint}/{'/'.join(subject.split('/')[:2])}"
    if answer.status in {401, 403}:
        error = _explain_refusal(answer, subject, page=page, has_token=has_token)
    elif answer.status in {404, 410, 451}:
        error = _explain_absence(answer, subject, page=page)
    else:
        error = _explain_failure(answer, subject)
    error.wait_s = answer.wait_s
    return error


def explain_break(
    error: BaseException, *, host: str, subject: str, has_proxy: bool
) -> HubUnreachable:
    """Turn a connection that failed or broke into an error.

    Args:
        error: The causes behind it are looked at as well.
        host: The hub's.
        subject: What was asked for.
        has_proxy: Whether the environment names a proxy.
    """
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(causes) < _MAX_CAUSES:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    through = " through the proxy of the environment" if has_proxy else ""
    for each in causes:
        if isinstance(each, ssl.SSLCertVerificationError):
            return HubUnreachable(
                subject,
                f"the certificate of {quoted(host)} is not trusted "
                f"({each.verify_message})",
                "If a proxy of yours opens encrypted connections, set SSL_CERT_FILE "
                "to a file with its CA certificate.",
            )
        if isinstance(each, socket.gaierror):
            return HubUnreachable(
                subject, f"no address is known for the host {quoted(host)}", CARRY
            )
    text = printable(str(error)) or type(error).__name__
    advice = "Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY. " if has_proxy else ""
    return HubUnreachable(
        subject,
        f"{quoted(host)} cannot be reached{through} for {quoted(subject)} ({text})",
        advice + CARRY,
    )


def explain_nonsense(subject: str, endpoint: str) -> HubFailed:
    """Say that whatever answered was not a hub."""
    return HubFailed(
        subject,
        f"what answers at {endpoint} does not speak the API of a hub",
        "A proxy's or network's login page may stand before it; open the address in "
        "a browser, or check --endpoint and HF_ENDPOINT.",
    )


def _explain_failure(answer: Answer, subject: str) -> HubError:
    shown = quoted(subject)
    match answer.status:
        case 429:
            return HubBusy(
                subject,
                f"the hub answered 429 for {shown}: too many requests{answer.words}",
                f"Wait {_tell_wait(answer.wait_s)}. {AGAIN} A token in HF_TOKEN "
                "raises the limit.",
            )
        case 408 | 500 | 502 | 503 | 504:
            return HubFailed(
                subject,
                f"the hub answered {answer.status} for {shown}{answer.words}",
                f"It has a problem of its own; wait some minutes. {AGAIN}",
            )
        case 416:
            return WrongBytes(
                subject,
                f"the hub answered 416 for {shown}: it does not have as many bytes "
                "as it announced",
                "Try again later, or another mirror by --endpoint.",
            )
        case 407:
            return HubRefused(
                subject,
                "the proxy asks for a user name and a password (407)",
                "Write them into HTTPS_PROXY: http://user:password@host:port.",
            )
        case _:
            return NotOnHub(
                subject,
                f"the hub answered {answer.status} for {shown}{answer.words}, which "
                "is not understood",
                "Check that --endpoint or HF_ENDPOINT is the address of a hub.",
            )


def _explain_refusal(
    answer: Answer, subject: str, *, page: str, has_token: bool
) -> HubError:
    shown = quoted(subject)
    if not has_token:
        return HubRefused(
            subject,
            f"the hub does not give {shown} without a token ({answer.status})"
            f"{answer.words}",
            f"Check the name. If the repository is gated or private, open {page} in "
            "a browser, accept its terms, and set HF_TOKEN to a token of yours.",
        )
    if answer.status == 401:  # noqa: PLR2004 - HTTP
        return HubRefused(
            subject,
            f"the hub does not accept the token in HF_TOKEN for {shown} (401)"
            f"{answer.words}",
            "Make a new token, or unset HF_TOKEN if the repository is public.",
        )
    return HubRefused(
        subject,
        f"the token in HF_TOKEN has no access to {shown} (403){answer.words}",
        f"Open {page} in a browser with the account of the token and accept the "
        "terms; wait for approval where it asks for one.",
    )


def _explain_absence(answer: Answer, subject: str, *, page: str) -> HubError:
    shown = quoted(subject)
    if answer.error_code == "RevisionNotFound":
        return NotOnHub(
            subject,
            f"the repository {shown} has no such revision{answer.words}",
            f"See {page}/tree/main for its branches and commits.",
        )
    if answer.error_code == "EntryNotFound":
        return NotOnHub(
            subject,
            f"the repository does not have the file {shown}{answer.words}",
            "List its files with --list.",
        )
    return NotOnHub(
        subject,
        f"the hub has no {shown}{answer.words}",
        f"Check the spelling at {printable(page)}. A private repository needs a "
        "token in HF_TOKEN.",
    )


def _tell_wait(wait_s: float | None) -> str:
    return "some minutes" if wait_s is None else f"{wait_s:.0f} s"

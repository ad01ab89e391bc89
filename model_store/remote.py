"""What is asked of a hub and what it offers: words and values, no connection.

A hub speaks the API of Hugging Face: repositories `publisher/name` with
revisions, each with files. Everything here is checked before it becomes part
of an address or of a path on the disk.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from model_store.hub_errors import BadHubSetting, BadRequest
from model_store.names import is_gguf_name, quoted

DEFAULT_ENDPOINT: Final = "https://huggingface.co"
MAX_FILE_BYTES: Final = 2**44
MAX_PATH_CHARS: Final = 1_024
MAX_REVISION_CHARS: Final = 256
MAX_TOKEN_CHARS: Final = 4_096

MAX_LISTED_FILES: Final = 100_000

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SHA1: Final = re.compile(r"[0-9a-f]{40}")
_PART: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}"
_REPOSITORY: Final = re.compile(rf"{_PART}/{_PART}")
_QUANTIZATION: Final = re.compile(r"[A-Za-z0-9._-]{1,40}")
_REVISION: Final = re.compile(r"[A-Za-z0-9._/+-]+")
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_HOSTS: Final = ("huggingface.co/", "hf.co/")
_OFF: Final = frozenset({"", "0", "false", "no", "off"})
"""Whatever else a variable says that forbids the network, it forbids it."""
_PAGES: Final = ("blob", "resolve", "tree")


class RemoteFile(Struct, frozen=True):
    """One file of a repository.

    `sha256` is what the hub says that the content has, 64 hex digits in lower
    case; None where the file lies in git itself, then `git_blob` is the SHA-1
    that git gives it. Both None means that nothing can be compared.
    """

    path: str
    size_bytes: int
    sha256: str | None = None
    git_blob: str | None = None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


class RemoteRepository(Struct, frozen=True):
    """A repository at one commit, with its GGUF files in order of path.

    `commit` is 40 hex digits. `asked_revision` is what the user named, None
    for the main branch. `licence` is the short name on its card.
    """

    id: str
    endpoint: str
    commit: str
    files: tuple[RemoteFile, ...]
    asked_revision: str | None = None
    licence: str | None = None
    is_gated: bool = False


class Wanted(Struct, frozen=True):
    """What the user asked for; at most one of `quantization` and `file` is set."""

    repository: str
    quantization: str | None = None
    file: str | None = None
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class Access:
    """How to reach a hub.

    `endpoint` has no slash at its end. `token` is sent to that endpoint's
    scheme, host and port alone. `ca_file` replaces the usual certificates.
    """

    endpoint: str = DEFAULT_ENDPOINT
    token: str | None = field(default=None, repr=False)
    ca_file: str | None = None


def parse_wanted(text: str, revision: str | None = None) -> Wanted:
    """Read `publisher/name`, with `:QUANT` or `/path/file.gguf` behind it.

    The address of a repository or file on huggingface.co, as a browser shows
    it, is understood as well; a revision in it is taken.

    Args:
        text: What the user wrote.
        revision: A branch, tag or commit; wins over one in an address.

    Raises:
        BadRequest: It is none of these, or leads out of a repository.
    """
    rest, in_address = _strip_address(text.strip())
    rest, _, quantization = rest.partition(":")
    parts = rest.rstrip("/").split("/", 2)
    repository = "/".join(parts[:2])
    if not _REPOSITORY.fullmatch(repository) or ".." in repository:
        raise BadRequest(
            text,
            f"{quoted(text)} does not name a repository",
            "Write publisher/name, publisher/name:Q4_K_M or publisher/name/file.gguf.",
        )
    file = parts[2] if len(parts) > 2 else None  # noqa: PLR2004 - see the split
    if file is not None:
        _check_wanted_file(text, file, quantization)
    elif ":" in text.rpartition("//")[2] and not _QUANTIZATION.fullmatch(quantization):
        raise BadRequest(
            text,
            f"{quoted(quantization)} is not the name of a quantisation",
            "Write it as in the file's name, for example :Q4_K_M.",
        )
    return Wanted(
        repository=repository,
        quantization=quantization or None,
        file=file,
        revision=check_revision(revision or in_address),
    )


def _strip_address(text: str) -> tuple[str, str | None]:
    """Turn an address of the public hub into the short form and a revision."""
    rest = text.removeprefix("https://").removeprefix("www.")
    host = next((each for each in _HOSTS if rest.startswith(each)), None)
    if host is None:
        return text, None
    rest = rest.removeprefix(host).partition("?")[0].partition("#")[0]
    parts = rest.split("/")
    if len(parts) >= 4 and parts[2] in _PAGES:  # noqa: PLR2004 - org/name/page/rev
        path = [unquote(part) for part in parts[4:]] if parts[2] != "tree" else []
        return "/".join(parts[:2] + path), unquote(parts[3])
    return rest, None


def _check_wanted_file(text: str, file: str, quantization: str) -> None:
    if quantization or not is_gguf_name(file.rpartition("/")[2]):
        raise BadRequest(
            text,
            f"{quoted(file)} is not the name of a GGUF file",
            "Write publisher/name/file.gguf, or publisher/name:Q4_K_M to choose "
            "by quantisation.",
        )
    if not is_safe_path(file):
        raise BadRequest(
            text,
            f"the path {quoted(file)} leads out of the repository",
            "Write it as the repository's list of files shows it.",
        )


def check_revision(revision: str | None) -> str | None:
    """Check a branch, tag or commit; None is the main branch.

    Raises:
        BadRequest: It cannot be one.
    """
    if revision is None:
        return None
    if (
        len(revision) > MAX_REVISION_CHARS
        or ".." in revision
        or not _REVISION.fullmatch(revision)
    ):
        raise BadRequest(
            revision,
            f"{quoted(revision)} is not a revision",
            "Name a branch, a tag or a commit of 40 hex digits.",
        )
    return revision


def is_safe_path(path: str) -> bool:
    """Tell whether a path from a hub stays inside its repository."""
    parts = path.split("/")
    return (
        len(path) <= MAX_PATH_CHARS
        and path.isprintable()
        and "\\" not in path
        and all(part not in {"", ".", ".."} for part in parts)
    )


def read_access(environ: Mapping[str, str], endpoint: str | None = None) -> Access:
    """Read endpoint, token and certificates from the environment.

    Args:
        environ: Looked up are HF_ENDPOINT, HF_TOKEN, SSL_CERT_FILE,
            REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, and the variables that
            forbid the network: CLOISTER_OFFLINE, HF_HUB_OFFLINE.
        endpoint: Wins over HF_ENDPOINT.

    Raises:
        BadHubSetting: One of them cannot be used, or the network is forbidden.
    """
    for name in ("CLOISTER_OFFLINE", "HF_HUB_OFFLINE"):
        if environ.get(name, "").strip().lower() not in _OFF:
            raise BadHubSetting(
                f"offline by policy: {name}={environ[name]} forbids the network",
                f"Unset {name}, or carry the file in: cloister import FILE.",
            )
    return Access(
        endpoint=check_endpoint(
            endpoint or environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
        ),
        token=_check_token(environ.get("HF_TOKEN", "")),
        ca_file=next(
            (
                environ[name]
                for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
                if environ.get(name)
            ),
            None,
        ),
    )


def check_endpoint(text: str) -> str:
    """Check the address of a hub; a slash at its end is dropped.

    Raises:
        BadHubSetting: It is no http or https address, or holds a password.
    """
    shown = quoted(re.sub(r"//[^/]*@", "//…@", text))
    try:
        parts = urlsplit(text.strip())
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
        usable = usable and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or not text.isprintable():
        raise BadHubSetting(
            f"{shown} is not the address of a hub",
            f"Write it like {DEFAULT_ENDPOINT}.",
        )
    if parts.username is not None or parts.password is not None:
        raise BadHubSetting(
            f"the address {shown} holds a user name or a password",
            "It would be written into records; give a token by HF_TOKEN instead.",
        )
    return text.strip().rstrip("/")


def _check_token(text: str) -> str | None:
    token = text.strip()
    if not token:
        return None
    if len(token) > MAX_TOKEN_CHARS or not _TOKEN.fullmatch(token):
        raise BadHubSetting(
            "HF_TOKEN holds something that is not a token",
            "Set it to the token alone: one word without blanks and line ends.",
        )
    return token


class Sibling(Protocol):
    """A file as huggingface_hub's list of a repository describes it."""

    rfilename: str
    size: int | None
    blob_id: str | None

    @property
    def lfs(self) -> "Pointer | None":
        """What git keeps in place of a large file."""
        ...


class Pointer(Protocol):
    """Size and SHA-256 of a large file."""

    size: int
    sha256: str


def read_files(
    siblings: Sequence[Sibling], ask: Callable[[str], RemoteFile]
) -> tuple[RemoteFile, ...]:
    """Check a repository's list of files and keep the GGUF files, by path.

    Args:
        siblings: Of any type inside: a hub sends what it likes.
        ask: Asks for one file, by its path, that the list tells no size of;
            some mirrors leave sizes out.

    Raises:
        ValueError: A size is no size, or there are more than
            `MAX_LISTED_FILES` files.
    """
    if len(siblings) > MAX_LISTED_FILES:
        raise ValueError
    files = []
    for sibling in siblings:
        path = str(sibling.rfilename)
        if not is_safe_path(path) or not is_gguf_name(path.rpartition("/")[2]):
            continue
        pointer = sibling.lfs
        if pointer is not None:
            files.append(build_file(path, pointer.size, pointer.sha256))
        elif sibling.size is not None:
            files.append(build_file(path, sibling.size, sibling.blob_id))
        else:
            files.append(ask(path))
    return tuple(sorted(files, key=lambda file: file.path))


def build_file(path: str, size: object, digest: object) -> RemoteFile:
    """Check a file's size and digest; 64 digits are SHA-256, 40 git's SHA-1.

    Raises:
        ValueError: The size is no size.
    """
    if type(size) is not int or not 0 <= size <= MAX_FILE_BYTES:
        raise ValueError
    text = str(digest)
    return RemoteFile(
        path=path,
        size_bytes=size,
        sha256=text if _SHA256.fullmatch(text) else None,
        git_blob=text if _SHA1.fullmatch(text) else None,
    )


def check_commit(text: object) -> str:
    """Check that a hub names a commit.

    Raises:
        ValueError: It is not 40 hex digits.
    """
    if not isinstance(text, str) or not _SHA1.fullmatch(text):
        raise ValueError
    return text

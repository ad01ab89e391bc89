"""The settings: one definition of each; flags, environment, file and docs follow.

A field of `Settings` carries its own description (`Setting`). From it come the
flag (`--models-dir`), the environment variable (`CLOISTER_MODELS_DIR`), the key
in `cloister.toml` (`models_dir`), the help text and the row in README.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from server.setting_kinds import (
    Bytes,
    Choice,
    File,
    Folder,
    Folders,
    Kind,
    Seconds,
    Secret,
    Switch,
    SwitchOrWord,
    Text,
    WholeNumber,
    Words,
)

ENV_PREFIX = "CLOISTER_"

DEFAULT_HOME = Path("~/.cloister")
VerifyPolicy = Literal["quick", "load", "start", "off"]
"""How closely files are checked before they are loaded."""

OfflineLevel = Literal["off", "process", "kernel"]
"""Levels of the offline seal, as `server.seal.level` explains them."""

_METADATA_KEY = "setting"
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """The description of one setting.

    `field` is its name in `Settings`, with the unit; `key` its name in the file,
    from which flag and environment variable follow. `default` is as a user would
    write it.
    """

    field: str
    key: str
    group: str
    kind: Kind
    default: str
    help: str

    @property
    def flag(self) -> str:
        """The flag of `cloister serve`."""
        is_on = isinstance(self.kind, Switch) and self.kind.default
        return ("--no-" if is_on else "--") + self.key.replace("_", "-")

    @property
    def usage(self) -> str:
        """The flag with the placeholder of its value."""
        return f"{self.flag} {self.kind.metavar}".rstrip()

    @property
    def env(self) -> str:
        """The environment variable."""
        return ENV_PREFIX + self.key.upper()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Description:
    key: str | None
    group: str
    kind: Kind
    default: str | None
    help: str


def _setting(
    default: _T,
    kind: Kind,
    group: str,
    text: str,
    *,
    key: str | None = None,
    shown: str | None = None,
) -> _T:
    """Declare a field: `shown` replaces the default in help and docs."""
    description = _Description(
        key=key, group=group, kind=kind, default=shown, help=text
    )
    return field(
        default=default,
        repr=not isinstance(kind, Secret),
        metadata={_METADATA_KEY: description},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How this server runs. Paths are absolute, with `~` expanded.

    `None` means that the server decides: `context_length` by model and memory,
    `gpu_layers` all where there is a GPU, `threads` the physical cores,
    `memory_limit_bytes` what the machine has free.
    """

    models_dir: tuple[Path, ...] = _setting(
        (),
        Folders(),
        "Models",
        "Folder with models as publisher/repository/file.gguf, an LM Studio models "
        "folder for example; only read. May be given several times.",
        shown="models in the home folder",
    )
    builtin: bool = _setting(
        True,  # noqa: FBT003 - the value of this setting
        Switch(default=True),
        "Models",
        "Leave out the built-in model novice.",
        shown="novice is served",
    )
    verify: VerifyPolicy = _setting(  # noqa: RUF009 - a text is immutable
        "quick",
        Choice(get_args(VerifyPolicy)),
        "Models",
        "Check of a model's files: quick = size and time before each load, load = "
        "their SHA-256 before each load, start = all once at start, then quick, off.",
    )
    ttl_s: float = _setting(
        3600.0,
        Seconds(0, 315_360_000),
        "Models",
        "Unload a model after this idle time in s; 0 = never.",
        key="ttl",
    )
    host: str = _setting(
        "127.0.0.1",
        Text(),
        "Network",
        "Address to listen on; 0.0.0.0 opens the server to the whole network.",
    )
    port: int = _setting(
        1234, WholeNumber(0, 65_535), "Network", "Port to listen on; 0 = any free one."
    )
    offline: OfflineLevel = _setting(  # noqa: RUF009 - a text is immutable
        "off",
        SwitchOrWord(off="off", on="kernel", words=("process",)),
        "Network",
        "Seal the server so that none of its processes can open a connection; "
        "process = hold Python code alone, where the kernel has no seccomp.",
    )
    max_body_bytes: int = _setting(
        128 * 2**20, Bytes(2**10, 2**34), "Network", "Largest request body."
    )
    shutdown_grace_s: float = _setting(
        10.0,
        Seconds(0, 3600),
        "Network",
        "Time in s that running answers get to end when the server stops.",
        key="shutdown_grace",
    )
    unix_socket: Path | None = _setting(  # noqa: RUF009 - None is immutable
        None,
        File(),
        "Network",
        "Listen on this Unix socket instead of address and port; only this user can "
        "connect.",
        shown="none",
    )
    tls_cert: Path | None = _setting(  # noqa: RUF009 - None is immutable
        None,
        File(),
        "Network",
        "Certificate chain in PEM for https; needs --tls-key.",
        shown="none",
    )
    tls_key: Path | None = _setting(  # noqa: RUF009 - None is immutable
        None, File(), "Network", "Private key in PEM of --tls-cert.", shown="none"
    )
    api_key: str | None = _setting(
        None,
        Secret(),
        "Access",
        "Key that lets a request do everything. Other users of this machine can see it "
        "in the list of processes: better use --api-key-file or CLOISTER_API_KEY.",
        shown="none",
    )
    api_key_file: Path | None = _setting(  # noqa: RUF009 - None is immutable
        None, File(), "Access", "File whose only line is that key.", shown="none"
    )
    insecure_no_auth: bool = _setting(
        False,  # noqa: FBT003 - the value of this setting
        Switch(default=False),
        "Access",
        "Ask nobody for a token, whatever else is set.",
        shown="tokens are asked for once there is one",
    )
    allowed_hosts: tuple[str, ...] = _setting(
        (),
        Words("NAME"),
        "Access",
        "Further host name that clients may call this server by. May be given several "
        "times.",
        shown="localhost and the address",
    )
    cors: tuple[str, ...] = _setting(
        (),
        Words("ORIGIN"),
        "Access",
        "Origin of web pages that may use this server, such as https://example.org; "
        "* = all pages. May be given several times.",
        shown="none",
    )
    max_queue: int = _setting(
        256,
        WholeNumber(0, 100_000),
        "Limits",
        "Requests that may wait for one model while others are computed.",
    )
    max_concurrent_requests: int = _setting(
        512, WholeNumber(1, 100_000), "Limits", "Requests answered at once."
    )
    max_connections: int = _setting(
        512, WholeNumber(1, 100_000), "Limits", "Open connections."
    )
    max_json_depth: int = _setting(
        128, WholeNumber(8, 500), "Limits", "Levels of nesting in a request body."
    )
    header_timeout_s: float = _setting(
        10.0,
        Seconds(0, 3600),
        "Limits",
        "Time in s for the headers of a request.",
        key="header_timeout",
    )
    body_timeout_s: float = _setting(
        30.0,
        Seconds(0, 86_400),
        "Limits",
        "Time in s for the body of a request, and 1 s more for each 16 KiB of it.",
        key="body_timeout",
    )
    idle_timeout_s: float = _setting(
        60.0,
        Seconds(0, 86_400),
        "Limits",
        "Time in s that a connection may stay open between requests.",
        key="idle_timeout",
    )
    write_timeout_s: float = _setting(
        120.0,
        Seconds(0, 86_400),
        "Limits",
        "Time in s that a client may leave an answer unread.",
        key="write_timeout",
    )
    parallel: int = _setting(
        4,
        WholeNumber(1, 64),
        "Engine",
        "Requests computed at once by one model; more wait in a fair queue.",
    )
    context_length: int | None = _setting(
        None,
        WholeNumber(16, 2**24, auto=True),
        "Engine",
        "Most tokens of one request, prompt and answer together; "
        "auto = by model and memory.",
    )
    gpu_layers: int | None = _setting(
        None,
        WholeNumber(0, 10_000, auto=True),
        "Engine",
        "Layers computed by the GPU; 0 = none, auto = all where there is a GPU.",
    )
    threads: int | None = _setting(
        None,
        WholeNumber(1, 1024, auto=True),
        "Engine",
        "Threads of one model; auto = the physical cores.",
    )
    memory_limit_bytes: int | None = _setting(
        None,
        Bytes(2**20, 2**50, auto=True),
        "Engine",
        "Memory that all loaded models together may use; "
        "auto = what the machine has free.",
        key="memory_limit",
    )
    home: Path = _setting(  # noqa: RUF009 - a Path is immutable
        DEFAULT_HOME,
        Folder(),
        "Other",
        "The home folder: what the server itself keeps lies there.",
        shown="~/.cloister",
    )
    log_level: str = _setting(
        "info",
        Choice(("debug", "info", "warning", "error")),
        "Other",
        "How much is logged to stderr: debug, info, warning or error; "
        "never the text of prompts or answers.",
    )

    def __post_init__(self) -> None:
        home = self.home.expanduser().absolute()
        folders = self.models_dir or (home / "models",)
        object.__setattr__(self, "home", home)
        object.__setattr__(
            self, "models_dir", tuple(f.expanduser().absolute() for f in folders)
        )


def list_settings() -> tuple[Setting, ...]:
    """Describe every setting, in the order of the help text."""
    return tuple(_describe(f.name, f.metadata, f.default) for f in fields(Settings))


def _describe(name: str, metadata: Mapping[str, Any], default: object) -> Setting:
    description: _Description = metadata[_METADATA_KEY]
    shown = description.default
    return Setting(
        field=name,
        key=description.key or name,
        group=description.group,
        kind=description.kind,
        default=description.kind.format(default) if shown is None else shown,
        help=description.help,
    )

"""Settings: one definition of each; flags, environment, file and docs follow.

A field of `Settings` carries its own description (`Setting`). From it come the
flag (`--models-dir`), the environment variable (`CLOISTER_MODELS_DIR`), the key
in `cloister.toml` (`models_dir`), the help text and the row in README. Flags win
over the environment, that over the file, that over the defaults.

What cannot be understood stops the start: a typo that is silently ignored is
found only when the server behaves wrongly. The one lenience: an environment
variable with an empty value counts as not set, as container tools write it.
"""

import difflib
import os
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from server.setting_kinds import (
    Bytes,
    Choice,
    Folder,
    Folders,
    Kind,
    Seconds,
    Text,
    WholeNumber,
)

FILE_NAME = "cloister.toml"
ENV_PREFIX = "CLOISTER_"
CONFIG_ENV = "CLOISTER_CONFIG"

# Variables that other programs of the project read; the server ignores them.
_FOREIGN_ENV = frozenset({"CLOISTER_WHEEL_CACHE", "CLOISTER_ENGINE_WHEEL"})
_FOREIGN_ENV_PREFIX = "CLOISTER_TEST_"

_DEFAULT_HOME = Path("~/.cloister")
_METADATA_KEY = "setting"
_T = TypeVar("_T")


class ConfigError(Exception):
    """A setting is unknown or has an impossible value; the text names both."""


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
        return "--" + self.key.replace("_", "-")

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
    return field(default=default, metadata={_METADATA_KEY: description})


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
        _DEFAULT_HOME,
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


def load_settings(
    flags: Mapping[str, object],
    env: Mapping[str, str],
    *,
    cwd: Path,
    config_file: Path | None = None,
) -> Settings:
    """Merge flags, environment, file and defaults.

    Args:
        flags: Text by key, tuples of text for flags given several times; None
            and the empty tuple mean not given.
        env: The whole environment of the process.
        cwd: Where relative paths of flags and environment start, and where
            `cloister.toml` is looked for first. The folder `home` is second.
        config_file: The one file to read; None means `CLOISTER_CONFIG`, then
            the search.

    Raises:
        ConfigError: A key is unknown, a value cannot be understood, or the file
            is missing or broken.
    """
    values = _read_env(env, cwd)
    values.update(_read_flags(flags, cwd))
    if config_file is None and env.get(CONFIG_ENV):
        config_file = Path(env[CONFIG_ENV])
    home = Settings(home=values.get("home", _DEFAULT_HOME)).home
    path = _find_file(config_file, cwd, home)
    in_file = {} if path is None else _read_file(path)
    return Settings(**{**in_file, **values})


def _find_file(wanted: Path | None, cwd: Path, home: Path) -> Path | None:
    if wanted is None:
        found = (folder / FILE_NAME for folder in (cwd, home))
        return next((path for path in found if path.is_file()), None)
    path = cwd / wanted.expanduser()
    if not path.is_file():
        raise ConfigError(
            f"The settings file {path} does not exist. "
            f"Create it, or start without --config and {CONFIG_ENV}."
        )
    return path


def _read_flags(flags: Mapping[str, object], cwd: Path) -> dict[str, Any]:
    values = {}
    for setting in list_settings():
        raw = flags.get(setting.key)
        if raw is not None and raw != ():
            shown = " ".join(raw) if isinstance(raw, tuple) else raw
            values[setting.field] = _parse(setting, raw, cwd, f"{setting.flag} {shown}")
    return values


def _read_env(env: Mapping[str, str], cwd: Path) -> dict[str, Any]:
    by_env = {setting.env: setting for setting in list_settings()}
    values = {}
    for name, raw in env.items():
        if not name.startswith(ENV_PREFIX) or name == CONFIG_ENV:
            continue
        if name in _FOREIGN_ENV or name.startswith(_FOREIGN_ENV_PREFIX):
            continue
        if name not in by_env:
            raise ConfigError(
                f"The environment variable {name} is not a setting. "
                + _nearest(name, by_env)
            )
        setting = by_env[name]
        if raw:
            parts: object = raw
            if isinstance(setting.kind, Folders):
                parts = tuple(p for p in raw.split(os.pathsep) if p)
            values[setting.field] = _parse(setting, parts, cwd, f"{name}={raw}")
    return values


def _read_file(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"The settings file {path} cannot be read: {error}. "
            "Repair it or start with another one by --config."
        ) from error
    by_key = {setting.key: setting for setting in list_settings()}
    values = {}
    for key, raw in table.items():
        if key not in by_key:
            raise ConfigError(
                f"{path}: '{key}' is not a setting. " + _nearest(key, by_key)
            )
        setting = by_key[key]
        values[setting.field] = _parse(
            setting, raw, path.absolute().parent, f"{path}: {key} = {raw!r}"
        )
    return values


def _parse(setting: Setting, raw: object, folder: Path, shown: str) -> object:
    try:
        return setting.kind.parse(raw, folder)
    except ValueError:
        raise ConfigError(
            f"{shown} is not valid: expected {setting.kind.expected}."
        ) from None


def _nearest(name: str, known: Collection[str]) -> str:
    """Name the most similar key; all of them where none is similar."""
    folded = {key.lower(): key for key in known}
    wanted = name.lower().replace("-", "_")
    close = difflib.get_close_matches(wanted, folded, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {folded[close[0]]}?"
    return "Known are: " + ", ".join(sorted(known)) + "."

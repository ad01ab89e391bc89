"""Where settings come from: flags, environment, file and defaults.

Flags win over the environment, that over the file, that over the defaults. What
each setting is stands in `server.settings`.

What cannot be understood stops the start: a typo that is silently ignored is
found only when the server behaves wrongly. The one lenience: an environment
variable with an empty value counts as not set, as container tools write it.
"""

import difflib
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from server.setting_kinds import Folders, Secret, Words
from server.settings import (
    DEFAULT_HOME,
    ENV_PREFIX,
    Setting,
    Settings,
    VerifyPolicy,
    list_settings,
)

__all__ = [
    "ConfigError",
    "Setting",
    "Settings",
    "VerifyPolicy",
    "list_settings",
    "load_settings",
]

FILE_NAME = "cloister.toml"
CONFIG_ENV = "CLOISTER_CONFIG"

# Variables that other programs of the project read; the server ignores them.
_FOREIGN_ENV = frozenset(
    {"CLOISTER_BUNDLE_POLICY", "CLOISTER_ENGINE_WHEEL", "CLOISTER_WHEEL_CACHE"}
)
_FOREIGN_ENV_PREFIX = "CLOISTER_TEST_"


class ConfigError(Exception):
    """A setting is unknown or has an impossible value; the text names both."""


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
    home = Settings(home=values.get("home", DEFAULT_HOME)).home
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
            shown = " ".join(raw) if isinstance(raw, tuple) else _show(setting, raw)
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
            if isinstance(setting.kind, Folders | Words):
                parts = tuple(p for p in raw.split(setting.kind.separator) if p)
            shown = f"{name}={_show(setting, raw)}"
            values[setting.field] = _parse(setting, parts, cwd, shown)
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
        shown = _show(setting, repr(raw))
        values[setting.field] = _parse(
            setting,
            raw,
            path.absolute().parent,
            f"{path}: {key} = {shown}",
        )
    return values


def _show(setting: Setting, raw: object) -> object:
    """Give a value for a message; secrets are not shown."""
    return "(secret)" if isinstance(setting.kind, Secret) else raw


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

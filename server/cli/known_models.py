"""The models that a command may name: the store's and those that are served.

A name means the same for every command. The store comes first, then the
models folders of the settings, then the built-in model.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from model_store import builtin
from model_store.catalog import Catalog
from model_store.layout import Store
from model_store.names import printable
from server.config import Settings, load_settings

_F = TypeVar("_F", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class KnownModels:
    """The store, and a catalog that has been refreshed once."""

    settings: Settings
    store: Store
    directories: tuple[Path, ...]
    catalog: Catalog


def place_options(function: _F) -> _F:
    """Add the options that say where models lie, as `serve` has them."""
    for flag, text, multiple in (
        ("--models-dir", "Another folder with models; may be given again.", True),
        ("--home", "The home folder, in which the store lies.", False),
    ):
        function = click.option(flag, multiple=multiple, metavar="DIR", help=text)(
            function
        )
    return function


def open_models(flags: Mapping[str, object]) -> KnownModels:
    """Find all models by the server's own settings.

    Args:
        flags: What `place_options` gave: "home" and "models_dir".

    Raises:
        ConfigError: A setting is wrong.
    """
    settings = load_settings(flags, os.environ, cwd=Path.cwd())
    store = Store(settings.home)
    # A home that was never used has no store; other folders were asked for.
    folders = [store.models_dir] if store.models_dir.is_dir() else []
    folders += [each for each in settings.models_dir if each != store.models_dir]
    if settings.builtin and builtin.is_present():
        folders.append(builtin.DIRECTORY)
    directories = tuple(dict.fromkeys(folders))
    catalog = Catalog(directories)
    catalog.refresh()
    return KnownModels(settings, store, directories, catalog)


def print_json(value: object) -> None:
    """Print one JSON document; paths become text."""
    plain: Any = msgspec.to_builtins(value, enc_hook=str, str_keys=True)
    text = msgspec.json.format(msgspec.json.encode(_encodable(plain)), indent=2)
    click.echo(text.decode())


def print_notes(notes: Iterable[str]) -> None:
    """Print what could not be looked at."""
    for note in notes:
        click.echo(f"note: {note}", err=True)


def _encodable(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Replace what is no Unicode text, such as a file name of stray bytes."""
    match value:
        case str():
            return value if value.isprintable() else printable(value)
        case dict():
            return {key: _encodable(each) for key, each in value.items()}
        case list() | tuple():
            return [_encodable(each) for each in value]
        case _:
            return value

"""`cloister serve`: its options are the settings, one for each."""

import os
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import click

from server.config import Setting, Settings, list_settings, load_settings
from server.listening import StartError, bind
from server.logs import configure_logging
from server.seal.apply import seal_server
from server.seal.level import Level, SealError
from server.setting_kinds import Folders, Kind, Switch, SwitchOrWord, Words

_HELP = """Serve the models of a folder over HTTP, on this machine alone.

Nothing is sent anywhere and nothing is downloaded. Models lie as
publisher/repository/file.gguf in a models folder, as LM Studio keeps them.
"""
_EPILOG = """\b
Example, on another port with the models of LM Studio:
  cloister serve --port 8080 --models-dir ~/.lmstudio/models

\b
Every option can also be set by an environment variable (--models-dir is
CLOISTER_MODELS_DIR) or in cloister.toml (models_dir = "..."), looked for in
the current folder, then in the home folder. Options win over variables, those
over the file. Sizes are written like 512MiB or 1.5GiB.
"""
_F = TypeVar("_F", bound=Callable[..., object])


_LAST_GROUP = list_settings()[-1].group


class _GroupedCommand(click.Command):
    """A command whose help lists the options under the settings' groups."""

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write one section for each group, the rest at the end."""
        records = {
            param.name: record
            for param in self.get_params(ctx)
            if (record := param.get_help_record(ctx)) is not None
        }
        for group, settings in groupby(list_settings(), key=lambda s: s.group):
            rows = [records.pop(setting.key) for setting in settings]
            if group == _LAST_GROUP:
                rows += records.values()
            with formatter.section(group):
                formatter.write_dl(rows)


def _add_options(settings: Iterable[Setting]) -> Callable[[_F], _F]:
    """Turn settings into options of plain text.

    `server.config` parses the text, so that a bad value reads the same wherever
    it came from.
    """

    def decorate(function: _F) -> _F:
        for setting in reversed(tuple(settings)):
            option = click.option(
                setting.flag,
                setting.key,
                help=f"{setting.help}  [{setting.default}]",
                **_describe_value(setting.kind),
            )
            function = option(function)
        return function

    return decorate


def _describe_value(kind: Kind) -> dict[str, Any]:
    """Say what follows the flag; a switch's flag stands for the text of a value."""
    if isinstance(kind, Switch):
        changed = kind.format(not kind.default)
        return {"is_flag": True, "flag_value": changed, "default": None}
    if isinstance(kind, SwitchOrWord):
        on = kind.format(kind.on)
        return {"is_flag": False, "flag_value": on, "metavar": kind.metavar}
    return {"multiple": isinstance(kind, Folders | Words), "metavar": kind.metavar}


@click.command(
    "serve",
    cls=_GroupedCommand,
    help=_HELP,
    epilog=_EPILOG,
    short_help="Serve the models of a folder over HTTP.",
)
@_add_options(list_settings())
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Read the settings from this file alone.",
)
def serve_command(config_file: Path | None, **flags: object) -> int:
    """Serve until told to stop; the help text is `_HELP`."""
    settings = load_settings(flags, os.environ, cwd=Path.cwd(), config_file=config_file)
    if flags.get("api_key") is not None:
        click.echo(
            "cloister: other users of this machine can read --api-key in the list of "
            "processes. Prefer --api-key-file or CLOISTER_API_KEY.",
            err=True,
        )
    return run(settings)


def run(settings: Settings) -> int:
    """Serve until SIGTERM or Ctrl-C.

    The order is the seal's: sockets first, then the seal, and only then are the
    web framework, the engine's client and the model store imported and run.

    Returns:
        The exit code.
    """
    configure_logging(settings.log_level)
    try:
        listener = bind(settings.host, settings.port, settings.unix_socket)
        seal = seal_server(Level(settings.offline), keep=(listener.fileno(),))
    except (StartError, SealError) as error:
        click.echo(f"cloister: {error}", err=True)
        return 1
    from server.serving import serve  # noqa: PLC0415

    return serve(settings, listener, seal)

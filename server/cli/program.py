"""The program `cloister`: its commands, exit codes and error lines.

Exit codes: 0 all went well, 1 something failed, 2 the command or a setting was
wrong, 130 interrupted by Ctrl-C.
"""

import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import click

from model_store.errors import StoreError
from server import __version__
from server.config import ConfigError
from server.core.errors import ServerError

_EXIT_ERROR = 1
_EXIT_USAGE = 2
_EXIT_INTERRUPTED = 130


_COMMANDS: Final = {
    "serve": "server.cli.serve:serve_command",
    "import": "server.cli.import_:import_command",
    "get": "server.cli.get:get_command",
    "ls": "server.cli.listing:ls_command",
    "show": "server.cli.listing:show_command",
    "verify": "server.cli.verify:verify_command",
    "repair": "server.cli.repair:repair_command",
    "bundle": "server.cli.bundle:bundle_group",
    "rm": "server.cli.listing:rm_command",
    "du": "server.cli.listing:du_command",
    "token": "server.cli.token:token_command",
    "doctor": "server.cli.doctor:doctor_command",
    "selftest": "server.cli.selftest:selftest_command",
}
"""Where each command is, in the order of the help text."""


class _Program(click.Group):
    """Imports a command only when it is called, or for the list of all."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """List the commands in the order in which one meets them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Import a command; None if there is no such."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(
    cls=_Program,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: cloister serve --help",
)
@click.version_option(__version__, prog_name="cloister", message="%(prog)s %(version)s")
def program() -> None:
    """Cloister: an offline-first local inference server on llama.cpp."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        args: Without the program's name; None means those of the process.

    Returns:
        The exit code; see the head of this file. Every failure has been told
        in one line on stderr.
    """
    try:
        result = program.main(args, prog_name="cloister", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ConfigError as error:
        return _fail(str(error), _EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted.", _EXIT_INTERRUPTED)
    except (ServerError, StoreError) as error:
        return _fail(error.message, _EXIT_ERROR)
    except Exception as error:  # the outermost border of the program
        logging.getLogger(__name__).debug("unexpected error", exc_info=True)
        return _fail(
            f"unexpected {type(error).__name__}: {error}. "
            "Start with --log-level debug to see where.",
            _EXIT_ERROR,
        )
    return result if isinstance(result, int) else 0


def _fail(text: str, exit_code: int) -> int:
    click.echo(f"cloister: {text}", err=True, file=sys.stderr)
    return exit_code

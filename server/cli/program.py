"""The program `cloister`: its commands, exit codes and error lines.

Exit codes: 0 all went well, 1 something failed, 2 the command or a setting was
wrong, 130 interrupted by Ctrl-C.
"""

import logging
import sys
from collections.abc import Sequence

import click

from server import __version__
from server.cli.serve import serve_command
from server.config import ConfigError
from server.core.errors import ServerError

_EXIT_ERROR = 1
_EXIT_USAGE = 2
_EXIT_INTERRUPTED = 130


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: cloister serve --help",
)
@click.version_option(__version__, prog_name="cloister", message="%(prog)s %(version)s")
def program() -> None:
    """Cloister: an offline-first local inference server on llama.cpp."""


program.add_command(serve_command)


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
    except ServerError as error:
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

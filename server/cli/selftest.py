"""`cloister selftest`: prove an installation on the machine it is to run on."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

_HELP = """Prove that this installation works, on this machine, without a network.

Starts a server of its own with a temporary home, lets the built-in model answer
questions whose answers are known token by token, and prints a line for each
check. Exit code 0 means that all were passed.
"""
_EPILOG = """\b
Example, for the server that runs on this machine already:
  cloister selftest --url http://127.0.0.1:1234

A key that this server asks for is taken from CLOISTER_API_KEY.
"""
_KEY_ENV = "CLOISTER_API_KEY"


@click.command(
    "selftest",
    help=_HELP,
    epilog=_EPILOG,
    short_help="Prove that this installation works.",
)
@click.option("--url", help="Test the server that runs there, on this machine.")
@click.option(
    "--offline",
    is_flag=True,
    help="Seal that server (serve --offline), and check that it is.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1, max=3600),
    default=60.0,
    show_default=True,
    metavar="S",
    help="Longest wait in s for the server's start and for each answer.",
)
def selftest_command(
    url: str | None, *, offline: bool, as_json: bool, timeout_s: float
) -> int:
    """Run the self-test; the help text is `_HELP`."""
    # The HTTP client takes a while to import; --help need not wait.
    from server.selftest.client import parse_loopback_url  # noqa: PLC0415
    from server.selftest.report import (  # noqa: PLC0415
        Row,
        encode_report,
        format_end,
        format_row,
    )
    from server.selftest.run import Options, list_names, run_selftest  # noqa: PLC0415

    try:
        plain_url = None if url is None else parse_loopback_url(url)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from error
    options = Options(
        url=plain_url,
        is_sealed=offline,
        # Only for a running server: one of its own asks nobody for a key.
        key=(os.environ.get(_KEY_ENV) or None) if plain_url else None,
        timeout_s=timeout_s,
    )
    width = max(map(len, list_names(options)))
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    def tell(row: Row) -> None:
        if not as_json:
            click.echo(format_row(row, name_width=width, line_width=columns))

    with _stop_on_sigterm():
        report = run_selftest(options, tell)
    click.echo(encode_report(report) if as_json else format_end(report))
    return 0 if report.is_ok else 1


@contextmanager
def _stop_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into what Ctrl-C does, so that the child is ended too."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

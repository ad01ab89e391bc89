"""`cloister doctor`: what this machine can do, and proof that the seal holds."""

from pathlib import Path
from typing import Final

import click

from server.seal.install import explain_absence
from server.seal.landlock import find_abi
from server.seal.level import Level

_HELP: Final = """Say how tightly a server can be sealed here, or prove that it is.

With --prove-offline some eighty ways out are tried from sealed processes, each
aimed at a listener of the proof's own on this machine. Nothing else is ever
contacted. Then a sealed server is started and looked at.
"""
_EPILOG: Final = """\b
Example, for the file of a security office:
  cloister doctor --prove-offline --report seal.txt

\b
Exit code 0 means that every way out was blocked, every listener heard nothing,
and every descriptor of the server is explained.
"""


@click.command(
    "doctor", help=_HELP, epilog=_EPILOG, short_help="Prove that the seal holds."
)
@click.option(
    "--prove-offline", is_flag=True, help="Try to get out of sealed processes."
)
@click.option(
    "--pid",
    type=click.IntRange(min=1),
    help="Look at this running server instead of a new one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the whole report there; as JSON if its name ends in .json.",
)
@click.option("--control", "is_control", is_flag=True, hidden=True)
def doctor_command(
    *,
    prove_offline: bool,
    pid: int | None,
    as_json: bool,
    report_file: Path | None,
    is_control: bool,
) -> int:
    """Examine the machine; the help text is `_HELP`."""
    if not (prove_offline or is_control):
        if pid is not None or report_file is not None or as_json:
            raise click.UsageError(
                "--pid, --json and --report go with --prove-offline."
            )
        return _show_machine()
    # The ways out import what talks; nothing else of the program does.
    from server.seal import proof, report  # noqa: PLC0415
    from server.selftest.sealed_server import (  # noqa: PLC0415
        view_new_server,
        view_server,
    )

    def tell(row: proof.Row) -> None:
        if not as_json:
            click.echo(report.format_row(row))

    level = Level.KERNEL if explain_absence() is None else Level.PROCESS
    if is_control:
        try:
            rows = proof.control(tell)
        except proof.NotIsolated as error:
            raise click.UsageError(str(error)) from error
        made = report.make_report(Level.OFF, rows, (), is_control=True)
    else:
        rows = proof.prove(level, tell)
        problems: tuple[str, ...] = ()
        try:
            views, problems = (
                (view_server(pid), ()) if pid is not None else view_new_server()
            )
        except OSError as error:
            views, problems = (), (f"process {pid} cannot be looked at: {error}",)
        made = report.make_report(level, rows, views, problems)
    if report_file is not None:
        is_json = report_file.suffix == ".json"
        text = report.encode_report(made) if is_json else report.format_report(made)
        report_file.write_text(text + "\n", encoding="utf-8")
    click.echo(report.encode_report(made) if as_json else report.format_end(made))
    return 0 if made.ok else 1


def _show_machine() -> int:
    """Say what this machine has to seal with."""
    absence, abi = explain_absence(), find_abi()
    level = Level.KERNEL if absence is None else Level.PROCESS
    click.echo(f"tightest seal here: {level.meaning}")
    click.echo(f"seccomp: {'yes' if absence is None else f'no, {absence}'}")
    click.echo(f"Landlock: {f'version {abi}' if abi else 'no'}")
    click.echo("next: cloister doctor --prove-offline")
    return 0

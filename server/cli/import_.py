"""`cloister import`: take models from this machine's disks into the store."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

import click
from msgspec import Struct

from model_store import ollama
from model_store.admission import Admitted, parse_target
from model_store.digest import parse_sha256
from model_store.errors import (
    BadDigest,
    BadTarget,
    DiskFull,
    StoreBusy,
    StoreError,
    StoreUnwritable,
)
from model_store.layout import Store
from model_store.names import printable
from model_store.sideload import (
    Mode,
    Plan,
    Planned,
    Wish,
    check_headers,
    count_work,
    find_there,
    import_model,
    plan_ollama,
    plan_sideload,
)
from server.cli.home import home_of
from server.cli.progress import Bar, format_bytes

_HELP = """Take models into the store: files, folders, LM Studio, Hugging Face, Ollama.

A plain file is copied. Files in the folders of LM Studio, of the Hugging Face
cache and of Ollama are linked instead, and stay where they are. Shards of a split
model come all together. A SHA256SUMS or NAME.sha256 beside a file is used by
itself. Nothing is sent anywhere.

With --from-ollama, PATH are names of Ollama models, like llama3:8b; without any,
all of them are imported.
"""
_EPILOG = """\b
Examples:
  cloister import model.gguf --sha256 9f86d081884c7d65...
  cloister import /mnt/usb/models --dry-run
  cloister import ~/.lmstudio/models
  cloister import --from-ollama
"""
_EXIT_FAILED: Final = 1
_FATAL: Final = (DiskFull, StoreBusy, StoreUnwritable)
"""After these the other models would fail in the same way."""

_STATES: Final = {
    "imported": "imported",
    "there": "already there",
    "planned": "would import",
    "failed": "failed",
}


class _Outcome(Struct, frozen=True):
    """What became of one model; `state` is a key of `_STATES`."""

    planned: Planned
    state: str
    admitted: Admitted | None = None
    error: StoreError | None = None


@click.command(
    "import",
    help=_HELP,
    epilog=_EPILOG,
    short_help="Take models from this machine's disks into the store.",
)
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option(
    "--sha256", metavar="HEX", help="The file's SHA-256; anything else is kept out."
)
@click.option(
    "--as",
    "target",
    metavar="PUBLISHER/NAME",
    help="Store it in this folder.  [what the source's folders tell, else local/NAME]",
)
@click.option("--copy", "mode", flag_value="copy", help="Copy the files.")
@click.option(
    "--move", "mode", flag_value="move", help="Move them; removed last, if all is well."
)
@click.option(
    "--link", "mode", flag_value="hardlink", help="Hard link: no space, same disk."
)
@click.option(
    "--symlink", "mode", flag_value="symlink", help="Refer to where they lie."
)
@click.option(
    "--from-ollama",
    is_flag=False,
    flag_value="",
    metavar="[DIR]",
    help="Import from Ollama's models folder.  [OLLAMA_MODELS or the usual places]",
)
@click.option("--dry-run", is_flag=True, help="Say what would happen; touch nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@click.pass_context
def import_command(  # noqa: PLR0913 - one for each option
    ctx: click.Context,
    *,
    paths: tuple[str, ...],
    sha256: str | None,
    target: str | None,
    mode: str | None,
    from_ollama: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Import models; the help text is `_HELP`."""
    if not paths and from_ollama is None:
        raise click.UsageError(
            "Name a GGUF file or a folder, e.g. cloister import model.gguf", ctx
        )
    store = Store(home_of(ctx))
    try:
        wish = _read_wish(sha256, target, mode)
        plan = _make_plan(store, paths, from_ollama, wish)
        outcomes = _carry_out(store, plan, dry_run=dry_run, quiet=quiet or as_json)
    except StoreError as error:
        if not as_json:
            raise
        _print_json({"models": [], "notes": [], "error": _describe_error(error)})
        return _EXIT_FAILED
    if as_json:
        _print_json(_describe(store, plan, outcomes))
    else:
        _tell(store, plan, outcomes)
    failed = any(each.state == "failed" for each in outcomes)
    return _EXIT_FAILED if failed else 0


def _read_wish(sha256: str | None, target: str | None, mode: str | None) -> Wish:
    modes: dict[str | None, Mode] = {each: each for each in get_args(Mode)}
    try:
        return Wish(
            sha256=None if sha256 is None else parse_sha256(sha256),
            target=None if target is None else parse_target(target),
            mode=modes.get(mode),
        )
    except (BadDigest, BadTarget) as error:
        raise click.UsageError(error.message) from error


def _make_plan(
    store: Store, paths: Sequence[str], from_ollama: str | None, wish: Wish
) -> Plan:
    if from_ollama is None:
        return plan_sideload(store, [Path(path) for path in paths], wish)
    folder = Path(from_ollama) if from_ollama else ollama.find_folder(os.environ)
    return plan_ollama(store, folder, paths, wish)


def _carry_out(
    store: Store, plan: Plan, *, dry_run: bool, quiet: bool
) -> list[_Outcome]:
    """Import one model after the other; a bad one does not stop the next."""
    outcomes: list[_Outcome] = []
    room = _count_free(store)
    if not dry_run:
        store.create()
    for number, planned in enumerate(plan.models, 1):
        label = printable(planned.files[0].name)
        if len(plan.models) > 1:
            label = f"{number}/{len(plan.models)} {label}"
        try:
            if dry_run:
                outcomes.append(_foresee(store, planned, room))
                if outcomes[-1].state == "planned":
                    room -= planned.copy_bytes
            else:
                outcomes.append(_import(store, planned, label, quiet=quiet))
        except StoreError as error:
            outcomes.append(_Outcome(planned, "failed", error=error))
            if isinstance(error, _FATAL):
                break
    return outcomes


def _foresee(store: Store, planned: Planned, free_bytes: int) -> _Outcome:
    known = find_there(store, planned)
    if known is not None:
        return _Outcome(planned, "there", known)
    check_headers(planned)
    if planned.copy_bytes > free_bytes:
        raise DiskFull(
            planned.files[0].path,
            needed_bytes=planned.copy_bytes,
            free_bytes=free_bytes,
        )
    return _Outcome(planned, "planned")


def _import(store: Store, planned: Planned, label: str, *, quiet: bool) -> _Outcome:
    work = count_work(store, planned)
    if not work or find_there(store, planned) is not None:
        admitted = import_model(store, planned)
    else:
        with Bar(label, work, quiet=quiet) as bar:
            admitted = import_model(store, planned, bar.advance)
    return _Outcome(planned, "there" if admitted.was_there else "imported", admitted)


def _count_free(store: Store) -> int:
    """Count the free bytes where the store is or will be."""
    for place in (store.models_dir, *store.models_dir.parents):
        if place.exists():
            return shutil.disk_usage(place).free
    return 0


def _tell(store: Store, plan: Plan, outcomes: Sequence[_Outcome]) -> None:
    for note in plan.notes:
        click.echo(f"Note: {note}", err=True)
    for outcome in outcomes:
        planned, admitted = outcome.planned, outcome.admitted
        for note in (*planned.notes, *(admitted.notes if admitted else ())):
            click.echo(f"Note: {note}", err=True)
        if outcome.error is not None:
            click.echo(f"cloister: {outcome.error.message}", err=True)
        else:
            click.echo(_tell_outcome(store, outcome))
    left = len(plan.models) - len(outcomes)
    if left:
        click.echo(f"cloister: {left} more models were not tried.", err=True)
    if any(each.state == "planned" for each in outcomes):
        copied = sum(e.planned.copy_bytes for e in outcomes if e.state == "planned")
        free = format_bytes(_count_free(store))
        click.echo(f"{format_bytes(copied)} would be copied; {free} are free.")


def _tell_outcome(store: Store, outcome: _Outcome) -> str:
    planned, admitted = outcome.planned, outcome.admitted
    size = format_bytes(planned.size_bytes)
    if admitted is None:
        file = planned.files[0]
        expected = f", to be verified against {file.expected_by}"
        return (
            f"{_STATES[outcome.state]}: {planned.target}/{file.name}{_more(planned)} "
            f"({size}, by {file.how}{expected if file.expected_by else ''})"
        )
    path = admitted.paths[0]
    shown = printable(str(path.relative_to(store.models_dir)))
    by = sorted({r.verified_against for r in admitted.records if r.verified_against})
    verified = f"verified against {', '.join(by)}" if by else "nothing to compare with"
    return (
        f"{_STATES[outcome.state]}: {shown}{_more(planned)} "
        f"({size}, SHA-256 {admitted.records[0].sha256}, {verified})"
    )


def _more(planned: Planned) -> str:
    count = len(planned.files) - 1
    return f" and {count} more" if count else ""


def _describe(store: Store, plan: Plan, outcomes: Sequence[_Outcome]) -> object:
    return {
        "models": [_describe_outcome(each) for each in outcomes],
        "not_tried": len(plan.models) - len(outcomes),
        "models_dir": str(store.models_dir),
        "free_bytes": _count_free(store),
        "notes": list(plan.notes),
    }


def _describe_outcome(outcome: _Outcome) -> object:
    planned, admitted = outcome.planned, outcome.admitted
    files = [
        {
            "name": file.name,
            "source": printable(str(file.path)),
            "how": file.how,
            "expected_sha256": file.expected_sha256,
            "expected_by": file.expected_by,
        }
        for file in planned.files
    ]
    if admitted is not None:
        stored = zip(files, admitted.paths, admitted.records, strict=True)
        for described, path, record in stored:
            described["path"] = str(path)
            described["sha256"] = record.sha256
            described["verified_against"] = record.verified_against
            described["how"] = record.linked
    return {
        "state": _STATES[outcome.state],
        "target": str(planned.target),
        "size_bytes": planned.size_bytes,
        "copy_bytes": planned.copy_bytes,
        "files": files,
        "notes": [*planned.notes, *(admitted.notes if admitted else ())],
        "error": None if outcome.error is None else _describe_error(outcome.error),
    }


def _describe_error(error: StoreError) -> object:
    return {"code": error.code, "message": error.message, "hint": error.hint}


def _print_json(document: object) -> None:
    click.echo(json.dumps(document, indent=1, ensure_ascii=True))

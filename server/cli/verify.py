"""`cloister verify`: compare the bytes of models with what is known of them."""

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
from msgspec.structs import asdict

from model_store.chunks import tell_ranges
from model_store.errors import StoreUnwritable
from model_store.inventory import find_model
from model_store.names import printable
from model_store.quarantine import is_ours
from model_store.scan import Scan, scan_directories
from model_store.verify import (
    FileCheck,
    Verdict,
    check_quickly,
    has_reference,
    verify_file,
)
from server.cli.known_models import (
    KnownModels,
    open_models,
    place_options,
    print_json,
    print_notes,
)
from server.cli.progress import Bar

_HELP = """Read models again and compare every byte with what was recorded.

A file without a record is compared with a SHA256SUMS beside it; where there is
none either, it is called "not verified", which is no failure. A damaged file of
the store is quarantined: it is not served and not deleted. A file that is found
sound again is released. Files in other folders are only read.
"""
_EPILOG = """\b
Examples:
  cloister verify qwen2.5-0.5b-instruct
  cloister verify --all --quick

\b
Exit code 1 means that a file is damaged, changed, unreadable or gone; each is
named. Mend a damaged one by: cloister repair MODEL --from PATH
"""


@click.command(
    "verify", help=_HELP, epilog=_EPILOG, short_help="Compare models with records."
)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--all", "take_all", is_flag=True, help="Verify every file there is.")
@click.option("--quick", is_flag=True, help="Compare size and modification time only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@place_options
def verify_command(
    models: tuple[str, ...],
    *,
    take_all: bool,
    quick: bool,
    as_json: bool,
    **places: object,
) -> int:
    """Verify files; the help text is `_HELP`."""
    if take_all == bool(models):
        raise click.UsageError("Name models, or use --all; one of the two.")
    known = open_models(places)
    scan = scan_directories(known.directories) if take_all else Scan((), ())
    paths = _choose(known, models, scan)
    checks: list[FileCheck] = []
    try:
        _run(known, paths, checks, quick=quick, silent=as_json)
    finally:
        # After Ctrl-C as well: what was found until then.
        checks += _list_lost(known, scan)
        _report(known, checks, scan.notes, as_json=as_json)
    return 1 if scan.notes or any(check.is_failure for check in checks) else 0


def _choose(known: KnownModels, names: Sequence[str], scan: Scan) -> list[Path]:
    paths = [file.path for file in scan.files]
    for name in names:
        model = find_model(known.catalog, name)
        paths += [*model.paths, *model.projectors]
    return list(dict.fromkeys(paths))


def _run(
    known: KnownModels,
    paths: Sequence[Path],
    checks: list[FileCheck],
    *,
    quick: bool,
    silent: bool,
) -> None:
    """Check the files in order and append what was found."""
    if quick:
        checks += [check_quickly(path) for path in paths]
        return
    total_bytes = sum(_measure(path) for path in paths if has_reference(path))
    quiet = silent or not total_bytes
    with Bar("verifying", total_bytes, quiet=quiet) as bar:
        for path in paths:
            checks.append(verify_file(path, store=known.store, progress=bar.advance))


def _measure(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _list_lost(known: KnownModels, scan: Scan) -> list[FileCheck]:
    """List files that have a record and are gone.

    An import writes the record a moment before the file, both under the lock:
    who has had the lock since the scan sees the file.
    """
    if any(is_ours(known.store, path) for path in scan.lost):
        with contextlib.suppress(StoreUnwritable), known.store.exclusive():
            pass
    lost = [path for path in scan.lost if not path.exists()]
    return [
        FileCheck(
            path=path,
            verdict=Verdict.MISSING,
            reason=f"it is gone, and its record '{path.name}.record.json' is there; "
            "import the file again, or remove the record",
        )
        for path in lost
    ]


def _report(
    known: KnownModels,
    checks: Sequence[FileCheck],
    notes: Sequence[str],
    *,
    as_json: bool,
) -> None:
    owners = {
        path: model.id
        for model in known.catalog.entries()
        for path in (*model.paths, *model.projectors)
    }
    counts = Counter(check.verdict.value for check in checks)
    if as_json:
        is_ok = not notes and not any(check.is_failure for check in checks)
        rows = [asdict(each) | {"model": owners.get(each.path)} for each in checks]
        print_json({"ok": is_ok, "counts": counts, "files": rows, "notes": notes})
        return
    for check in checks:
        click.echo(_describe(check, owners.get(check.path)))
    print_notes(notes)
    told = ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
    click.echo(f"{len(checks)} files: {told or 'nothing to verify'}")


def _describe(check: FileCheck, model: str | None) -> str:
    """Write one line about a file: what it is, why, and what to do."""
    head = f"{check.verdict.value:<12}  {printable(str(check.path))}"
    reason = printable(check.reason)
    if check.verdict is Verdict.SOUND:
        how = f"as in {check.compared_with}"
        what = "SHA-256" if check.sha256 is not None else "size and time"
        released = "; released from quarantine" if check.quarantine == "lifted" else ""
        return f"{head}: {what} {how}{released}"
    if check.verdict is Verdict.DAMAGED:
        ranges = tell_ranges(check.bad_ranges)
        numbers = ", ".join(str(chunk) for chunk in check.bad_chunks[:8])
        more = ", …" if len(check.bad_chunks) > 8 else ""  # noqa: PLR2004 - as above
        where = f"; bad are {ranges} (chunk {numbers}{more})" if ranges else ""
        mark = {"set": "; quarantined", "kept": "; still quarantined"}
        aside = mark.get(check.quarantine or "", "")
        step = f"; next: cloister repair {model} --from PATH" if aside and model else ""
        return f"{head}: {reason}{where}{aside}{step}"
    if check.verdict is Verdict.CHANGED and check.compared_with is not None:
        return f"{head}: {reason}; next: cloister verify {model or '--all'}"
    return f"{head}: {reason}"

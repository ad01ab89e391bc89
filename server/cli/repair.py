"""`cloister repair`: rewrite the bad bytes of a damaged model."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from model_store.chunks import tell_ranges
from model_store.digest import Progress
from model_store.good_copy import GoodCopyMissing, OpenCopies, copies_in, copies_on_hub
from model_store.inventory import find_model
from model_store.names import printable
from model_store.quarantine import ranges_of
from model_store.record import damage_path
from model_store.repair import Repaired, Watch, repair_file
from model_store.sizes import format_bytes
from server.cli.known_models import open_models, place_options, print_json
from server.cli.network import require_network
from server.cli.progress import Bar

_HELP = """Rewrite the bad bytes of a damaged model from a good copy.

Only the parts of 4 MiB that are bad are read from the copy. Each is compared
with its recorded SHA-256 before it is written, and the whole file afterwards;
only then it is served again. Interrupted at any moment, the file stays in
quarantine and can be repaired once more.
"""
_EPILOG = """\b
Examples:
  cloister repair tiny --from /media/usb/models
  cloister repair tiny --from publisher/repository

\b
The second asks a hub for these bytes alone, and is refused when
CLOISTER_OFFLINE, or offline in cloister.toml, is set.
"""


@click.command(
    "repair", help=_HELP, epilog=_EPILOG, short_help="Rewrite a model's bad bytes."
)
@click.argument("model")
@click.option(
    "--from",
    "origin",
    required=True,
    metavar="PATH_OR_REPO",
    help="A file, a folder that holds it, or publisher/name of a hub.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@place_options
def repair_command(model: str, origin: str, *, as_json: bool, **places: object) -> int:
    """Repair a model; the help text is `_HELP`."""
    known = open_models(places)
    found = find_model(known.catalog, model)
    files = (*found.paths, *found.projectors)
    marked = [path for path in files if damage_path(path).exists()]
    copies = choose_copies(origin)
    watch = _watch(quiet=as_json)
    done = [
        repair_file(known.store, path, copies, watch=watch)
        for path in marked or found.paths
    ]
    _report(done, as_json=as_json)
    return 0


def choose_copies(origin: str) -> OpenCopies:
    """Tell a path from a repository: what exists here is a path.

    Raises:
        GoodCopyMissing: It is neither.
        BadHubSetting: It is a repository, and the settings are offline.
    """
    path = Path(origin).expanduser()
    if path.exists():
        return copies_in(path)
    if origin.count("/") < 1 or origin.startswith(("/", ".", "~")):
        raise GoodCopyMissing(
            f"There is no file or folder '{printable(origin)}'. {GoodCopyMissing.hint}",
            path=path,
            reason="there is no such file or folder",
        )
    require_network()
    return copies_on_hub(origin, os.environ)


def _watch(*, quiet: bool) -> Watch:
    @contextmanager
    def watch(label: str, total_bytes: int) -> Iterator[Progress]:
        with Bar(label, total_bytes, quiet=quiet or not total_bytes) as bar:
            yield bar.advance

    return watch


def _report(done: Sequence[Repaired], *, as_json: bool) -> None:
    if as_json:
        print_json({"ok": True, "files": done})
        return
    for each in done:
        name = printable(str(each.path))
        if not each.bad_chunks and not each.cut_bytes:
            click.echo(f"{name}: nothing was bad; SHA-256 {each.sha256} as recorded")
            continue
        ranges = tell_ranges(ranges_of(each.path, each.bad_chunks))
        wrote = f"{format_bytes(each.written_bytes)} written" if ranges else ""
        where = f" ({ranges})" if ranges else ""
        cut = f"{format_bytes(each.cut_bytes)} cut off" if each.cut_bytes else ""
        told = ", ".join(part for part in (wrote + where, cut) if part)
        click.echo(f"{name}: {told}; SHA-256 {each.sha256} as recorded; served again")

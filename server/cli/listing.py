"""`cloister ls`, `show`, `rm` and `du`: look at models and keep them tidy."""

import sys
from collections.abc import Iterable, Sequence

import click
import msgspec

from model_store.errors import NotInStore
from model_store.good_copy import tell_source
from model_store.inventory import (
    FileFacts,
    ModelDetails,
    ModelFacts,
    find_model,
    list_models,
    measure_usage,
    read_details,
)
from model_store.names import printable
from model_store.removal import Removal, plan_removal, remove_model
from model_store.sizes import format_bytes
from server.cli.known_models import (
    KnownModels,
    open_models,
    place_options,
    print_json,
    print_notes,
)
from server.cli.memory_need import MemoryNeed, estimate_need

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_DASH = "-"


@click.command("ls", short_help="List the models.")
@click.option("--long", is_flag=True, help="Also tell source, digest and place.")
@_json
@place_options
def ls_command(*, long: bool, as_json: bool, **places: object) -> int:
    """List the models of the store and of the models folders.

    CHECKED says whether there is a record to be verified against, not that the
    bytes were read again: that is `cloister verify`.
    """
    known = open_models(places)
    models = list_models(known.catalog, known.store)
    details = [_details(known, model) for model in models] if long else []
    if as_json:
        rows = [_as_row(each) for each in details] if long else models
        print_json({"models": rows, "notes": known.catalog.notes()})
        return 0
    print_notes(known.catalog.notes())
    if not models:
        click.echo(
            "There is no model yet. Import one by `cloister import FILE.gguf`.",
            err=True,
        )
        return 0
    if long:
        table = [
            (*_list_row(model), *_long_cells(each))
            for model, each in zip(models, details, strict=True)
        ]
        _print_table((*_HEADER, *_LONG_HEADER), table)
    else:
        _print_table(_HEADER, [_list_row(model) for model in models])
    for model in models:
        if model.reason:
            click.echo(f"{model.id}: {model.reason}", err=True)
    return 0


@click.command("show", short_help="Tell all that is known of a model.")
@click.argument("model")
@_json
@place_options
def show_command(model: str, *, as_json: bool, **places: object) -> int:
    """Tell all that is known of a model without loading it."""
    known = open_models(places)
    found = find_model(known.catalog, model)
    details = read_details(found, known.store)
    need = None
    if found.summary is not None:
        need = estimate_need(found.summary, found.id, known.settings)
    if as_json:
        print_json(_as_row(details) | {"memory": need})
        return 0
    for name, value in _list_details(details, need):
        click.echo(f"{name:<16}{value}")
    return 0


@click.command("rm", short_help="Remove a model from the store.")
@click.argument("model")
@click.option("--yes", is_flag=True, help="Do not ask.")
@place_options
def rm_command(model: str, *, yes: bool, **places: object) -> int:
    """Remove a model from the store, with its records.

    Models in other folders are never removed. A server that has the model
    loaded goes on with it until it is unloaded.
    """
    known = open_models(places)
    planned = plan_removal(known.catalog, known.store, model)
    if not yes and not sys.stdin.isatty():
        raise click.UsageError(
            "There is no terminal to ask on. Add --yes to remove "
            f"{_tell_removal(planned)}."
        )
    if not yes and not click.confirm(f"Remove {_tell_removal(planned)}?", err=True):
        click.echo("Nothing was removed.", err=True)
        return 1
    removed = remove_model(known.catalog, known.store, planned)
    click.echo(f"Removed {_tell_removal(removed)}.")
    for path in removed.kept:
        click.echo(f"Kept for another model: {printable(str(path))}")
    return 0


@click.command("du", short_help="Tell what the models take on the disk.")
@_json
@place_options
def du_command(*, as_json: bool, **places: object) -> int:
    """Tell what models and folders take on their disks.

    Bytes that several names share count once; what a symbolic link leads to
    does not count, because removing the link would not free it.
    """
    known = open_models(places)
    usage = measure_usage(known.catalog, known.directories, known.store)
    if as_json:
        print_json(usage)
        return 0
    rows = [
        (each.id, format_bytes(each.size_bytes), format_bytes(each.disk_bytes))
        for each in usage.models
    ]
    _print_table(("MODEL", "SIZE", "ON DISK"), rows)
    for each in usage.directories:
        click.echo(
            f"{printable(str(each.path))}: models {format_bytes(each.model_bytes)}, "
            f"unfinished {format_bytes(each.unfinished_bytes)}, other files "
            f"{format_bytes(each.other_bytes)}; {format_bytes(each.free_bytes)} free"
        )
    return 0


def format_count(number: int | None) -> str:
    """Write a count of parameters as models are named: "7.6B", "494M"."""
    if number is None:
        return _DASH
    for size, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        # What would be rounded up to 1000 is 1 of the next unit.
        if number >= size * 0.9995:
            return f"{number / size:.3g}{unit}"
    return str(number)


_HEADER = (
    "MODEL",
    "KIND",
    "PARAMETERS",
    "QUANT",
    "CONTEXT",
    "SIZE",
    "CHECKED",
    "STATE",
)
_LONG_HEADER = ("SHA-256", "VERIFIED", "SOURCE", "FILE")


def _list_row(model: ModelFacts) -> tuple[str, ...]:
    return (
        model.id,
        model.kind or _DASH,
        format_count(model.n_params),
        model.quantization or _DASH,
        str(model.n_ctx_train or _DASH),
        format_bytes(model.size_bytes),
        "recorded" if model.is_recorded else "not verified",
        model.state,
    )


def _details(known: KnownModels, model: ModelFacts) -> ModelDetails | None:
    """Read a listed model's details; None if its name is another's by now."""
    try:
        return read_details(find_model(known.catalog, model.id), known.store)
    except NotInStore:
        return None


def _long_cells(details: ModelDetails | None) -> tuple[str, ...]:
    if details is None:
        return (_DASH,) * 4
    first = details.files[0]
    place = printable(str(first.path))
    if first.record is None:
        return (_DASH, _DASH, _DASH, place)
    record = first.record
    return (
        record.sha256,
        record.verified_against or "nothing",
        tell_source(record.source),
        place,
    )


def _as_row(details: ModelDetails | None) -> dict[str, object]:
    """Flatten the facts; chunk digests are left out, they are many."""
    if details is None:
        return {}
    row = msgspec.structs.asdict(details)
    facts = msgspec.structs.asdict(row.pop("facts"))
    files = []
    for file in details.files:
        each = msgspec.structs.asdict(file)
        if file.record is not None:
            record = msgspec.structs.asdict(file.record)
            record.pop("chunks")
            each["record"] = record
        files.append(each)
    return facts | row | {"files": files}


def _list_details(
    details: ModelDetails, need: MemoryNeed | None
) -> Iterable[tuple[str, object]]:
    """Give the lines of `show`: name and value."""
    facts = details.facts
    yield "Model", facts.id
    yield "State", facts.state
    if facts.reason:
        yield "", facts.reason
    if details.name:
        yield "Name", printable(details.name)
    yield "Architecture", facts.architecture or "unknown"
    yield "Kind", facts.kind or "unknown"
    yield "Parameters", format_count(facts.n_params)
    yield "Quantisation", facts.quantization or "unknown"
    yield "Context", f"{facts.n_ctx_train or 'unknown'} tokens"
    yield "Layers", details.n_layer or _DASH
    heads = f"{details.n_head}, of keys and values {details.n_head_kv}"
    yield "Heads", _DASH if details.n_head is None else heads
    yield "Embedding", details.n_embd or _DASH
    yield "Vocabulary", details.n_vocab or _DASH
    if details.n_expert:
        yield "Experts", details.n_expert
    template = details.template_sha256
    yield "Chat template", f"SHA-256 {template}" if template else "none"
    yield "Licence", printable(details.licence or "not stated")
    yield "Size", format_bytes(facts.size_bytes)
    if need is not None:
        yield "Memory", need.tell()
    yield "Aliases", ", ".join(facts.aliases)
    for file in details.files:
        yield from _list_file(file)


def _list_file(file: FileFacts) -> Iterable[tuple[str, object]]:
    yield "File", printable(str(file.path))
    if file.quarantined_since is not None:
        yield "  quarantined", f"since {file.quarantined_since}"
    record = file.record
    if record is None:
        yield "  record", printable(file.record_error or "none: not verified")
        return
    yield "  SHA-256", record.sha256
    yield "  source", tell_source(record.source)
    against = record.verified_against
    told = f"against {against}" if against else "nothing to compare with"
    yield "  admitted", f"{record.admitted_at}, {printable(told)}, by {record.linked}"


def _tell_removal(removal: Removal) -> str:
    files = "1 file" if len(removal.files) == 1 else f"{len(removal.files)} files"
    return f"{removal.model_id} ({files}, {format_bytes(removal.freed_bytes)} freed)"


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = [header, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())

"""Plans the import of files that lie on this machine, and carries it out.

A plan looks only at names, sizes, lists of checksums and, where nothing is
announced, at headers, so it is quick and can be shown beforehand. All bytes
are judged later by `admission`.

    PATH…  →  models: shards together, projectors with theirs
           →  who it is: --as, folders of other programs, publisher/repository
           →  what is announced: --sha256, NAME.sha256, SHA256SUMS, a blob's name
           →  how: as asked; links for files that other programs own, else a copy
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from model_store import ollama
from model_store.admission import (
    Admitted,
    Incoming,
    Target,
    admit,
    count_bytes,
    find_known,
)
from model_store.announced import Announced
from model_store.collect import Cluster, collect
from model_store.digest import Progress
from model_store.elsewhere import find_elsewhere
from model_store.errors import BadSource, CannotLink, StoreError
from model_store.gguf import read_header
from model_store.intake import stat_incoming
from model_store.layout import Store
from model_store.names import printable
from model_store.record import Source, write_sums
from model_store.wishes import (
    LOCAL,
    Mode,
    Wish,
    choose_digest,
    choose_how,
    choose_target,
    make_name,
    tell_disagreement,
    tell_stored_origin,
)

__all__ = [
    "Mode",
    "Plan",
    "Planned",
    "Wish",
    "check_headers",
    "count_work",
    "find_there",
    "import_model",
    "plan_ollama",
    "plan_sideload",
]


class Planned(Struct, frozen=True):
    """One model that can be imported.

    `size_bytes` sums over `files`, of which `copy_bytes` will be copied.
    `may_symlink` allows a symlink where a hard link is refused. `has_name` if
    the user or the source's folders chose the target. `error` is why it
    cannot be imported, as far as names tell.
    """

    files: tuple[Incoming, ...]
    target: Target
    source: Source
    size_bytes: int
    copy_bytes: int
    may_symlink: bool = False
    has_name: bool = False
    error: StoreError | None = None
    notes: tuple[str, ...] = ()


class Plan(Struct, frozen=True):
    """All models of one import, and sentences for the user."""

    models: tuple[Planned, ...]
    notes: tuple[str, ...]


def plan_sideload(store: Store, paths: Sequence[Path], wish: Wish) -> Plan:
    """Plan the import of files and folders.

    Args:
        store: Is only looked at.
        paths: Files, folders, or folders of Ollama.
        wish: What the user asked for.

    Raises:
        BadSource: A folder has no model, or one digest was given for several
            files.
        BadSums: A list of checksums beside a file cannot be understood.
        UnreadableFile: A path is not there.
    """
    folders = [path for path in paths if ollama.is_folder(path)]
    others = [path for path in paths if path not in folders]
    plans = [plan_ollama(store, folder, (), wish) for folder in folders]
    if others:
        collected = collect(others)
        clusters = collected.clusters
        _check_single(
            wish,
            [path for cluster in clusters for path in cluster.files],
            n_models=len(clusters) + sum(len(plan.models) for plan in plans),
        )
        models = tuple(_plan_cluster(store, each, wish) for each in clusters)
        plans.append(Plan(models=models, notes=collected.notes))
    return Plan(
        models=tuple(model for plan in plans for model in plan.models),
        notes=tuple(note for plan in plans for note in plan.notes),
    )


def plan_ollama(store: Store, folder: Path, names: Sequence[str], wish: Wish) -> Plan:
    """Plan the import of an Ollama folder's models.

    Args:
        store: Is only looked at.
        folder: Holds `manifests` and `blobs`.
        names: Only these, as NAME or NAME:TAG; none mean all.
        wish: What the user asked for.

    Raises:
        BadSource: See `ollama.list_models`; or no model has a GGUF file; or
            one digest was given for several files.
        UnreadableFile: A blob is not there.
    """
    found = ollama.list_models(folder, names)
    models = [model for model in found if model.files]
    if not models:
        raise BadSource(
            folder, "none of its models is a GGUF file", "Name another folder."
        )
    _check_single(
        wish,
        [file.blob for model in models for file in model.files],
        n_models=len(models),
    )
    location = printable(os.path.abspath(folder))  # noqa: PTH100 - links stay
    return Plan(
        models=tuple(_plan_tag(store, model, location, wish) for model in models),
        notes=tuple(model.note for model in found if model.note is not None),
    )


def find_there(store: Store, planned: Planned) -> Admitted | None:
    """Tell whether the store has a planned model, without hashing anything.

    Where nothing tells its name it may be in any folder. A move counts
    only if the stored file is the very same one.

    Raises:
        BadTarget: The target cannot be used.
        UnreadableFile: A file is not there.
    """
    if planned.error is not None:
        return None
    known = find_known(store, planned.files, planned.target, planned.source)
    is_move = any(file.how == "move" for file in planned.files)
    if known is None and not planned.has_name and not is_move:
        known = find_elsewhere(store, planned.files, planned.source)
    return known


def check_headers(planned: Planned) -> None:
    """Refuse what is plainly no GGUF file, before it is copied.

    Headers are read only where no digest was announced: else a wrong digest
    is the better answer.

    Raises:
        BadGguf: A header cannot be used.
        UnreadableFile: A file cannot be read.
        StoreError: What planning found.
    """
    if planned.error is not None:
        raise planned.error
    for file in planned.files:
        if file.expected_sha256 is None:
            read_header(file.path)


def count_work(store: Store, planned: Planned) -> int:
    """Sum up the bytes that `import_model` will read.

    Raises:
        UnreadableFile: A file is not there.
    """
    return count_bytes(store, planned.files, planned.target, planned.source)


def import_model(
    store: Store, planned: Planned, progress: Progress | None = None
) -> Admitted:
    """Import one model, all of its files or none.

    Raises:
        StoreError: See `admission.admit`.
    """
    known = find_there(store, planned)
    if known is not None:
        _tidy(store, known)
        # A move whose file is in the store already is completed by `admit`.
        if not any(file.how == "move" for file in planned.files):
            return known
    check_headers(planned)
    try:
        return _admit(store, planned, planned.files, progress)
    except CannotLink:
        if not planned.may_symlink:
            raise
    files = [
        msgspec.structs.replace(file, how="symlink") if file.how == "hardlink" else file
        for file in planned.files
    ]
    return _admit(store, planned, files, progress)


def _admit(
    store: Store,
    planned: Planned,
    files: Sequence[Incoming],
    progress: Progress | None,
) -> Admitted:
    with store.staging() as staging:
        return admit(
            store, staging, files, planned.target, planned.source, progress=progress
        )


def _tidy(store: Store, known: Admitted) -> None:
    """Do what an import that was killed at its very end could not do."""
    with contextlib.suppress(StoreError):
        store.create()
        with store.exclusive():
            for folder in {path.parent for path in known.paths}:
                write_sums(folder)


def _check_single(wish: Wish, files: Sequence[Path], *, n_models: int) -> None:
    if wish.sha256 is None or (n_models == 1 and len(files) == 1):
        return
    raise BadSource(
        files[0],
        f"--sha256 is for one file, and here are {len(files)} files of {n_models} "
        "models",
        "Name a single file, or put the digests of all into a file SHA256SUMS beside "
        "them.",
    )


def _plan_cluster(store: Store, cluster: Cluster, wish: Wish) -> Planned:
    first = cluster.files[0]
    origin = tell_stored_origin(store, first, cluster.root)
    notes: list[str] = []
    incoming = []
    for path in cluster.files:
        announced, note = choose_digest(path, cluster.root, wish)
        notes += note
        incoming.append(
            Incoming(
                path=path,
                name=make_name(path.name),
                expected_sha256=None if announced is None else announced.sha256,
                expected_by=None if announced is None else announced.by,
                how=choose_how(store, path, wish, is_shared=origin.is_shared),
                source_file=printable(os.path.relpath(path, first.parent)),
            )
        )
    source = Source(
        kind="sideload",
        location=printable(str(first.parent)),
        revision=origin.revision,
    )
    target = choose_target(wish, origin.publisher, origin.repository, first.name)
    planned = _planned(incoming, target, source, wish, tuple(notes))
    return msgspec.structs.replace(planned, error=cluster.error)


def _plan_tag(
    store: Store, model: ollama.OllamaModel, location: str, wish: Wish
) -> Planned:
    announced = None if wish.sha256 is None else Announced(wish.sha256, "--sha256")
    notes: list[str] = []
    incoming = []
    for file in model.files:
        expected = announced or Announced(file.sha256, "ollama")
        notes += tell_disagreement(
            file.blob, expected, Announced(file.sha256, "the manifest")
        )
        incoming.append(
            Incoming(
                path=file.blob,
                name=make_name(file.name),
                expected_sha256=expected.sha256,
                expected_by=expected.by,
                how=choose_how(store, file.blob, wish, is_shared=True),
                source_file=f"{model.name} ({file.blob.name})",
            )
        )
    source = Source(kind="ollama", location=location)
    target = choose_target(wish, model.publisher, model.repository, model.files[0].name)
    return _planned(incoming, target, source, wish, tuple(notes))


def _planned(
    files: Sequence[Incoming],
    target: Target,
    source: Source,
    wish: Wish,
    notes: tuple[str, ...],
) -> Planned:
    sizes = [stat_incoming(file).st_size for file in files]
    return Planned(
        files=tuple(files),
        target=target,
        source=source,
        size_bytes=sum(sizes),
        copy_bytes=sum(
            size for file, size in zip(files, sizes, strict=True) if file.how == "copy"
        ),
        may_symlink=wish.mode is None,
        has_name=target.publisher != LOCAL,
        notes=notes,
    )

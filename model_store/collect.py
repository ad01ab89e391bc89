"""Finds the models among the files and folders that a user names.

A model's shards and projectors are found together, also if only one shard is
named. A projector that lies beside a named file is told of, not taken.
"""

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from model_store.errors import BadGguf, BadSource, StoreError, UnreadableFile
from model_store.gguf import read_header
from model_store.grouping import ModelFiles, group_files, tell_missing
from model_store.names import (
    is_gguf_name,
    is_projector_name,
    parse_file_name,
    printable,
)
from model_store.origin import choose_snapshots
from model_store.scan import FoundFile, scan_directories
from model_store.structure import list_shards
from model_store.summary import FileKind, tell_kind


class Cluster(Struct, frozen=True):
    """The files of one model and the folder below which they were found.

    `files` begin with the model's, in order; projectors follow. Paths are
    absolute, links in them are kept. `error` is set where shards are missing.
    """

    root: Path
    files: tuple[Path, ...]
    error: BadGguf | None = None


class Collected(Struct, frozen=True):
    """Models in the order in which they were named, and sentences about them."""

    clusters: tuple[Cluster, ...]
    notes: tuple[str, ...]


def collect(paths: Sequence[Path]) -> Collected:
    """Find the models among these files and folders.

    Raises:
        BadSource: A folder has no GGUF file.
        UnreadableFile: A path is not there or is neither file nor folder.
    """
    clusters: list[Cluster] = []
    notes: list[str] = []
    named: dict[Path, list[Path]] = {}
    for given in paths:
        path = _absolute(given)
        if path.is_dir():
            found = _collect_folder(path)
            clusters += found.clusters
            notes += found.notes
        else:
            _check_file(path)
            named.setdefault(path.parent, []).append(path)
    singles: list[Cluster] = []
    for folder, files in named.items():
        found = _collect_files(folder, files)
        singles += found.clusters
        notes += found.notes
    clusters += _join_projectors(singles)
    return Collected(clusters=_drop_repeated(clusters), notes=tuple(notes))


def _absolute(path: Path) -> Path:
    # Not resolve(): the names of links tell what a file is.
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - see above


def _check_file(path: Path) -> None:
    try:
        facts = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableFile(path, reason) from error
    if not stat.S_ISREG(facts.st_mode):
        raise UnreadableFile(path, "it is neither a file nor a folder")


def _collect_folder(root: Path) -> Collected:
    scan = scan_directories([root])
    files = choose_snapshots(scan.files)
    notes = list(scan.notes)
    if len(files) < len(scan.files):
        notes.append(
            f"{len(scan.files) - len(files)} files of older revisions in "
            f"'{printable(str(root))}' were left out; name their folder to import them."
        )
    if not files:
        raise BadSource(
            root,
            "no .gguf file lies in that folder",
            "Name a GGUF file or a folder that holds one.",
        )
    clusters, left = _cluster(root, group_files(files))
    return Collected(clusters=clusters, notes=(*notes, *left))


def _collect_files(folder: Path, named: Sequence[Path]) -> Collected:
    """Collect files that were named one by one, with the shards they need."""
    names = dict.fromkeys(path.name for path in named)
    for path in named:
        for shard in list_shards(parse_file_name(path.name)):
            if (folder / shard).is_file():
                names.setdefault(shard)
    groups = group_files([_look_at(folder / name) for name in sorted(names)])
    clusters, _ = _cluster(folder, groups)
    notes = []
    if not any(is_projector_name(name) for name in names):
        beside = []
        with contextlib.suppress(OSError):
            beside = sorted(
                entry.name
                for entry in folder.iterdir()
                if is_gguf_name(entry.name) and is_projector_name(entry.name)
            )
        if beside:
            notes.append(
                f"A projector lies beside: '{printable(beside[0])}'. Name it too to "
                "import it with the model."
            )
    return Collected(clusters=clusters, notes=tuple(notes))


def _look_at(path: Path) -> FoundFile:
    facts = path.stat()
    return FoundFile(
        root=0,
        relative=(path.name,),
        path=path,
        size_bytes=facts.st_size,
        mtime_ns=facts.st_mtime_ns,
        inode=facts.st_ino,
        device=facts.st_dev,
    )


def _cluster(
    root: Path, groups: Sequence[ModelFiles]
) -> tuple[tuple[Cluster, ...], tuple[str, ...]]:
    """Give every model its projectors; those of no model stand alone."""
    models = [group for group in groups if not _is_projector(group)]
    projectors = [group.path for group in groups if _is_projector(group)]
    clusters: list[Cluster] = []
    taken: set[Path] = set()
    for model in models:
        own = [path for path in projectors if path.parent in model.folders]
        taken.update(own)
        files = (*(file.path for file in model.files), *own)
        error = BadGguf(model.path, _tell_shards(model)) if model.missing else None
        clusters.append(Cluster(root=root, files=files, error=error))
    alone = [path for path in projectors if path not in taken]
    clusters += [Cluster(root=root, files=(path,)) for path in alone]
    notes = tuple(
        f"'{printable(str(path))}' is a projector; no model lies beside it."
        for path in alone
    )
    return tuple(clusters), notes


def _tell_shards(model: ModelFiles) -> str:
    return tell_missing(model).removesuffix(" Put them into the same folder.")[:-1]


def _is_projector(group: ModelFiles) -> bool:
    if is_projector_name(group.path.name):
        return True
    # What cannot be read is judged, and told, at admission.
    with contextlib.suppress(StoreError):
        return tell_kind(read_header(group.path)) is FileKind.PROJECTOR
    return False


def _join_projectors(clusters: list[Cluster]) -> list[Cluster]:
    """Give the only model that was named the projectors that were named."""
    models = [each for each in clusters if not is_projector_name(each.files[0].name)]
    others = [each for each in clusters if is_projector_name(each.files[0].name)]
    if len(models) != 1 or not others:
        return clusters
    files = (*models[0].files, *(path for each in others for path in each.files))
    return [msgspec.structs.replace(models[0], files=files)]


def _drop_repeated(clusters: Sequence[Cluster]) -> tuple[Cluster, ...]:
    seen: dict[tuple[Path, ...], Cluster] = {}
    for cluster in clusters:
        seen.setdefault(cluster.files, cluster)
    return tuple(seen.values())

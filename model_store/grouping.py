"""Puts files together into models: shards of one split file are one model.

The engine finds the shards by the first one's name, so all of them must lie
in one folder and be called `name-00001-of-00003.gguf`, `name-00002-of-…`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from model_store.errors import BadGguf
from model_store.names import FileName, parse_file_name, printable
from model_store.scan import FoundFile
from model_store.summary import GgufSummary, ShardSummary

_MAX_NAMED: Final = 8
_LAYOUT_DEPTH: Final = 2


class ModelFiles(Struct, frozen=True):
    """The files of one model, before any was opened.

    `files` are in the order of the shards; `missing` are the names of shards
    that are not there. `file_name` is printable and the first file's.
    `publisher` and `repository` are the first two folders below the models
    directory; with a single folder it is the repository.
    """

    name: FileName
    file_name: str
    publisher: str
    repository: str
    files: tuple[FoundFile, ...]
    missing: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Path of the first file that is there."""
        return self.files[0].path

    @property
    def folders(self) -> frozenset[Path]:
        """Folders whose projectors belong to this model.

        Repositories often keep a folder for each quantisation and the
        projector, which serves all of them, above those.
        """
        file = self.files[0]
        above = len(file.relative) - 1 - _LAYOUT_DEPTH
        if above <= 0:
            return frozenset({file.path.parent})
        return frozenset({file.path.parent, file.path.parents[above]})


def group_files(files: Sequence[FoundFile]) -> tuple[ModelFiles, ...]:
    """Group files into models, in the order of their first files.

    A model whose relative path already occurred under an earlier models
    directory is left out.
    """
    groups: dict[tuple[object, ...], list[FoundFile]] = {}
    for file in files:
        name = parse_file_name(file.relative[-1])
        split = (name.stem, name.shard[1]) if name.shard else (file.relative[-1], 0)
        groups.setdefault((file.relative[:-1], split), []).append(file)
    return tuple(
        _group([file for file in group if file.root == group[0].root])
        for group in groups.values()
    )


def tell_missing(model: ModelFiles) -> str:
    """Say which shards are missing and what to do."""
    count = len(model.files) + len(model.missing)
    named = ", ".join(f"'{printable(name)}'" for name in model.missing[:_MAX_NAMED])
    more = len(model.missing) - _MAX_NAMED
    if more > 0:
        named = f"{named} and {more} more"
    return (
        f"The model '{printable(str(model.path))}' is split into {count} files, of "
        f"which {len(model.missing)} are missing: {named}. Put them into the same "
        "folder."
    )


def check_split(
    name: FileName,
    paths: Sequence[Path],
    first: GgufSummary,
    shards: Sequence[ShardSummary],
) -> None:
    """Check that the parts of a model are what their names say.

    Args:
        name: The first part's.
        paths: Of all parts in order, for errors.
        first: What the first part's header says.
        shards: What the others' say.

    Raises:
        BadGguf: They are not, or have no tensors.
    """
    parts: list[GgufSummary | ShardSummary] = [first, *shards]
    for number, (path, shard) in enumerate(zip(paths, parts, strict=True)):
        if shard.split_count > 1 and name.shard is None:
            raise BadGguf(
                path,
                f"it says that it is part {shard.split_no + 1} of "
                f"{shard.split_count}, but its name does not end in "
                f"-{shard.split_no + 1:05}-of-{shard.split_count:05}.gguf",
            )
        if (shard.split_no, shard.split_count) != (number, len(paths)):
            raise BadGguf(
                path,
                f"its name says part {number + 1} of {len(paths)}, its header part "
                f"{shard.split_no + 1} of {shard.split_count}",
            )
    n_tensors = sum(each.n_tensors for each in parts)
    if n_tensors == 0:
        raise BadGguf(paths[0], "it has no tensors, so it holds no model")
    if first.split_tensors_count not in {None, n_tensors}:
        raise BadGguf(
            paths[0],
            f"it says that all parts together have {first.split_tensors_count} "
            f"tensors, but they have {n_tensors}",
        )


def _group(files: list[FoundFile]) -> ModelFiles:
    first = files[0]
    name = parse_file_name(first.relative[-1])
    missing: tuple[str, ...] = ()
    if name.shard is not None:
        count = name.shard[1]
        present = {file.relative[-1] for file in files}
        wanted = (
            f"{name.stem}-{number:05}-of-{count:05}.gguf"
            for number in range(1, count + 1)
        )
        missing = tuple(each for each in wanted if each not in present)
    folders = [printable(part) for part in first.relative[:-1]]
    return ModelFiles(
        name=name,
        file_name=printable(first.relative[-1]),
        publisher=folders[0] if len(folders) >= _LAYOUT_DEPTH else "",
        repository="".join(folders[:_LAYOUT_DEPTH][-1:]),
        files=tuple(files),
        missing=missing,
    )

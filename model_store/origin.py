"""Recognises folders of other programs by their path.

Files in them belong to those programs, so they are linked and not copied, and
their folders tell publisher and repository.

    …/.lmstudio/models/PUBLISHER/REPOSITORY/file.gguf          LM Studio
    …/models--ORG--NAME/snapshots/REVISION/file.gguf           Hugging Face cache
    …/models/manifests/HOST/NAMESPACE/MODEL/TAG                Ollama (`ollama`)

Source: the folders that LM Studio 0.4 makes; huggingface_hub's guide "Understand
caching", in whose `blobs` LFS files are named by their SHA-256.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from model_store.scan import FoundFile

HUB_CACHE: Final = "hub cache"
"""Who announced a digest that is the name of a blob."""

_LM_STUDIO: Final = frozenset({".lmstudio", "lmstudio", "lm-studio"})
_BLOB: Final = re.compile(r"[0-9a-f]{64}")
_LAYOUT_DEPTH: Final = 2


class Origin(Struct, frozen=True):
    """What a path tells about a model.

    Empty `publisher` and `repository` mean that it tells none. `is_shared`
    if another program owns the file and goes on using it.
    """

    publisher: str = ""
    repository: str = ""
    revision: str | None = None
    is_shared: bool = False


def tell_origin(file: Path, root: Path) -> Origin:
    """Tell where a file comes from.

    Args:
        file: Absolute path.
        root: Folder that the user named, or the named file's; below it
            publisher/repository/file is a layout.
    """
    for path in (file, Path(os.path.realpath(file))):
        found = _hugging_face(path.parts) or _lm_studio(path.parts)
        if found is not None:
            return found
    folders = file.relative_to(root).parts[:-1] if file.is_relative_to(root) else ()
    if len(folders) >= _LAYOUT_DEPTH:
        return Origin(publisher=folders[0], repository=folders[1])
    return Origin()


def tell_blob_digest(file: Path) -> str | None:
    """Read the digest by which the Hugging Face cache names a file's bytes."""
    real = Path(os.path.realpath(file))
    is_blob = real.parent.name == "blobs" and _BLOB.fullmatch(real.name) is not None
    return real.name if is_blob else None


def choose_snapshots(files: Sequence[FoundFile]) -> tuple[FoundFile, ...]:
    """Keep one revision of each repository of a Hugging Face cache.

    The one that `refs/main` names, else the newest; files that are no
    snapshots stay.
    """
    revisions: dict[Path, dict[str, int]] = {}
    for file in files:
        place = _split_snapshot(file.path)
        if place is not None:
            known = revisions.setdefault(place[0], {})
            known[place[1]] = max(known.get(place[1], 0), file.mtime_ns)
    chosen = {
        repository: _choose(repository, known)
        for repository, known in revisions.items()
    }
    return tuple(
        file
        for file in files
        if (place := _split_snapshot(file.path)) is None or chosen[place[0]] == place[1]
    )


def _choose(repository: Path, revisions: dict[str, int]) -> str:
    try:
        main = (repository / "refs" / "main").read_text("ascii", "replace").strip()
    except OSError:
        main = ""
    if main in revisions:
        return main
    return max(revisions, key=lambda revision: (revisions[revision], revision))


def _find_snapshot(parts: Sequence[str]) -> int | None:
    """Find the index of "models--…" in …/models--…/snapshots/REVISION/…/file."""
    for index in range(len(parts) - 4, -1, -1):
        if parts[index].startswith("models--") and parts[index + 1] == "snapshots":
            return index
    return None


def _split_snapshot(path: Path) -> tuple[Path, str] | None:
    index = _find_snapshot(path.parts)
    if index is None:
        return None
    return Path(*path.parts[: index + 1]), path.parts[index + 2]


def _hugging_face(parts: Sequence[str]) -> Origin | None:
    index = _find_snapshot(parts)
    if index is None:
        return None
    publisher, _, repository = parts[index].removeprefix("models--").rpartition("--")
    return Origin(
        publisher=publisher or "huggingface",
        repository=repository,
        revision=parts[index + 2],
        is_shared=True,
    )


def _lm_studio(parts: Sequence[str]) -> Origin | None:
    for index in range(len(parts) - 2):
        if parts[index].lower() in _LM_STUDIO and parts[index + 1] == "models":
            below = parts[index + 2 : -1]
            if len(below) >= _LAYOUT_DEPTH:
                return Origin(publisher=below[0], repository=below[1], is_shared=True)
            return Origin(is_shared=True)
    return None

"""What the user asked for, held against what the source tells."""

from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from model_store.announced import Announced, find_announced
from model_store.errors import BadSums
from model_store.layout import Store
from model_store.names import is_gguf_name, parse_file_name, printable
from model_store.origin import HUB_CACHE, Origin, tell_blob_digest, tell_origin
from model_store.target import Target, make_part

LOCAL: Final = "local"
"""Publisher of models whose source tells none."""

Mode = Literal["copy", "move", "hardlink", "symlink"]


class Wish(Struct, frozen=True):
    """What the user asked for; None means that the source decides."""

    sha256: str | None = None
    target: Target | None = None
    mode: Mode | None = None


def tell_stored_origin(store: Store, file: Path, root: Path) -> Origin:
    """Tell where a file comes from, also one that lies in the store already.

    Args:
        store: Files in it keep their folders.
        file: See `tell_origin`.
        root: See `tell_origin`.
    """
    if file.is_relative_to(store.models_dir):
        folders = file.relative_to(store.models_dir).parts[:-1]
        if len(folders) > 1 and not folders[0].startswith("."):
            return Origin(publisher=folders[0], repository=folders[1], is_shared=True)
    return tell_origin(file, root)


def choose_digest(
    path: Path, root: Path, wish: Wish
) -> tuple[Announced | None, list[str]]:
    """Choose whose digest counts; say it where two of them disagree.

    Raises:
        BadSums: A list beside the file cannot be understood, and the user
            gave no digest that goes before it.
    """
    try:
        beside = find_announced(path, root)
    except BadSums as error:
        if wish.sha256 is None:
            raise
        return Announced(wish.sha256, "--sha256"), [error.message]
    blob = tell_blob_digest(path)
    if beside is None and blob is not None:
        beside = Announced(blob, HUB_CACHE)
    if wish.sha256 is None:
        return beside, []
    asked = Announced(wish.sha256, "--sha256")
    return asked, tell_disagreement(path, asked, beside)


def tell_disagreement(
    path: Path, asked: Announced, other: Announced | None
) -> list[str]:
    """Say that another digest was announced than the one that counts."""
    if other is None or other.sha256 == asked.sha256:
        return []
    note = (
        f"For '{printable(path.name)}' {asked.by} says {asked.sha256}, but {other.by} "
        f"says {other.sha256}; {asked.by} is used."
    )
    return [note]


def choose_how(store: Store, path: Path, wish: Wish, *, is_shared: bool) -> Mode:
    """Choose how a file comes in; what another program owns is linked."""
    if wish.mode is not None:
        return wish.mode
    if not is_shared:
        return "copy"
    return "hardlink" if _is_on_device_of(path, store.models_dir) else "symlink"


def _is_on_device_of(path: Path, folder: Path) -> bool:
    """Compare file systems; the folder need not exist yet."""
    try:
        device = path.stat().st_dev
        for place in (folder, *folder.parents):
            if place.exists():
                return device == place.stat().st_dev
    except OSError:
        return False
    return False


def choose_target(wish: Wish, publisher: str, repository: str, name: str) -> Target:
    """Choose the folder in the store; empty texts mean that none was told."""
    if wish.target is not None:
        return wish.target
    if publisher and repository:
        return Target(make_part(publisher), make_part(repository))
    return Target(LOCAL, make_part(parse_file_name(make_name(name)).base_id))


def make_name(name: str) -> str:
    """Turn a file's name into one that the store accepts, if it is not too long."""
    safe = printable(name).lstrip(".").replace("/", "-") or "model"
    return safe if is_gguf_name(safe) else f"{safe}.gguf"

"""Removes a model from the store, with all that was kept about it.

Only from the store: what lies in another folder belongs to somebody else. A
worker that has the model loaded goes on with it; on Linux the bytes leave the
disk when the last reader closes them.

The files go first and what is known of them last, so a process that is killed
in between leaves a model with missing shards, which can be removed again, or
records without files, which hurt nobody.
"""

import contextlib
import stat
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from model_store.catalog import Catalog
from model_store.errors import StoreError, StoreUnwritable
from model_store.inventory import find_model
from model_store.layout import Store, sync_folder
from model_store.names import printable
from model_store.quarantine import is_ours
from model_store.record import damage_path, record_path, write_sums


class Removal(Struct, frozen=True):
    """What removing a model means.

    `files` are removed: shards, then projectors. `kept` are projectors that
    other models still use. `freed_bytes` counts what no other name refers to.
    """

    model_id: str
    files: tuple[Path, ...]
    kept: tuple[Path, ...]
    freed_bytes: int


class CannotRemove(StoreError):
    """The model does not lie in the store, or is another one by now."""

    code = "cannot_remove"

    def __init__(self, path: Path, reason: str, advice: str) -> None:
        super().__init__(
            f"'{printable(str(path))}' is not removed: {reason}. {advice}",
            path=path,
            reason=reason,
        )


def plan_removal(catalog: Catalog, store: Store, name: str) -> Removal:
    """Find out what removing a model would remove; nothing is changed.

    Raises:
        NotInStore: No model has this name.
        CannotRemove: It lies in a folder that is not the store's.
    """
    model = find_model(catalog, name)
    for path in model.paths:
        if not is_ours(store, path):
            raise CannotRemove(
                path,
                f"it does not lie in the store '{printable(str(store.models_dir))}', "
                "and other folders are never written to",
                "Remove the file there by hand.",
            )
    others = [each for each in catalog.entries() if each.id != model.id]
    used = {projector for other in others for projector in other.projectors}
    own = [path for path in model.projectors if is_ours(store, path)]
    files = (*model.paths, *(path for path in own if path not in used))
    return Removal(
        model_id=model.id,
        files=files,
        kept=tuple(path for path in own if path in used),
        freed_bytes=_count_freed(files),
    )


def remove_model(catalog: Catalog, store: Store, planned: Removal) -> Removal:
    """Remove a model as it was planned.

    Args:
        catalog: Is refreshed, before and after.
        store: The store that the model lies in.
        planned: What the user agreed to.

    Returns:
        What was removed.

    Raises:
        NotInStore: It is gone.
        CannotRemove: It has other files by now than were planned.
        StoreUnwritable: The system refused.
        StoreBusy: Another process keeps the lock for too long.
    """
    with store.exclusive():
        catalog.refresh()
        removal = plan_removal(catalog, store, planned.model_id)
        if set(removal.files) != set(planned.files):
            raise CannotRemove(
                removal.files[0],
                "the model was changed by another process meanwhile",
                "Look at it by `cloister ls`, then try again.",
            )
        for path in removal.files:
            _unlink(path)
        for path in removal.files:
            _unlink(record_path(path))
            _unlink(damage_path(path))
        for folder in sorted({path.parent for path in removal.files}):
            write_sums(folder)
            _drop_empty(folder, store)
    catalog.refresh()
    return removal


def _count_freed(files: Sequence[Path]) -> int:
    freed_bytes = 0
    for path in files:
        with contextlib.suppress(OSError):
            facts = path.lstat()
            if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
                freed_bytes += facts.st_size
    return freed_bytes


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreUnwritable(path, error.strerror or str(error)) from error


def _drop_empty(folder: Path, store: Store) -> None:
    """Remove a folder and those above it that are empty now."""
    top = store.models_dir.resolve()
    folder = folder.resolve()
    while folder != top and top in folder.parents:
        try:
            folder.rmdir()
        except OSError:  # not empty, or not allowed: either way it stays
            break
        folder = folder.parent
    sync_folder(folder)

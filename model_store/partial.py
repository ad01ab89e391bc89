"""Files that are being fetched, kept where a kill does not reach them.

They lie in `.cloister/partial` of the store, named by the SHA-256 that they
are to have: so the same content is taken up again whatever the repository,
the revision or the mirror is called then. A file whose SHA-256 nobody knows is
named by where it came from. What is there is always the beginning of a file;
the digest of the whole decides in the end whether it was.
"""

import contextlib
import errno
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from model_store.errors import DiskFull, StoreUnwritable
from model_store.hub_errors import DownloadRunning
from model_store.layout import INTERNAL, Store
from model_store.names import quoted
from model_store.remote import RemoteFile, RemoteRepository

FOLDER: Final = "partial"
_SUFFIX: Final = ".part"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Progress = Callable[[int], None]
"""Told how many bytes were done since the last call; may raise to cancel."""


def locate_partial(
    store: Store, repository: RemoteRepository, file: RemoteFile
) -> Path:
    """Name the place where a file is collected; nothing is created."""
    key = file.sha256
    if key is None:
        origin = f"{repository.id}\n{repository.commit}\n{file.path}"
        key = "unnamed-" + hashlib.sha256(origin.encode()).hexdigest()
    return store.models_dir / INTERNAL / FOLDER / f"{key}{_SUFFIX}"


@contextlib.contextmanager
def hold_partial(partial: Path, subject: str) -> Iterator[None]:
    """Keep other processes away from a place; its folder is made.

    Raises:
        DownloadRunning: Another process holds it.
        StoreUnwritable: The folder cannot be made.
    """
    path = partial.with_suffix(".lock")
    lock = FileLock(path, timeout=0)
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise DownloadRunning(
            subject,
            f"another process is fetching {quoted(subject)}",
            "Wait until it has finished.",
        ) from None
    except OSError as error:
        raise StoreUnwritable(path, error.strerror or str(error)) from error
    try:
        yield
    finally:
        if not partial.exists():
            path.unlink(missing_ok=True)
        lock.release()


def measure(partial: Path) -> int:
    """Count the bytes that are there; 0 where there is no file."""
    try:
        return partial.stat().st_size
    except FileNotFoundError:
        return 0


def append(
    pieces: Iterable[bytes], partial: Path, progress: Progress | None = None
) -> None:
    """Write pieces to the end of a file; it is made if it is missing.

    What came before the pieces broke off is kept.

    Raises:
        DiskFull: They do not fit.
        StoreUnwritable: The file cannot be written.
    """
    try:
        with partial.open("ab") as out:
            for piece in pieces:
                out.write(piece)
                if progress is not None:
                    progress(len(piece))
    except OSError as error:
        if error.errno in _FULL:
            free = shutil.disk_usage(partial.parent).free
            raise DiskFull(partial, needed_bytes=free + 1, free_bytes=free) from error
        raise StoreUnwritable(partial, error.strerror or str(error)) from error

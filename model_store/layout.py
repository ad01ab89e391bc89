"""Where the store keeps what, and who may write when.

    home/models/                        publisher/repository/file.gguf
      .cloister/lock                    held for the moment of a change
      .cloister/incoming/NAME/          staging area of one running admission
      .cloister/incoming/NAME.lock      held as long as its owner lives

An area lies on the file system of the models, so that what is complete can be
renamed into place. The kernel drops the locks of a process that dies, however
it dies; so an area whose lock can be taken has no owner, and is removed.
Areas are made and removed only under the store's lock: between the making of
an area and the taking of its lock nobody looks.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from model_store.errors import StoreBusy, StoreUnwritable

INTERNAL: Final = ".cloister"
"""Folder below the models that is the store's own; hidden, so never served."""

LOCK_WAIT_S: Final = 30.0
"""How long a change waits for another one; a change takes milliseconds."""

_HOME_MODE: Final = 0o700
_LOCK_SUFFIX: Final = ".lock"


class Store:
    """The store below one home folder: its paths and locks.

    Nothing is created before `create`, `exclusive` or `staging`. Any thread
    may use it; the locks also hold between threads.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.models_dir = home / "models"
        self._internal = self.models_dir / INTERNAL
        self._incoming = self._internal / "incoming"

    def create(self) -> None:
        """Make the folders that are missing; remove what dead processes left.

        Raises:
            StoreUnwritable: The folders cannot be made or written.
            StoreBusy: Another process keeps the lock for too long.
        """
        with self.exclusive():
            self._sweep()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Be the only one who changes the store; for moments, not for copying.

        Not reentrant: who holds it must not ask for it again.

        Raises:
            StoreUnwritable: The lock cannot be made.
            StoreBusy: It was not free within `LOCK_WAIT_S`.
        """
        self._make_folders()
        lock = FileLock(self._internal / "lock", timeout=LOCK_WAIT_S)
        try:
            lock.acquire()
        except Timeout:
            raise StoreBusy(self.models_dir, waited_s=LOCK_WAIT_S) from None
        except OSError as error:
            raise _unwritable(self._internal, error) from error
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """Give a fresh folder on the models' file system.

        It is removed at the end with all that still lies in it; if the
        process dies, by the next process that needs one.

        Raises:
            StoreUnwritable: The folder cannot be made.
            StoreBusy: Another process keeps the lock for too long.
        """
        area = self._incoming / f"{os.getpid()}-{secrets.token_hex(8)}"
        lock = FileLock(_lock_path(area), timeout=0)
        with self.exclusive():
            self._sweep()
            try:
                lock.acquire()
                area.mkdir(mode=_HOME_MODE)
            except OSError as error:
                lock.release()
                raise _unwritable(area, error) from error
        try:
            yield area
        finally:
            _remove(area)
            lock.release()

    def _make_folders(self) -> None:
        try:
            self.home.mkdir(mode=_HOME_MODE, parents=True, exist_ok=True)
            self._incoming.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self._incoming, error) from error

    def _sweep(self) -> None:
        """Remove the areas whose owners are gone; the store's lock is held."""
        try:
            found = sorted(self._incoming.iterdir())
        except OSError as error:
            raise _unwritable(self._incoming, error) from error
        names = {path.name.removesuffix(_LOCK_SUFFIX) for path in found}
        for name in sorted(names):
            area = self._incoming / name
            lock = FileLock(_lock_path(area), timeout=0)
            # Somebody else's files that cannot be removed are not our failure.
            with contextlib.suppress(Timeout, OSError):
                lock.acquire()
                try:
                    _remove(area)
                finally:
                    lock.release()


def sync_folder(path: Path) -> None:
    """Make renames in a folder durable.

    Raises:
        StoreUnwritable: The system refused.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unwritable(path, error) from error


def _lock_path(area: Path) -> Path:
    return area.with_name(area.name + _LOCK_SUFFIX)


def _remove(area: Path) -> None:
    """Remove an area and then its lock file, which the caller holds."""
    shutil.rmtree(area, ignore_errors=True)
    if not area.exists():
        _lock_path(area).unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> StoreUnwritable:
    return StoreUnwritable(path, error.strerror or str(error))

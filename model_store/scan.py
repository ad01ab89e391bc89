"""Finds GGUF files below directories, without writing anything.

The directories are walked one after the other, and links to directories after
all of them, so a file that can be reached both ways is found at its real place. No
directory is entered twice, which also ends loops. What cannot be read is
noted and left out.
"""

import os
import stat
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from model_store.names import is_gguf_name, printable
from model_store.record import DAMAGE_SUFFIX, RECORD_SUFFIX

MAX_DEPTH: Final = 16
"""Directories below a models directory."""
MAX_ENTRIES: Final = 500_000
"""Directory entries of one scan; it ends there, and says so."""


class FoundFile(Struct, frozen=True):
    """A regular file that is named like a GGUF file.

    `relative` are the parts of the path below the models directory number
    `root`; the last is the file's name. `is_recorded` and `is_quarantined`
    tell whether a record and a mark of damage lie beside it.
    """

    root: int
    relative: tuple[str, ...]
    path: Path
    size_bytes: int
    mtime_ns: int
    inode: int
    device: int
    is_recorded: bool = False
    is_quarantined: bool = False


class Scan(Struct, frozen=True):
    """What lies in the models directories.

    `files` are ordered by root and relative path; `notes` are sentences about
    what could not be read. `lost` are files that have a record and are not
    there.
    """

    files: tuple[FoundFile, ...]
    notes: tuple[str, ...]
    lost: tuple[Path, ...] = ()


class _Folder(Struct, frozen=True):
    root: int
    relative: tuple[str, ...]
    path: str


def scan_directories(directories: Sequence[Path]) -> Scan:
    """Find all GGUF files below these directories, links followed."""
    return _Walk().run(directories)


class _Walk:
    """One scan; not to be used twice."""

    def __init__(self) -> None:
        self._files: list[FoundFile] = []
        self._notes: list[str] = []
        self._lost: list[Path] = []
        self._entered: set[tuple[int, int]] = set()
        self._n_entries = 0
        self._linked: deque[_Folder] = deque()
        self._is_cut = False

    def run(self, directories: Sequence[Path]) -> Scan:
        for root, directory in enumerate(directories):
            path = os.fspath(directory)
            self._drain(deque([_Folder(root=root, relative=(), path=path)]))
        self._drain(self._linked)
        files = sorted(self._files, key=lambda file: (file.root, file.relative))
        return Scan(
            files=tuple(files),
            notes=tuple(self._notes),
            lost=tuple(sorted(self._lost)),
        )

    def _drain(self, queue: deque[_Folder]) -> None:
        while queue and self._n_entries < MAX_ENTRIES:
            self._enter(queue.popleft(), queue)
        if queue and not self._is_cut:
            self._is_cut = True
            self._note(
                f"The models directories have more than {MAX_ENTRIES} entries; "
                "the rest was not looked at."
            )

    def _enter(self, folder: _Folder, queue: deque[_Folder]) -> None:
        try:
            facts = os.stat(folder.path)  # noqa: PTH116 - a Path costs as much again
            if (facts.st_dev, facts.st_ino) in self._entered:
                return
            self._entered.add((facts.st_dev, facts.st_ino))
            with os.scandir(folder.path) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._note_error("The folder", folder.path, error)
            return
        names = {entry.name for entry in found}
        for entry in found:
            self._n_entries += 1
            self._look_at(folder, entry, queue, names)

    def _look_at(
        self,
        folder: _Folder,
        entry: os.DirEntry[str],
        queue: deque[_Folder],
        names: set[str],
    ) -> None:
        if entry.name.startswith("."):
            return
        relative = (*folder.relative, entry.name)
        try:
            if entry.is_dir():
                below = _Folder(root=folder.root, relative=relative, path=entry.path)
                self._queue(below, self._linked if entry.is_symlink() else queue)
            elif is_gguf_name(entry.name):
                self._add(folder.root, relative, entry, names)
            elif entry.name.endswith(RECORD_SUFFIX):
                name = entry.name.removesuffix(RECORD_SUFFIX)
                if is_gguf_name(name) and name not in names:
                    self._lost.append(Path(folder.path, name))
        except OSError as error:
            self._note_error("The file", entry.path, error)

    def _queue(self, folder: _Folder, queue: deque[_Folder]) -> None:
        if len(folder.relative) > MAX_DEPTH:
            self._note(
                f"The folder '{printable(folder.path)}' lies deeper than "
                f"{MAX_DEPTH} folders and was not looked at."
            )
            return
        queue.append(folder)

    def _add(
        self,
        root: int,
        relative: tuple[str, ...],
        entry: os.DirEntry[str],
        names: set[str],
    ) -> None:
        facts = entry.stat()
        if not stat.S_ISREG(facts.st_mode):
            self._note(
                f"'{printable(entry.path)}' is not a regular file and was left out."
            )
            return
        self._files.append(
            FoundFile(
                root=root,
                relative=relative,
                path=Path(entry.path),
                size_bytes=facts.st_size,
                mtime_ns=facts.st_mtime_ns,
                inode=facts.st_ino,
                device=facts.st_dev,
                is_recorded=entry.name + RECORD_SUFFIX in names,
                is_quarantined=entry.name + DAMAGE_SUFFIX in names,
            )
        )

    def _note_error(self, what: str, path: str, error: OSError) -> None:
        reason = error.strerror or str(error)
        self._note(f"{what} '{printable(path)}' cannot be read: {reason}.")

    def _note(self, text: str) -> None:
        self._notes.append(text)

"""Everything that can go wrong with the files of the store.

    StoreError
    ├── BadGguf          the bytes are not a model that may be loaded
    ├── UnreadableFile   the bytes cannot be had: permission, medium, gone
    ├── FileChanged      somebody wrote the file while it was read
    ├── CutShort         a stream ended before its announced end
    ├── StoreUnwritable  the store's folder cannot be written
    ├── StoreBusy        another process holds the store's lock for too long
    ├── DiskFull         the bytes do not fit
    ├── CannotLink       the file system refuses the link that was asked for
    ├── BadDigest        a text is no SHA-256
    ├── DigestMismatch   the bytes are not those that were announced
    ├── BadRecord        a record cannot be understood
    ├── BadSums          a SHA256SUMS file cannot be understood
    ├── BadTarget        a name under which nothing can be stored
    ├── BadSource        what was named cannot be imported as it was asked for
    ├── AlreadyTaken     another file has that name in the store
    ├── NotInStore       no model of that name
    └── Quarantined      the model is known to be damaged

An error says what happened and what to do, in that order. Paths in texts are
made printable; `path` is the exact one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from model_store.names import printable, quoted
from model_store.sizes import tell_bytes


class StoreError(Exception):
    """Base of all errors of the store.

    `reason` says what is wrong, `hint` what to do, `message` both with the
    file's name. `path` is empty where no file is concerned.
    """

    code: ClassVar[str] = "store_error"
    hint: ClassVar[str] = ""

    def __init__(self, message: str, *, path: Path, reason: str) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.reason = reason


def _show(path: Path) -> str:
    return f"'{printable(str(path))}'"


class BadGguf(StoreError):
    """The file is not a GGUF file that can be used; `reason` has the numbers."""

    code = "bad_gguf"
    hint = "Copy or download the file again, or remove it."

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The file {_show(path)} is not a usable GGUF file: {reason}. {self.hint}",
            path=path,
            reason=reason,
        )


class UnreadableFile(StoreError):
    """The file could not be opened or read; `reason` is the system's text."""

    code = "unreadable_file"
    hint = "Check that the file exists, and its permissions and its disk."

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The file {_show(path)} cannot be read: {reason}. {self.hint}",
            path=path,
            reason=reason,
        )


class FileChanged(StoreError):
    """The file was written while it was read; `reason` says what differs."""

    code = "file_changed"
    hint = "Wait until nothing writes it any more, then try again."

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The file {_show(path)} changed while it was read: {reason}. {self.hint}",
            path=path,
            reason=reason,
        )


class CutShort(StoreError):
    """Fewer bytes came than were announced."""

    code = "cut_short"
    hint = "Fetch or copy the source again."

    def __init__(self, path: Path, *, expected_bytes: int, got_bytes: int) -> None:
        reason = (
            f"only {got_bytes} of {expected_bytes} bytes came "
            f"({expected_bytes - got_bytes} are missing)"
        )
        super().__init__(
            f"The data for {_show(path)} ended too early: {reason}. {self.hint}",
            path=path,
            reason=reason,
        )
        self.expected_bytes = expected_bytes
        self.got_bytes = got_bytes


class StoreUnwritable(StoreError):
    """A file or folder of the store could not be written."""

    code = "store_unwritable"
    hint = (
        "Check its permissions and that its disk is not mounted read-only, or set "
        "CLOISTER_HOME to another folder."
    )

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The store cannot be written at {_show(path)}: {reason}. {self.hint}",
            path=path,
            reason=reason,
        )


class StoreBusy(StoreError):
    """Another process holds the store's lock."""

    code = "store_busy"
    hint = "Wait until it has finished, then try again."

    def __init__(self, path: Path, *, waited_s: float) -> None:
        reason = f"another process has been changing it for {waited_s:g} s"
        super().__init__(
            f"The store {_show(path)} is busy: {reason}. {self.hint}",
            path=path,
            reason=reason,
        )
        self.waited_s = waited_s


class DiskFull(StoreError):
    """The bytes do not fit; `free_bytes` is what this user may still write."""

    code = "disk_full"
    hint = (
        "Free some space there, or set CLOISTER_HOME to a folder on a larger disk; "
        "nothing was changed."
    )

    def __init__(self, path: Path, *, needed_bytes: int, free_bytes: int) -> None:
        reason = (
            f"{tell_bytes(needed_bytes)} are needed, {tell_bytes(free_bytes)} are free"
        )
        super().__init__(
            f"There is no room for {_show(path)}: {reason}. {self.hint}",
            path=path,
            reason=reason,
        )
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class CannotLink(StoreError):
    """A hard link or symlink could not be made."""

    code = "cannot_link"
    hint = "Use --symlink to refer to it where it lies, or --copy."

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The file {_show(path)} cannot be linked into the store: {reason}. "
            f"{self.hint}",
            path=path,
            reason=reason,
        )


class BadDigest(StoreError):
    """A text is not a SHA-256."""

    code = "bad_digest"
    hint = "Give the 64 hexadecimal digits that sha256sum prints."

    def __init__(self, text: str) -> None:
        digits = "".join(text.split())
        reason = f"it has {len(digits)} characters and must be 64 hexadecimal digits"
        super().__init__(
            f"{quoted(text)} is not a SHA-256: {reason}. {self.hint}",
            path=Path(),
            reason=reason,
        )


class DigestMismatch(StoreError):
    """The file is not the one that was announced.

    `expected_by` says who announced it, e.g. "--sha256".
    """

    code = "digest_mismatch"
    hint = (
        "The file was kept out of the store and is as it was where it came from. "
        "Copy or download it again, or check the digest you compare with."
    )

    def __init__(
        self, path: Path, *, expected: str, actual: str, expected_by: str
    ) -> None:
        reason = f"its SHA-256 is {actual}, but {expected_by} says {expected}"
        super().__init__(
            f"The file {_show(path)} is not the one announced:\n"
            f"  expected {expected} ({expected_by})\n"
            f"  actual   {actual}\n"
            f"{self.hint}",
            path=path,
            reason=reason,
        )
        self.expected = expected
        self.actual = actual
        self.expected_by = expected_by


class BadRecord(StoreError):
    """What the store keeps about a file cannot be understood."""

    code = "bad_record"
    hint = "Remove it; the file itself is then known as not verified."

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The record {_show(path)} cannot be used: {reason}. {self.hint}",
            path=path,
            reason=reason,
        )


class BadSums(StoreError):
    """A list of checksums cannot be understood; `reason` names the line."""

    code = "bad_sums"
    hint = "Correct or remove it, or give the digest by --sha256."

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The list of checksums {_show(path)} cannot be used: {reason}. "
            f"{self.hint}",
            path=path,
            reason=reason,
        )


class BadTarget(StoreError):
    """Nothing can be stored under this name."""

    code = "bad_target"
    hint = "Choose another by --as publisher/name."

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"Nothing can be stored as {quoted(name)}: {reason}. {self.hint}",
            path=Path(),
            reason=reason,
        )


class BadSource(StoreError):
    """What was named cannot be imported; `advice` is what to do."""

    code = "bad_source"

    def __init__(self, path: Path, reason: str, advice: str) -> None:
        super().__init__(
            f"{_show(path)} cannot be imported: {reason}. {advice}",
            path=path,
            reason=reason,
        )


class AlreadyTaken(StoreError):
    """The store has another file at this place."""

    code = "already_taken"
    hint = (
        "Import under another name by --as publisher/name, or remove the stored one "
        "first by `cloister rm`."
    )

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The store already has another {_show(path)}: {reason}. {self.hint}",
            path=path,
            reason=reason,
        )


class NotInStore(StoreError):
    """No model has this name; `near` are names that are similar."""

    code = "not_in_store"
    hint = "List what is there by `cloister ls`."

    def __init__(self, name: str, near: Sequence[str] = ()) -> None:
        reason = "no model has that name"
        if near:
            reason += "; did you mean " + " or ".join(quoted(each) for each in near)
        super().__init__(
            f"{quoted(name)} is not in the store: {reason}. {self.hint}",
            path=Path(),
            reason=reason,
        )
        self.name = name


class Quarantined(StoreError):
    """The file is known to be damaged and is not served."""

    code = "quarantined"
    hint = "Rewrite its bad parts by `cloister repair`, or remove it by `cloister rm`."

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The file {_show(path)} is damaged and is not served: {reason}. "
            f"{self.hint}",
            path=path,
            reason=reason,
        )

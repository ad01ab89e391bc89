"""Everything that can go wrong with the files of the store.

    StoreError
    ├── BadGguf         the bytes are not a model that may be loaded
    └── UnreadableFile  the bytes cannot be had: permission, medium, gone

An error says what happened and what to do, in that order. Paths in texts are
made printable; `path` is the exact one.
"""

from pathlib import Path
from typing import ClassVar

from model_store.names import printable


class StoreError(Exception):
    """Base of all errors of the store.

    `reason` says what is wrong, `hint` what to do, `message` both with the
    file's name.
    """

    code: ClassVar[str] = "store_error"
    hint: ClassVar[str] = ""

    def __init__(self, message: str, *, path: Path, reason: str) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.reason = reason


class BadGguf(StoreError):
    """The file is not a GGUF file that can be used; `reason` has the numbers."""

    code = "bad_gguf"
    hint = "Copy or download the file again, or remove it."

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The file '{printable(str(path))}' is not a usable GGUF file: "
            f"{reason}. {self.hint}",
            path=path,
            reason=reason,
        )


class UnreadableFile(StoreError):
    """The file could not be opened or read; `reason` is the system's text."""

    code = "unreadable_file"
    hint = "Check that the file exists, and its permissions and its disk."

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The file '{printable(str(path))}' cannot be read: {reason}. {self.hint}",
            path=path,
            reason=reason,
        )

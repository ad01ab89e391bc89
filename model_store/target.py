"""Where a model goes in the store, and what its files may be called."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from model_store.errors import BadTarget
from model_store.layout import Store
from model_store.names import (
    MAX_SHARDS,
    is_gguf_name,
    is_projector_name,
    parse_file_name,
    printable,
)

MAX_FILES: Final = MAX_SHARDS + 8
MAX_NAME_BYTES: Final = 240
"""The names of records and marks must fit into 255 bytes."""
MAX_TARGET_PART: Final = 96

_PART: Final = re.compile(rf"[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{MAX_TARGET_PART - 1}}}")


class Target(Struct, frozen=True):
    """Where a model goes: the folder publisher/repository."""

    publisher: str
    repository: str

    def __str__(self) -> str:
        """Write it as `parse_target` reads it."""
        return f"{self.publisher}/{self.repository}"


def parse_target(text: str) -> Target:
    """Read "publisher/name".

    Raises:
        BadTarget: It has not two parts of 1 to 96 letters (A-Z, a-z), digits,
            dots, hyphens and underscores, or one begins with a dot.
    """
    parts = text.split("/")
    if len(parts) != 2:  # noqa: PLR2004 - publisher and name
        raise BadTarget(text, f"it has {len(parts)} parts and must be publisher/name")
    for part in parts:
        if _PART.fullmatch(part) is None:
            raise BadTarget(
                text,
                f"'{printable(part)[:MAX_TARGET_PART]}' must be 1 to "
                f"{MAX_TARGET_PART} letters (A-Z, a-z), digits, dots, hyphens or "
                "underscores, not beginning with a dot",
            )
    return Target(publisher=parts[0], repository=parts[1])


def check_names(names: Sequence[str]) -> None:
    """See that one model's files can have these names.

    Raises:
        BadTarget: There are none or too many, two are the same, or one is not
            printable, too long, or does not end in .gguf.
    """
    if not 0 < len(names) <= MAX_FILES:
        raise BadTarget("", f"a model has 1 to {MAX_FILES} files, not {len(names)}")
    seen: set[str] = set()
    for name in names:
        n_bytes = len(os.fsencode(name))
        if not is_gguf_name(name) or "/" in name or printable(name) != name:
            raise BadTarget(name, "a file's name must be printable and end in .gguf")
        if n_bytes > MAX_NAME_BYTES:
            raise BadTarget(
                name, f"it has {n_bytes} bytes; at most {MAX_NAME_BYTES} are accepted"
            )
        if name in seen:
            raise BadTarget(name, "two files would have that name")
        seen.add(name)


def locate(store: Store, target: Target) -> Path:
    """Name the folder of a target; it need not exist.

    Raises:
        BadTarget: A link is in its place, which would lead to a folder that
            is not the store's, or a file.
    """
    publisher = store.models_dir / target.publisher
    repository = publisher / target.repository
    for folder in (publisher, repository):
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise BadTarget(
                str(target),
                f"'{printable(str(folder))}' is a link or a file and not a folder of "
                "the store",
            )
    return repository


def name_folder(names: Sequence[str]) -> str:
    """Name the folder that a model of several files gets in its repository."""
    models = [name for name in names if not is_projector_name(name)]
    return parse_file_name(models[0] if models else names[0]).stem


def make_part(text: str) -> str:
    """Turn any text into a publisher or repository that `parse_target` accepts."""
    sane = re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".").strip("-")
    return sane[:MAX_TARGET_PART].rstrip("-") or "model"

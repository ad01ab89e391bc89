"""Finds the digests that somebody put beside a file.

NAME.sha256   for one file
SHA256SUMS    for the files of a folder, or by their paths of those below
"""

import os
from pathlib import Path
from typing import Final

from msgspec import Struct

from model_store.errors import BadSums
from model_store.names import printable
from model_store.record import SUMS_NAME, read_sums

_SUFFIX: Final = ".sha256"


class Announced(Struct, frozen=True):
    """A digest and who announced it: "--sha256" or a file's name."""

    sha256: str
    by: str


def find_announced(file: Path, root: Path) -> Announced | None:
    """Find the digest that lies beside a file; None where there is none.

    Args:
        file: Absolute path.
        root: Topmost folder whose SHA256SUMS is looked at.

    Raises:
        BadSums: A list cannot be understood, or two of them disagree.
    """
    own = file.with_name(file.name + _SUFFIX)
    found: list[tuple[Path, str]] = []
    if own.is_file():
        found.append((own, _read_own(own, file.name)))
    for folder in file.parents:
        sums = folder / SUMS_NAME
        if sums.is_file():
            digest = read_sums(sums).get(os.fspath(file.relative_to(folder)))
            if digest is not None:
                found.append((sums, digest))
        if folder == root or not folder.is_relative_to(root):
            break
    if not found:
        return None
    first, digest = found[0]
    for path, other in found[1:]:
        if other != digest:
            raise BadSums(
                path,
                f"it gives '{printable(file.name)}' the digest {other}, but "
                f"'{printable(first.name)}' gives it {digest}",
            )
    return Announced(sha256=digest, by=printable(first.name))


def _read_own(path: Path, name: str) -> str:
    sums = read_sums(path)
    digest = sums.get(name) or sums.get("")
    if digest is None and len(sums) == 1:
        # The file was renamed together with its list, or the list has a path.
        digest = next(iter(sums.values()))
    if digest is None:
        raise BadSums(path, f"it has no line for '{printable(name)}'")
    return digest

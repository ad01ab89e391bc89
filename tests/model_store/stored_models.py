"""A store with files and records in it, and the damage that is done to them."""

import random
from dataclasses import dataclass

import msgspec

from model_store.digest import CHUNK_BYTES, hash_file
from model_store.layout import Store
from model_store.record import Record, Source, read_record, write_record, write_sums

N_CHUNKS = 4
SIZE_BYTES = (N_CHUNKS - 1) * CHUNK_BYTES + 12_345


def make_bytes(size_bytes=SIZE_BYTES, seed=1):
    """Make bytes that repeat nowhere."""
    return random.Random(seed).randbytes(size_bytes)  # noqa: S311 - test data


def write_own_record(path, **changes):
    """Record a file as it is now."""
    digest = hash_file(path)
    record = Record(
        file_name=path.name,
        size_bytes=digest.size_bytes,
        mtime_ns=path.stat().st_mtime_ns,
        sha256=digest.sha256,
        chunks=digest.chunks,
        admitted_at="2026-11-22T00:00:00Z",
        verified_against=None,
        source=Source(kind="sideload", location="/media/usb"),
        licence=None,
        architecture=None,
        quantization=None,
        n_params=None,
        template_sha256=None,
        linked="copy",
    )
    write_record(path, msgspec.structs.replace(record, **changes))
    write_sums(path.parent)
    return read_record(path)


@dataclass
class Shelf:
    """A store below a folder, with the means to fill and to hurt it."""

    store: Store

    def put(self, relative, content=None, **record):
        """Store a file with its record."""
        path = self.store.models_dir / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_bytes() if content is None else content)
        write_own_record(path, **record)
        return path


def make_shelf(folder):
    """Make an empty store."""
    store = Store(folder / "home")
    store.create()
    return Shelf(store)


def flip_bit(path, offset, bit=0):
    """Change one bit of a file; doing it twice mends it."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))

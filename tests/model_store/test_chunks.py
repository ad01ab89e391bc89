"""Which bytes are bad, by chunk digests."""

import errno
import os

import pytest

from model_store import chunks
from model_store.chunks import (
    ByteRange,
    find_bad_chunks,
    find_ranges,
    has_lost_blocks,
    tell_ranges,
)
from model_store.digest import CHUNK_BYTES
from model_store.errors import UnreadableFile
from tests.model_store.stored_models import (
    N_CHUNKS,
    SIZE_BYTES,
    flip_bit,
    make_shelf,
    write_own_record,
)


@pytest.fixture
def path(tmp_path):
    return make_shelf(tmp_path).put("p/r/m.gguf")


def test_neighbours_are_one_range_and_the_last_chunk_is_shorter():
    assert (ByteRange(0, 9), ByteRange(20, 34)) == find_ranges(
        [0, 2, 3], chunk_bytes=10, size_bytes=35
    )
    assert () == find_ranges([], chunk_bytes=10, size_bytes=35)


@pytest.mark.parametrize(
    ("n_ranges", "expected"),
    [
        (0, ""),
        (1, "bytes 0-3"),
        (2, "bytes 0-3 and 10-13"),
        (3, "bytes 0-3, 10-13 and 20-23"),
        (10, "bytes 0-3, 10-13, 20-23, 30-33, 40-43, 50-53, 60-63, 70-73 and 2 more"),
    ],
)
def test_ranges_are_told_within_bounds(n_ranges, expected):
    ranges = [ByteRange(10 * i, 10 * i + 3) for i in range(n_ranges)]
    told = tell_ranges(ranges)
    assert expected + (" ranges" if n_ranges == 10 else "") == told


def test_a_sound_file_has_no_bad_chunk_and_all_bytes_are_told(path):
    told = []
    assert () == find_bad_chunks(path, write_own_record(path), told.append)
    assert [CHUNK_BYTES] * (N_CHUNKS - 1) + [12_345] == told


def test_wrong_missing_and_surplus_bytes_are_told_apart(path):
    record = write_own_record(path)
    flip_bit(path, CHUNK_BYTES)
    assert (1,) == find_bad_chunks(path, record)
    os.truncate(path, 2 * CHUNK_BYTES + 1)
    assert (1, 2, 3) == find_bad_chunks(path, record)
    os.truncate(path, 0)
    assert (0, 1, 2, 3) == find_bad_chunks(path, record)


def test_what_lies_behind_the_recorded_end_is_not_read(path):
    record = write_own_record(path)
    with path.open("ab") as file:
        file.write(b"more")
    assert () == find_bad_chunks(path, record)


def test_a_block_that_the_disk_lost_is_a_bad_chunk(path, monkeypatch):
    record = write_own_record(path)
    read = os.pread

    def lose(descriptor, length, first):
        if first == 2 * CHUNK_BYTES:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(descriptor, length, first)

    monkeypatch.setattr(chunks.os, "pread", lose)
    assert (2,) == find_bad_chunks(path, record)


def test_another_refusal_of_the_system_is_an_error(path, monkeypatch):
    record = write_own_record(path)

    def refuse(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(chunks.os, "pread", refuse)
    with pytest.raises(UnreadableFile, match="Invalid argument"):
        find_bad_chunks(path, record)


def test_a_record_with_one_huge_chunk_costs_no_memory(path, monkeypatch):
    wanted = []
    read = os.pread

    def watch(descriptor, length, first):
        wanted.append(length)
        return read(descriptor, length, first)

    record = write_own_record(path)
    monkeypatch.setattr(chunks.os, "pread", watch)
    huge = type(record)(
        **{name: getattr(record, name) for name in record.__struct_fields__}
        | {"chunk_bytes": 2**60, "chunks": (record.sha256,)}
    )
    assert () == find_bad_chunks(path, huge)
    assert max(wanted) <= CHUNK_BYTES < SIZE_BYTES


def test_only_a_lost_block_counts_as_lost():
    def refuse(number):
        error = UnreadableFile(chunks.Path("m.gguf"), "text")
        error.__cause__ = OSError(number, "text")
        return error

    assert has_lost_blocks(refuse(errno.EIO))
    assert not has_lost_blocks(refuse(errno.EACCES))
    assert not has_lost_blocks(UnreadableFile(chunks.Path("m.gguf"), "text"))

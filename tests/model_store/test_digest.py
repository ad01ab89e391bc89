"""Digests beside the copy: right bytes, right chunks, real disks."""

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from model_store import digest
from model_store.digest import (
    CHUNK_BYTES,
    copy_and_hash,
    hash_file,
    hash_stream,
    parse_sha256,
)
from model_store.errors import (
    BadDigest,
    CutShort,
    DiskFull,
    FileChanged,
    StoreUnwritable,
    UnreadableFile,
)

ROOT = Path(__file__).resolve().parents[2]
HEX = hashlib.sha256(b"").hexdigest()
SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7]


def make(path, size):
    data = os.urandom(size)
    path.write_bytes(data)
    return data


def expect(data):
    chunks = range(0, len(data), CHUNK_BYTES)
    return digest.FileDigest(
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        chunks=tuple(
            hashlib.sha256(data[at : at + CHUNK_BYTES]).hexdigest() for at in chunks
        ),
    )


@pytest.mark.parametrize("size", SIZES)
def test_file_copy_and_stream_give_the_digests_of_hashlib(tmp_path, size):
    data = make(tmp_path / "a", size)
    done = []
    assert expect(data) == hash_file(tmp_path / "a", done.append)
    assert size == sum(done)
    assert expect(data) == copy_and_hash(tmp_path / "a", tmp_path / "b")
    assert data == (tmp_path / "b").read_bytes()
    stream = io.BytesIO(data)
    # Short reads, as a network gives them, must not shift the chunks.
    read = lambda n: stream.read(min(n, 999_983))  # noqa: E731 - it is an argument
    assert expect(data) == hash_stream(read, tmp_path / "c", size)
    assert data == (tmp_path / "c").read_bytes()


def test_a_copy_keeps_the_time_of_the_source(tmp_path):
    make(tmp_path / "a", 10)
    os.utime(tmp_path / "a", ns=(1, 1_600_000_000_123_456_789))
    copy_and_hash(tmp_path / "a", tmp_path / "b")
    assert 1_600_000_000_123_456_789 == (tmp_path / "b").stat().st_mtime_ns


def test_a_stream_without_a_length_is_read_to_its_end(tmp_path):
    data = os.urandom(CHUNK_BYTES + 5)
    assert expect(data) == hash_stream(io.BytesIO(data).read, tmp_path / "a", None)


def test_a_stream_is_not_read_beyond_its_length(tmp_path):
    stream = io.BytesIO(b"model, then another one")
    assert expect(b"model") == hash_stream(stream.read, tmp_path / "a", 5)
    assert b", then" == stream.read(6)


def test_a_stream_that_ends_too_early_is_told_with_both_sizes(tmp_path):
    with pytest.raises(CutShort, match=r"only 3 of 5 bytes came \(2 are missing\)"):
        hash_stream(io.BytesIO(b"mod").read, tmp_path / "a", 5)


def test_what_the_stream_raises_comes_through(tmp_path):
    def fail(_):
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        hash_stream(fail, tmp_path / "a", 5)


def test_progress_can_cancel(tmp_path):
    make(tmp_path / "a", 8 * CHUNK_BYTES)

    def cancel(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_and_hash(tmp_path / "a", tmp_path / "b", cancel)


def test_a_file_that_grows_while_it_is_read_is_told(tmp_path):
    make(tmp_path / "a", 9 * CHUNK_BYTES)

    def grow(_):
        with (tmp_path / "a").open("ab") as file:
            file.write(b"x")

    with pytest.raises(FileChanged, match=f"it had {9 * CHUNK_BYTES} bytes, of which"):
        hash_file(tmp_path / "a", grow)


def test_a_file_that_shrinks_while_it_is_read_is_told(tmp_path):
    make(tmp_path / "a", 9 * CHUNK_BYTES)
    with pytest.raises(FileChanged, match="and now has 5"):
        copy_and_hash(
            tmp_path / "a", tmp_path / "b", lambda _: os.truncate(tmp_path / "a", 5)
        )


def test_a_file_that_is_written_in_place_while_it_is_read_is_told(tmp_path):
    make(tmp_path / "a", 2 * CHUNK_BYTES)
    os.utime(tmp_path / "a", ns=(0, 0))

    def write(_):
        with (tmp_path / "a").open("r+b") as file:
            file.write(b"x")

    with pytest.raises(FileChanged, match=r"bytes were written again\. Wait until"):
        hash_file(tmp_path / "a", write)


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, reason in [
        (tmp_path / "pipe", "it is not a regular file"),
        (tmp_path, "it is not a regular file"),
        (tmp_path / "none", "No such file or directory"),
        (Path("a\0b"), "embedded null byte"),
    ]:
        with pytest.raises(UnreadableFile, match=reason):
            hash_file(path)


def test_a_target_that_exists_is_not_overwritten(tmp_path):
    make(tmp_path / "a", 5)
    (tmp_path / "b").write_bytes(b"mine")
    with pytest.raises(StoreUnwritable, match="File exists"):
        copy_and_hash(tmp_path / "a", tmp_path / "b")
    assert b"mine" == (tmp_path / "b").read_bytes()


def test_a_file_that_cannot_fit_is_refused_before_the_first_byte(tmp_path):
    # A hole: the size is there, the bytes are not.
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**43)
    with pytest.raises(DiskFull, match=r"8\.0 TiB \(8796093022208 bytes\) are needed"):
        copy_and_hash(tmp_path / "a", tmp_path / "b")
    assert 0 == (tmp_path / "b").stat().st_blocks


def test_a_limit_on_file_sizes_reads_as_a_full_disk(tmp_path):
    make(tmp_path / "a", 2 * CHUNK_BYTES)
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from model_store.digest import copy_and_hash\n"
        "from model_store.errors import DiskFull\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))\n"
        "try: copy_and_hash(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except DiskFull as error: print(error.needed_bytes)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a", tmp_path / "b"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert f"{2 * CHUNK_BYTES}\n" == done.stdout


@pytest.mark.parametrize(
    "text",
    [HEX, HEX.upper(), f" {HEX}\n", f"sha256:{HEX}", f"SHA256:{HEX}", f"sha256-{HEX}"],
)
def test_a_digest_is_read_as_people_write_it(text):
    assert HEX == parse_sha256(text)
    assert HEX == parse_sha256(" ".join((text[:20], text[20:])))


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 0), ("abc", 3), (HEX + "0", 65), ("g" + HEX[1:], 64), ("٣" * 64, 64)],
)
def test_anything_else_is_no_digest(text, count):
    with pytest.raises(
        BadDigest,
        match=f"it has {count} characters and must be 64 hexadecimal digits",
    ):
        parse_sha256(text)

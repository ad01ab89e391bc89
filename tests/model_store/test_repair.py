"""Bad chunks are rewritten, nothing else, and a kill costs nothing."""

import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from model_store.digest import CHUNK_BYTES
from model_store.errors import DiskFull, FileChanged, StoreUnwritable
from model_store.good_copy import (
    GoodCopyBad,
    GoodCopyMissing,
    copies_in,
)
from model_store.record import (
    damage_path,
    read_damage,
    read_record,
    record_path,
    write_record,
)
from model_store.repair import CannotRepair, repair_file
from model_store.verify import Verdict, verify_file
from tests.model_store.stored_models import (
    N_CHUNKS,
    SIZE_BYTES,
    flip_bit,
    make_bytes,
    make_shelf,
    write_own_record,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shelf(tmp_path):
    return make_shelf(tmp_path)


@pytest.fixture
def path(shelf):
    return shelf.put("p/r/m.gguf")


@pytest.fixture
def good(tmp_path, path):
    """Give a good copy of the file."""
    return Path(shutil.copy(path, tmp_path / "good.gguf"))


class Reads:
    """A good copy that notes what is read of it."""

    name = "noted"

    def __init__(self, content):
        self.content = content
        self.ranges = []

    @contextlib.contextmanager
    def open(self, *_):
        yield (self,)

    def read(self, first, n_bytes):
        self.ranges.append((first, n_bytes))
        return self.content[first : first + n_bytes]


def test_only_the_bad_chunks_are_read_and_written(shelf, path):
    flip_bit(path, 3)
    flip_bit(path, SIZE_BYTES - 1)
    verify_file(path, store=shelf.store)
    inode = path.stat().st_ino
    reads = Reads(make_bytes())
    done = repair_file(shelf.store, path, reads.open)
    assert [(0, CHUNK_BYTES), (3 * CHUNK_BYTES, 12_345)] == reads.ranges
    assert ((0, 3), CHUNK_BYTES + 12_345, 0) == (
        done.bad_chunks,
        done.written_bytes,
        done.cut_bytes,
    )
    assert make_bytes() == path.read_bytes()
    assert inode == path.stat().st_ino
    assert not damage_path(path).exists()
    assert path.stat().st_mtime_ns == read_record(path).mtime_ns
    assert read_record(path).sha256 == done.sha256


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 7])
def test_a_cut_file_gets_its_end_back(shelf, path, good, size):
    os.truncate(path, size)
    done = repair_file(shelf.store, path, copies_in(good))
    assert tuple(range(size // CHUNK_BYTES, N_CHUNKS)) == done.bad_chunks
    assert Verdict.SOUND is verify_file(path, store=shelf.store).verdict


def test_what_is_too_much_is_cut_off_without_a_copy(shelf, path, tmp_path):
    with path.open("ab") as file:
        file.write(b"12345")
    done = repair_file(shelf.store, path, copies_in(tmp_path / "none"))
    assert ((), 0, 5) == (done.bad_chunks, done.written_bytes, done.cut_bytes)
    assert make_bytes() == path.read_bytes()


def test_a_sound_file_is_released_without_a_copy(shelf, path, tmp_path):
    flip_bit(path, 3)
    verify_file(path, store=shelf.store)
    flip_bit(path, 3)
    done = repair_file(shelf.store, path, copies_in(tmp_path / "none"))
    assert () == done.bad_chunks
    assert not damage_path(path).exists()


def test_a_bad_copy_is_named_with_its_chunk_and_writes_nothing_bad(shelf, path, good):
    for chunk in (0, 2):
        flip_bit(path, chunk * CHUNK_BYTES)
    flip_bit(good, 2 * CHUNK_BYTES + 9)
    with pytest.raises(GoodCopyBad, match=r"chunk 2 \(bytes 8388608-12582911\)"):
        repair_file(shelf.store, path, copies_in(good))
    assert (2,) == verify_file(path, store=shelf.store).bad_chunks
    flip_bit(good, 2 * CHUNK_BYTES + 9)
    assert (2,) == repair_file(shelf.store, path, copies_in(good)).bad_chunks


def test_without_a_copy_the_file_is_quarantined_and_untouched(shelf, path, tmp_path):
    flip_bit(path, 3)
    before = path.read_bytes()
    (tmp_path / "empty").mkdir()
    with pytest.raises(GoodCopyMissing):
        repair_file(shelf.store, path, copies_in(tmp_path / "empty"))
    assert before == path.read_bytes()
    damage = read_damage(path)
    assert ((0,), "1 of 4 chunks are bad (bytes 0-4194303)") == (
        damage.bad_chunks,
        damage.reason,
    )


def test_links_are_refused_because_the_bytes_are_others_too(shelf, path, good):
    flip_bit(path, 3)
    twin = path.with_name("twin.gguf")
    twin.hardlink_to(path)
    with pytest.raises(CannotRepair, match="it is hard-linked, so its bytes belong"):
        repair_file(shelf.store, path, copies_in(good))
    twin.unlink()
    path.rename(good.with_name("moved.gguf"))
    path.symlink_to(good.with_name("moved.gguf"))
    with pytest.raises(CannotRepair) as caught:
        repair_file(shelf.store, path, copies_in(good))
    assert (
        f"The file '{path}' cannot be repaired: it is a link, so its bytes belong to "
        "another folder too. Remove it by `cloister rm`, which leaves the other one "
        "alone, and import a good copy by `cloister import PATH --copy`."
    ) == caught.value.message


def test_other_folders_are_never_written_to(shelf, good):
    write_own_record(good)
    flip_bit(good, 3)
    before = good.read_bytes()
    with pytest.raises(CannotRepair, match="other folders are never written to"):
        repair_file(shelf.store, good, copies_in(good))
    assert before == good.read_bytes()


def test_without_a_record_or_a_file_there_is_nothing_to_mend(shelf, path, good):
    record_path(path).unlink()
    with pytest.raises(CannotRepair, match="it has no record"):
        repair_file(shelf.store, path, copies_in(good))
    path.unlink()
    with pytest.raises(CannotRepair, match="it is gone"):
        repair_file(shelf.store, path, copies_in(good))


def test_a_record_of_huge_chunks_is_refused(shelf, path, good):
    record = read_record(path)
    lie = msgspec.structs.replace(record, chunk_bytes=2**40, chunks=(record.sha256,))
    write_record(path, lie)
    with pytest.raises(CannotRepair, match=r"chunks of 1\.0 TiB.* 64\.0 MiB"):
        repair_file(shelf.store, path, copies_in(good))


def test_a_record_that_contradicts_itself_does_not_release(shelf, path, good):
    flip_bit(path, 3)
    verify_file(path, store=shelf.store)
    write_record(path, msgspec.structs.replace(read_record(path), sha256="0" * 64))
    with pytest.raises(CannotRepair, match="although each chunk is as recorded"):
        repair_file(shelf.store, path, copies_in(good))
    assert damage_path(path).exists()


def test_a_full_disk_is_told_before_anything_is_written(shelf, path, good, monkeypatch):
    os.truncate(path, CHUNK_BYTES)
    usage = shutil.disk_usage(path.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DiskFull) as caught:
        repair_file(shelf.store, path, copies_in(good))
    assert (SIZE_BYTES - CHUNK_BYTES, 1000) == (
        caught.value.needed_bytes,
        caught.value.free_bytes,
    )
    assert CHUNK_BYTES == path.stat().st_size
    assert damage_path(path).exists()


def test_a_file_that_another_process_replaced_is_not_released(shelf, path, good):
    flip_bit(path, 3)

    @contextlib.contextmanager
    def watch(label, _total_bytes):
        yield lambda _n_bytes: None
        if label.startswith("verifying"):
            shutil.copy(good, good.with_name("new")).replace(path)

    with pytest.raises(FileChanged, match="another file took its place"):
        repair_file(shelf.store, path, copies_in(good), watch=watch)
    assert damage_path(path).exists()


def test_the_watcher_hears_each_step_with_its_bytes(shelf, path, good):
    flip_bit(path, 3)
    heard = []

    @contextlib.contextmanager
    def watch(label, total_bytes):
        done = []
        yield done.append
        heard.append((label, total_bytes, sum(done)))

    repair_file(shelf.store, path, copies_in(good), watch=watch)
    assert [
        ("checking m.gguf", SIZE_BYTES, SIZE_BYTES),
        ("mending m.gguf", CHUNK_BYTES, CHUNK_BYTES),
        ("verifying m.gguf", SIZE_BYTES, SIZE_BYTES),
    ] == heard


REPAIR = """
import sys
from pathlib import Path
from model_store.good_copy import copies_in
from model_store.layout import Store
from model_store.repair import repair_file
print("ready", flush=True)
sys.stdin.readline()
repair_file(Store(Path(sys.argv[1])), Path(sys.argv[2]), copies_in(Path(sys.argv[3])))
"""


def test_killed_at_any_moment_it_stays_quarantined_and_can_be_repaired(
    shelf, path, good
):
    """After a kill the file is damaged and marked, or sound; never unmarked."""
    dice = random.Random(4)  # noqa: S311 - when a test kills
    n_cut = 0
    for delay_s in [dice.uniform(0.0, 0.15) for _ in range(5)]:
        for chunk in range(N_CHUNKS):
            flip_bit(path, chunk * CHUNK_BYTES)
        verify_file(path, store=shelf.store)
        with subprocess.Popen(
            [sys.executable, "-c", REPAIR, shelf.store.home, path, good],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            process.stdout.readline()
            process.stdin.write(b"\n")
            process.stdin.flush()
            time.sleep(delay_s)
            process.send_signal(signal.SIGKILL)
        was_marked = damage_path(path).exists()
        n_cut += was_marked
        is_good = path.read_bytes() == good.read_bytes()
        assert was_marked or is_good
        repair_file(shelf.store, path, copies_in(good))
        assert good.read_bytes() == path.read_bytes()
        assert not damage_path(path).exists()
    assert n_cut > 0


@pytest.mark.parametrize("step", ["checking", "mending", "verifying"])
def test_a_file_that_is_removed_meanwhile_is_told_to_be_gone(shelf, path, good, step):
    flip_bit(path, 3)

    @contextlib.contextmanager
    def watch(label, _total_bytes):
        yield lambda _n_bytes: None
        if label.startswith(step):
            path.unlink()

    with pytest.raises(CannotRepair, match=r"it is gone\. Import a good copy"):
        repair_file(shelf.store, path, copies_in(good), watch=watch)


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EROFS, StoreUnwritable)]
)
def test_what_the_disk_refuses_is_told_and_the_mark_stays(
    shelf, path, good, monkeypatch, number, kind
):
    flip_bit(path, 3)

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(kind):
        repair_file(shelf.store, path, copies_in(good))
    assert damage_path(path).exists()


def test_a_link_that_took_the_files_place_is_not_written_through(
    shelf, path, good, tmp_path
):
    flip_bit(path, 3)

    @contextlib.contextmanager
    def watch(label, _total_bytes):
        if label.startswith("mending"):
            path.rename(tmp_path / "moved.gguf")
            path.symlink_to(tmp_path / "moved.gguf")
        yield lambda _n_bytes: None

    with pytest.raises(StoreUnwritable, match="symbolic links"):
        repair_file(shelf.store, path, copies_in(good), watch=watch)

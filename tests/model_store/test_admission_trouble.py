"""Moves, links, damage, full disks, changing files: nothing is lost."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from model_store.admission import Incoming, admit
from model_store.digest import CHUNK_BYTES, hash_stream
from model_store.errors import (
    AlreadyTaken,
    DiskFull,
    FileChanged,
    StoreError,
)
from model_store.record import (
    Damage,
    Source,
    read_damage,
    read_record,
    write_damage,
)
from tests.model_store.admission_room import TARGET, list_store, sha256

ROOT = Path(__file__).resolve().parents[2]
STRING = 8
WRONG = "0" * 64


def test_a_damaged_file_is_replaced_by_a_good_one(store, take, usb):
    path = usb()
    stored = take(path).paths[0]
    stored.write_bytes(b"x" * 800)
    write_damage(stored, Damage("now", "a chunk differs", (0,)))
    result = take(path)
    assert not result.was_there
    assert path.read_bytes() == stored.read_bytes()
    assert read_damage(stored) is None
    assert stored.stat().st_mtime_ns == read_record(stored).mtime_ns


def test_a_damaged_file_is_not_replaced_by_another_one(store, take, usb, forge):
    stored = take(usb()).paths[0]
    write_damage(stored, Damage("now", "a chunk differs", (0,)))
    with pytest.raises(AlreadyTaken, match="it is damaged and was another file"):
        take(usb("o/m.gguf", tensors=(forge.Tensor(data=b"x" * 512),)))


@pytest.mark.parametrize("n_files", [1, 3])
def test_a_move_leaves_the_file_in_one_place(store, take, shards, usb, n_files):
    files = [usb()] if n_files == 1 else shards
    contents = [path.read_bytes() for path in files]
    result = take(*(Incoming(path, path.name, how="move") for path in files))
    assert contents == [path.read_bytes() for path in result.paths]
    assert [False] * n_files == [path.exists() for path in files]
    assert {"move"} == {record.linked for record in result.records}


def test_a_move_of_what_is_there_removes_the_source_if_it_is_the_same(take, usb):
    stored = take(usb()).paths[0]
    again = usb("again/m.gguf")
    assert take(Incoming(again, "m.gguf", how="move")).was_there
    assert (False, True) == (again.exists(), stored.exists())


def test_a_move_keeps_the_source_if_the_stored_bytes_are_bad(take, usb):
    stored = take(usb()).paths[0]
    facts = stored.stat()
    stored.write_bytes(b"x" * facts.st_size)
    os.utime(stored, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    again = usb("again/m.gguf")
    result = take(Incoming(again, "m.gguf", how="move"))
    assert again.exists()
    assert "was not removed where it was: the stored file is damaged" in result.notes[0]


def test_a_move_never_removes_the_stores_own_file(store, take, usb):
    stored = take(usb()).paths[0]
    take(Incoming(stored, "m.gguf", how="move"))
    link = stored.parents[3] / "link.gguf"
    link.symlink_to(stored)
    take(Incoming(link, "m.gguf", how="move"))
    assert stored.is_file()
    linked = usb("linked/n.gguf")
    kept = take(Incoming(linked, "n.gguf", how="symlink")).paths[0]
    take(Incoming(linked, "n.gguf", how="move"))
    assert kept.is_file()


@pytest.mark.parametrize("how", ["hardlink", "symlink"])
def test_a_link_needs_no_space(take, usb, how):
    path = usb()
    result = take(Incoming(path, "m.gguf", how=how))
    assert path.samefile(result.paths[0])
    assert (how == "symlink") == result.paths[0].is_symlink()
    assert how == result.records[0].linked
    assert take(Incoming(path, "m.gguf", how=how)).was_there


def test_a_linked_file_that_changes_before_it_is_published_is_refused(store, take, usb):
    path = usb()

    def write(_):
        path.write_bytes(path.read_bytes() + b"x")

    with pytest.raises(FileChanged, match=r"usb/m\.gguf"):
        take(Incoming(path, "m.gguf", how="hardlink"), progress=write)
    assert [] == list_store(store)


def test_a_file_that_changes_while_it_is_copied_is_refused(store, take, usb, forge):
    tensor = forge.Tensor(dimensions=(32, 2**17), data=bytes(2**24))
    path = usb(tensors=(tensor,))

    def grow(_):
        with path.open("ab") as file:
            file.write(b"x")

    with pytest.raises(FileChanged, match="Wait until nothing writes it any more"):
        take(path, progress=grow)
    assert [] == list_store(store)


def test_what_cancels_leaves_nothing(store, take, shards):
    def cancel(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take(*shards, progress=cancel)
    assert [] == list_store(store)


def test_bytes_that_were_digested_while_they_came_are_not_read_again(
    room, store, usb, take
):
    path = usb()
    with store.staging() as staging, path.open("rb") as stream:
        digest = hash_stream(stream.read, staging / "part", path.stat().st_size)
        incoming = Incoming(
            staging / "part", "m.gguf", sha256(path), "hub", "staged", digest
        )
        done = []
        result = admit(
            store, staging, [incoming], TARGET, room.source, progress=done.append
        )
    assert [] == done
    assert ("copy", "m.gguf", "hub") == (
        result.records[0].linked,
        result.records[0].source.file,
        result.records[0].verified_against,
    )
    assert 3 == len(list_store(store))


def test_a_file_larger_than_the_disk_is_refused_before_the_first_byte(store, take, usb):
    path = usb()
    os.truncate(path, 2**43)
    done = []
    with pytest.raises(DiskFull, match=r"8\.0 TiB .* are needed, .* are free"):
        take(path, progress=done.append)
    assert ([], []) == (done, list_store(store))


def test_many_threads_with_one_file_store_it_once(store, usb):
    path = usb()
    source = Source("sideload", str(path.parent))
    results, errors = [], []

    def run():
        try:
            with store.staging() as staging:
                incoming = [Incoming(path, "m.gguf")]
                results.append(admit(store, staging, incoming, TARGET, source))
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == errors
    assert 1 == sum(not each.was_there for each in results)
    assert 3 == len(list_store(store))


ON_SMALL_DISK = """
import sys; from pathlib import Path
from model_store.admission import Incoming, Target, admit
from model_store.errors import DiskFull
from model_store.layout import Store
from model_store.record import Source
path, how = Path(sys.argv[1]), sys.argv[3]
store = Store(Path(sys.argv[2]) / "home")
try:
    with store.staging() as staging:
        files = [Incoming(path, "m.gguf", how=how)]
        admit(store, staging, files, Target("a", "b"), Source("sideload", "/"))
except DiskFull as error:
    print(error.code, error.needed_bytes, error.free_bytes < error.needed_bytes)
print(sorted(p.name for p in store.models_dir.rglob("*")), path.exists())
"""


@pytest.mark.parametrize("how", ["copy", "move"])
def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path, usb, forge, how):
    tensor = forge.Tensor(dimensions=(32, 2**15), data=bytes(CHUNK_BYTES))
    path = usb(tensors=(tensor,))
    mount = tmp_path / "mount"
    mount.mkdir()
    script = (
        f"mount -t tmpfs -o size=3m none {mount} && "
        f'exec {sys.executable} -c "$CODE" {path} {mount} {how}'
    )
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "CODE": ON_SMALL_DISK},
        check=False,
    )
    if done.returncode and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    assert (0, "") == (done.returncode, done.stderr)
    assert (
        f"disk_full {path.stat().st_size} True\n"
        "['.cloister', 'incoming', 'lock'] True\n"
    ) == done.stdout

"""The only door: all or none, in order, nothing half there."""

import shutil

import msgspec
import pytest

from model_store import admission
from model_store.admission import Incoming, count_bytes, find_known
from model_store.errors import (
    AlreadyTaken,
    BadGguf,
    BadTarget,
    DigestMismatch,
    UnreadableFile,
)
from model_store.record import (
    read_record,
    record_path,
)
from tests.model_store.admission_room import TARGET, list_store, sha256

STRING = 8
WRONG = "0" * 64


def test_a_file_comes_in_with_its_record_and_checksum(store, take, usb):
    path = usb()
    expected = sha256(path)
    result = take(
        Incoming(path, "m.gguf", expected_sha256=expected, expected_by="--sha256")
    )
    assert (store.models_dir / "pub/repo/m.gguf",) == result.paths
    assert not result.was_there
    assert [
        "pub/repo/SHA256SUMS",
        "pub/repo/m.gguf",
        "pub/repo/m.gguf.record.json",
    ] == list_store(store)
    record = read_record(result.paths[0])
    assert result.records == (record,)
    facts = result.paths[0].stat()
    assert (expected, facts.st_size, facts.st_mtime_ns, "--sha256", "copy") == (
        record.sha256,
        record.size_bytes,
        record.mtime_ns,
        record.verified_against,
        record.linked,
    )
    assert ("llama", 128, "m.gguf") == (
        record.architecture,
        record.n_params,
        record.source.file,
    )
    assert path.read_bytes() == result.paths[0].read_bytes()


def test_a_wrong_checksum_keeps_the_file_out_whatever_was_asked(store, take, usb):
    path = usb()
    for how in ("copy", "move", "hardlink", "symlink"):
        with pytest.raises(DigestMismatch) as caught:
            take(Incoming(path, "m.gguf", WRONG, "SHA256SUMS", how))
        text = caught.value.message
        assert f"expected {WRONG} (SHA256SUMS)" in text
        assert f"actual   {sha256(path)}" in text
        assert path.is_file()
        assert [] == list_store(store)


def test_the_checksum_is_judged_before_the_content(take, usb):
    path = usb(content=b"this is no GGUF file at all")
    with pytest.raises(DigestMismatch):
        take(Incoming(path, "m.gguf", WRONG, "--sha256"))
    with pytest.raises(BadGguf, match=r"usb/m\.gguf.*begins with b'this'"):
        take(Incoming(path, "m.gguf", sha256(path), "--sha256"))


def test_sizes_are_judged_first(take, usb, monkeypatch):
    path = usb(content=b"GGUF")
    with pytest.raises(
        BadGguf, match="it has 4 bytes; from 24 to 17592186044416 are accepted"
    ):
        take(Incoming(path, "m.gguf", WRONG, "--sha256"))
    monkeypatch.setattr(admission, "MAX_FILE_BYTES", 100)
    with pytest.raises(BadGguf, match="it has 800 bytes; from 24 to 100"):
        take(usb("n.gguf"))


def test_the_same_file_again_is_no_work(store, take, usb):
    path = usb()
    first = take(path)
    done = []
    again = take(path, progress=done.append)
    assert again.was_there
    assert (first.paths, first.records) == (again.paths, again.records)
    assert [] == done


def test_the_same_bytes_from_elsewhere_are_already_there(store, take, usb):
    first = take(usb())
    again = take(usb("other/m.gguf"))
    assert again.was_there
    assert first.records == again.records


def test_other_bytes_under_the_name_are_refused(store, take, usb, forge):
    take(usb())
    other = usb("other/m.gguf", tensors=(forge.Tensor(data=b"x" * 512),))
    longer = usb("longer/m.gguf", content=forge().build() + b"more")
    before = list_store(store)
    with pytest.raises(AlreadyTaken, match=rf"SHA-256 is .*{sha256(other)}. Import"):
        take(other)
    with pytest.raises(AlreadyTaken, match=r"it has 800 bytes, .m\.gguf. has 804"):
        take(longer)
    assert before == list_store(store)


def test_a_file_that_lay_there_without_a_record_gets_one(store, take, usb):
    path = usb()
    stored = store.models_dir / "pub/repo/m.gguf"
    stored.parent.mkdir(parents=True)
    shutil.copy(path, stored)
    inode = stored.stat().st_ino
    result = take(path)
    assert result.was_there
    assert inode == stored.stat().st_ino
    assert sha256(path) == read_record(stored).sha256
    assert stored.stat().st_mtime_ns == read_record(stored).mtime_ns
    assert 3 == len(list_store(store))


def test_other_bytes_without_a_record_are_refused_too(store, take, usb):
    stored = store.models_dir / "pub/repo/m.gguf"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"mine")
    with pytest.raises(AlreadyTaken):
        take(usb())
    assert b"mine" == stored.read_bytes()


def test_shards_come_in_by_one_rename_of_their_folder(store, take, shards):
    result = take(*shards)
    assert [store.models_dir / "pub/repo" / p.name for p in shards] == [*result.paths]
    assert 7 == len(list_store(store))
    assert [3 * 128] * 3 == [record.n_params for record in result.records]
    assert take(*shards).was_there


def test_a_split_model_gets_its_own_folder_beside_others(store, take, shards, usb):
    take(usb("single.gguf"))
    result = take(*shards)
    assert store.models_dir / "pub/repo/m" == result.paths[0].parent
    again = take(*shards)
    assert (True, result.paths) == (again.was_there, again.paths)


def test_a_bad_shard_keeps_all_of_them_out(store, take, shards):
    shards[1].write_bytes(shards[1].read_bytes()[:-1])
    with pytest.raises(BadGguf, match=r"m-00002.*1 are missing"):
        take(*shards)
    assert [] == list_store(store)
    with pytest.raises(BadGguf, match="of which 1 are missing"):
        take(shards[0], shards[2])
    assert [] == list_store(store)


def test_missing_shards_are_added_to_those_that_are_there(store, take, shards):
    result = take(*shards)
    for path in (result.paths[0], result.paths[2]):
        path.unlink()
    again = take(*shards)
    assert not again.was_there
    assert result.paths == again.paths
    assert 7 == len(list_store(store))


def test_a_projector_joins_its_model(store, take, usb):
    model = usb()
    projector = usb("mmproj.gguf", keys={"general.architecture": (STRING, "clip")})
    take(model)
    result = take(model, projector)
    assert not result.was_there
    assert ["m.gguf", "mmproj.gguf"] == [path.name for path in result.paths]
    assert 1 == len({path.parent for path in result.paths})


def test_a_file_that_is_not_there_is_told(store, take, tmp_path):
    with pytest.raises(UnreadableFile, match="No such file or directory"):
        take(tmp_path / "none.gguf")


def test_names_and_targets_are_checked(take, usb):
    with pytest.raises(BadTarget):
        take(Incoming(usb(), "../m.gguf"))


def test_what_is_known_is_found_without_a_staging_area(room, store, take, usb):
    path = usb()
    files = [Incoming(path, "m.gguf")]
    assert find_known(store, files, TARGET, room.source) is None
    assert not store.home.exists()
    assert 800 == count_bytes(store, files, TARGET, room.source)
    result = take(path)
    known = find_known(store, files, TARGET, room.source)
    assert (True, result.paths) == (known.was_there, known.paths)
    assert 0 == count_bytes(store, files, TARGET, room.source)
    elsewhere = msgspec.structs.replace(room.source, location="/other")
    assert find_known(store, files, TARGET, elsewhere) is None
    announced = [Incoming(usb("o/m.gguf"), "m.gguf", sha256(path), "--sha256")]
    assert find_known(store, announced, TARGET, elsewhere).was_there
    result.paths[0].write_bytes(b"x" * 800)
    assert find_known(store, files, TARGET, room.source) is None


def test_a_broken_record_counts_as_none(store, take, usb):
    path = usb()
    stored = take(path).paths[0]
    record_path(stored).write_bytes(b"?")
    assert take(path).was_there
    assert sha256(path) == read_record(stored).sha256

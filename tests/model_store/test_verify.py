"""Files against their records and lists of checksums."""

import errno
import hashlib
import os
import random
import shutil

import pytest

from model_store import layout
from model_store import verify as module
from model_store.chunks import ByteRange
from model_store.digest import CHUNK_BYTES
from model_store.errors import StoreBusy, UnreadableFile
from model_store.layout import Store
from model_store.quarantine import identify
from model_store.record import (
    Damage,
    damage_path,
    read_damage,
    read_record,
    record_path,
    write_damage,
)
from model_store.verify import Verdict, check_quickly, has_reference, verify_file
from tests.model_store.stored_models import (
    N_CHUNKS,
    SIZE_BYTES,
    flip_bit,
    make_bytes,
    make_shelf,
    write_own_record,
)

N_OFFSETS = 200 if os.environ.get("CLOISTER_TEST_LONG") == "1" else 40


@pytest.fixture
def shelf(tmp_path):
    return make_shelf(tmp_path)


@pytest.fixture
def path(shelf):
    return shelf.put("p/r/m.gguf")


def list_tree(folder):
    """Describe every file below a folder with its bytes and time."""
    return {
        each: (each.stat().st_mtime_ns, each.read_bytes() if each.is_file() else b"")
        for each in sorted(folder.rglob("*"))
    }


def test_a_sound_file_is_sound_and_every_byte_is_told(shelf, path):
    told = []
    check = verify_file(path, store=shelf.store, progress=told.append)
    assert (Verdict.SOUND, "record", "") == (
        check.verdict,
        check.compared_with,
        check.reason,
    )
    assert hashlib.sha256(path.read_bytes()).hexdigest() == check.sha256
    assert SIZE_BYTES == check.size_bytes == sum(told)
    assert (False, None) == (check.is_failure, check.quarantine)


@pytest.mark.timeout(300)
def test_a_flipped_bit_is_found_wherever_it_is_and_its_chunk_is_named(shelf, path):
    dice = random.Random(20)  # noqa: S311 - which bits a test flips
    edges = [0, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES, SIZE_BYTES - 1]
    offsets = edges + [dice.randrange(SIZE_BYTES) for _ in range(N_OFFSETS - 5)]
    for number, offset in enumerate(offsets):
        bit = dice.randrange(8)
        flip_bit(path, offset, bit)
        check = verify_file(path, store=shelf.store)
        chunk = offset // CHUNK_BYTES
        assert (Verdict.DAMAGED, (chunk,), "kept" if number else "set") == (
            check.verdict,
            check.bad_chunks,
            check.quarantine,
        ), f"bit {bit} at {offset}"
        (where,) = check.bad_ranges
        assert where.first <= offset <= where.last
        assert where.last - where.first < CHUNK_BYTES
        assert (chunk,) == read_damage(path).bad_chunks
        flip_bit(path, offset, bit)
    assert "lifted" == verify_file(path, store=shelf.store).quarantine
    assert not damage_path(path).exists()


def test_the_text_has_both_digests(shelf, path):
    old = read_record(path).sha256
    flip_bit(path, 5)
    check = verify_file(path, store=shelf.store)
    new = hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"its SHA-256 is {new}, but its record says {old}" == check.reason


def test_a_cut_file_lacks_its_last_chunks(shelf, path):
    os.truncate(path, 2 * CHUNK_BYTES + 5)
    check = verify_file(path, store=shelf.store)
    assert (Verdict.DAMAGED, (2, 3), None) == (
        check.verdict,
        check.bad_chunks,
        check.sha256,
    )
    assert (ByteRange(2 * CHUNK_BYTES, SIZE_BYTES - 1),) == check.bad_ranges
    assert (
        "it has 8.0 MiB (8388613 bytes), but its record says 12.0 MiB (12595257 bytes)"
        == check.reason
    )


def test_a_file_with_more_bytes_is_damaged_without_a_bad_chunk(shelf, path):
    with path.open("ab") as file:
        file.write(b"x")
    check = verify_file(path, store=shelf.store)
    assert (Verdict.DAMAGED, ()) == (check.verdict, check.bad_chunks)
    assert () == read_damage(path).bad_chunks


def test_a_touched_file_is_sound_and_its_new_time_is_noted(shelf, path):
    os.utime(path, ns=(0, 99))
    quick = check_quickly(path)
    assert (Verdict.CHANGED, "it was written to after it was admitted") == (
        quick.verdict,
        quick.reason,
    )
    assert Verdict.SOUND is verify_file(path, store=shelf.store).verdict
    assert 99 == read_record(path).mtime_ns
    assert Verdict.SOUND is check_quickly(path).verdict


def test_the_time_of_the_first_finding_is_kept(shelf, path):
    write_damage(path, Damage("2001-01-01T00:00:00Z", "old", (3,)))
    flip_bit(path, 0)
    assert "kept" == verify_file(path, store=shelf.store).quarantine
    damage = read_damage(path)
    assert ("2001-01-01T00:00:00Z", (0,)) == (damage.found_at, damage.bad_chunks)


def test_nothing_is_written_into_other_folders(shelf, tmp_path):
    path = tmp_path / "lmstudio" / "p" / "r" / "m.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(make_bytes())
    write_own_record(path)
    os.utime(path, ns=(0, 99))
    flip_bit(path, 0)
    before = list_tree(tmp_path)
    check = verify_file(path, store=shelf.store)
    assert (Verdict.DAMAGED, None) == (check.verdict, check.quarantine)
    assert before == list_tree(tmp_path)


def test_a_list_of_checksums_counts_where_there_is_no_record(shelf, path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    record_path(path).unlink()
    assert has_reference(path)
    check = verify_file(path, store=shelf.store)
    assert (Verdict.SOUND, "SHA256SUMS", digest) == (
        check.verdict,
        check.compared_with,
        check.sha256,
    )
    flip_bit(path, 0)
    check = verify_file(path, store=shelf.store)
    assert (Verdict.DAMAGED, (), (), "set") == (
        check.verdict,
        check.bad_chunks,
        check.bad_ranges,
        check.quarantine,
    )
    assert check.reason.endswith(f"but SHA256SUMS says {digest}")


@pytest.mark.parametrize("line", ["{}", "{}  m.gguf"])
def test_a_digest_in_a_file_of_its_own_counts_too(tmp_path, line):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    (tmp_path / "m.gguf.sha256").write_text(line.format(digest))
    check = verify_file(path)
    assert (Verdict.SOUND, "m.gguf.sha256") == (check.verdict, check.compared_with)


def test_nothing_to_compare_with_is_no_failure(shelf, path):
    record_path(path).unlink()
    (path.parent / "SHA256SUMS").unlink()
    assert not has_reference(path)
    for check in (verify_file(path, store=shelf.store), check_quickly(path)):
        assert (Verdict.UNKNOWN, "nothing to compare with", False) == (
            check.verdict,
            check.reason,
            check.is_failure,
        )


def test_a_quarantine_without_a_record_stays(shelf, path):
    record_path(path).unlink()
    (path.parent / "SHA256SUMS").unlink()
    write_damage(path, Damage("2001-01-01T00:00:00Z", "old", ()))
    check = verify_file(path, store=shelf.store)
    assert (
        Verdict.DAMAGED,
        "kept",
        "it is quarantined (old), and there is nothing to compare with",
    ) == (check.verdict, check.quarantine, check.reason)
    assert Verdict.DAMAGED is check_quickly(path).verdict
    assert damage_path(path).exists()


def test_a_quick_check_sees_size_and_mark(shelf, path):
    os.truncate(path, 5)
    check = check_quickly(path)
    assert Verdict.CHANGED is check.verdict
    assert "it has 5 bytes, but its record says 12.0 MiB" in check.reason
    write_damage(path, Damage("2001-01-01T00:00:00Z", "old", (3,)))
    check = check_quickly(path)
    assert (Verdict.DAMAGED, "kept", (3,)) == (
        check.verdict,
        check.quarantine,
        check.bad_chunks,
    )
    assert (ByteRange(3 * CHUNK_BYTES, SIZE_BYTES - 1),) == check.bad_ranges


def test_a_file_that_is_gone_is_missing(shelf, path):
    path.unlink()
    for check in (verify_file(path, store=shelf.store), check_quickly(path)):
        assert (Verdict.MISSING, "it is gone", True) == (
            check.verdict,
            check.reason,
            check.is_failure,
        )


def test_a_file_that_cannot_be_opened_is_unreadable_and_not_marked(shelf, tmp_path):
    path = shelf.put("p/r/m.gguf", b"abc")
    path.unlink()
    path.mkdir()
    check = verify_file(path, store=shelf.store)
    assert Verdict.UNREADABLE is check.verdict
    assert not damage_path(path).exists()


def test_a_broken_record_is_a_failure_that_is_told(shelf, path):
    record_path(path).write_text("{")
    for check in (verify_file(path, store=shelf.store), check_quickly(path)):
        assert Verdict.UNREADABLE is check.verdict
    assert "m.gguf.record.json' cannot be used" in verify_file(path).reason
    assert not has_reference(path)


def test_lost_blocks_are_damage_and_name_the_chunk(shelf, path, monkeypatch):
    def fail(*_):
        lost = OSError(errno.EIO, "Input/output error")
        raise UnreadableFile(path, "Input/output error") from lost

    monkeypatch.setattr(module, "hash_file", fail)
    monkeypatch.setattr(module, "find_bad_chunks", lambda *_: (2,))
    check = verify_file(path, store=shelf.store)
    assert (Verdict.DAMAGED, (2,), "set", "Input/output error") == (
        check.verdict,
        check.bad_chunks,
        check.quarantine,
        check.reason,
    )


def test_chunks_of_another_length_are_compared_too(shelf, path):
    content = path.read_bytes()
    pieces = [content[i : i + 5_000_000] for i in range(0, SIZE_BYTES, 5_000_000)]
    write_own_record(
        path,
        chunk_bytes=5_000_000,
        chunks=tuple(hashlib.sha256(piece).hexdigest() for piece in pieces),
    )
    flip_bit(path, 9_999_999)
    check = verify_file(path, store=shelf.store)
    assert ((1,), (ByteRange(5_000_000, 9_999_999),)) == (
        check.bad_chunks,
        check.bad_ranges,
    )


def test_a_record_that_contradicts_itself_is_told(shelf, path):
    write_own_record(path, sha256="0" * 64)
    check = verify_file(path, store=shelf.store)
    assert Verdict.DAMAGED is check.verdict
    assert check.reason.endswith(
        "although every chunk is as recorded: the record is wrong"
    )


def test_a_store_that_cannot_be_written_is_reported_on_all_the_same(
    shelf, path, monkeypatch
):
    flip_bit(path, 0)

    def refuse(*_args, **_options):
        raise module.StoreUnwritable(path, "Read-only file system")

    monkeypatch.setattr(module, "set_aside", refuse)
    check = verify_file(path, store=shelf.store)
    assert (Verdict.DAMAGED, (0,), None) == (
        check.verdict,
        check.bad_chunks,
        check.quarantine,
    )


def test_a_copy_of_the_store_with_other_times_is_sound(shelf, path, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(path.parent, copy, copy_function=shutil.copyfile)
    assert identify(copy / path.name).size_bytes == SIZE_BYTES
    assert Verdict.SOUND is verify_file(copy / path.name).verdict
    assert N_CHUNKS == len(read_record(copy / path.name).chunks)


def test_a_list_without_this_file_says_nothing_about_it(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"abc")
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  other.gguf\n")
    assert Verdict.UNKNOWN is verify_file(path).verdict
    (tmp_path / "m.gguf.sha256").write_text(f"{'0' * 64}  other.gguf\n")
    assert Verdict.UNKNOWN is verify_file(path).verdict


def test_a_store_that_stays_busy_is_an_error(shelf, path, monkeypatch):
    """The mark could not be set: nobody may believe that it was."""
    monkeypatch.setattr(layout, "LOCK_WAIT_S", 0.05)
    flip_bit(path, 0)
    with shelf.store.exclusive(), pytest.raises(StoreBusy):
        verify_file(path, store=Store(shelf.store.home))
    assert not damage_path(path).exists()


def test_another_refusal_of_the_disk_is_no_damage(shelf, path, monkeypatch):
    def fail(*_):
        refused = PermissionError(errno.EACCES, "Permission denied")
        raise UnreadableFile(path, "Permission denied") from refused

    monkeypatch.setattr(module, "hash_file", fail)
    check = verify_file(path, store=shelf.store)
    assert (Verdict.UNREADABLE, "Permission denied") == (check.verdict, check.reason)
    assert not damage_path(path).exists()

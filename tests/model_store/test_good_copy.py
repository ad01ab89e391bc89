"""Where a repair takes bytes from."""

import shutil

import pytest

from model_store import good_copy as module
from model_store.digest import CHUNK_BYTES
from model_store.errors import UnreadableFile
from model_store.good_copy import (
    FileCopy,
    GoodCopyBad,
    GoodCopyMissing,
    copies_in,
    find_copies,
    read_good_chunk,
    tell_source,
)
from model_store.record import Source, read_record
from tests.model_store.stored_models import (
    SIZE_BYTES,
    flip_bit,
    make_bytes,
    make_shelf,
)


@pytest.fixture
def path(tmp_path):
    return make_shelf(tmp_path).put("p/r/m.gguf")


@pytest.fixture
def usb(tmp_path, path):
    """Give a folder with a copy far below, and files that are none."""
    folder = tmp_path / "usb"
    (folder / "a" / "b").mkdir(parents=True)
    shutil.copy(path, folder / "a" / "b" / "m.gguf")
    (folder / "small.gguf").write_bytes(b"abc")
    return folder


def names(copies):
    return [copy.name for copy in copies]


def test_a_copy_is_found_in_a_folder_by_its_size(path, usb):
    record = read_record(path)
    copy = usb / "a" / "b" / "m.gguf"
    assert [str(copy)] == names(find_copies(usb, path, record))
    assert [str(copy)] == names(find_copies(copy, path, record))
    with copies_in(usb)(path, record) as copies:
        assert [str(copy)] == names(copies)


def test_files_of_the_same_name_are_tried_first_whatever_their_place(path, usb):
    shutil.copy(path, usb / "a" / "a.gguf")
    found = find_copies(usb, path, read_record(path))
    assert [str(usb / "a" / "b" / "m.gguf"), str(usb / "a" / "a.gguf")] == names(found)


def test_the_damaged_file_is_no_copy_of_itself(path):
    record = read_record(path)
    with pytest.raises(GoodCopyMissing, match="it is the damaged file itself"):
        find_copies(path, path, record)
    with pytest.raises(GoodCopyMissing, match=r"it holds no file of 12\.0 MiB"):
        find_copies(path.parent, path, record)


def test_what_cannot_be_a_copy_is_refused_with_both_sizes(path, usb):
    with pytest.raises(GoodCopyMissing) as caught:
        find_copies(usb / "small.gguf", path, read_record(path))
    assert (
        f"No good copy at '{usb / 'small.gguf'}': it has 3 bytes, the record demands "
        "12.0 MiB (12595257 bytes). Name the file itself, a folder that holds it, or "
        "a repository of a hub."
    ) == caught.value.message
    with pytest.raises(UnreadableFile, match="No such file or directory"):
        find_copies(usb / "none", path, read_record(path))


def test_what_cannot_be_looked_at_in_a_folder_is_passed_over(path, usb):
    (usb / "loop.gguf").symlink_to("loop.gguf")
    (usb / "pipe.gguf").symlink_to(usb)
    assert 1 == len(find_copies(usb, path, read_record(path)))


def test_a_search_ends_at_its_limit(path, usb, monkeypatch):
    monkeypatch.setattr(module, "MAX_LOOKED_AT", 1)
    with pytest.raises(GoodCopyMissing):
        find_copies(usb, path, read_record(path))


def test_bytes_are_read_from_the_middle_and_end_with_the_file(path):
    copy = FileCopy(path)
    content = path.read_bytes()
    assert content[7:107] == copy.read(7, 100)
    assert content[-5:] == copy.read(SIZE_BYTES - 5, 100)
    path.unlink()
    with pytest.raises(UnreadableFile, match="No such file"):
        copy.read(0, 1)


def test_of_several_copies_the_one_that_has_the_chunk_right_is_taken(path, usb):
    record = read_record(path)
    good = usb / "a" / "b" / "m.gguf"
    bad = shutil.copy(path, usb / "bad.gguf")
    flip_bit(bad, CHUNK_BYTES + 3)
    gone = FileCopy(usb / "gone.gguf")
    data = read_good_chunk(
        [gone, FileCopy(bad), FileCopy(good)], file=path, record=record, chunk=1
    )
    assert make_bytes()[CHUNK_BYTES : 2 * CHUNK_BYTES] == data
    with pytest.raises(GoodCopyBad) as caught:
        read_good_chunk([gone, FileCopy(bad)], file=path, record=record, chunk=1)
    assert (
        f"The copy '{gone.name}' and '{bad}' cannot mend '{path}': chunk 1 (bytes "
        "4194304-8388607) of it does not have the recorded SHA-256. Repair from "
        "another copy; what was already mended stays mended."
    ) == caught.value.message
    with pytest.raises(UnreadableFile, match=r"gone\.gguf"):
        read_good_chunk([gone], file=path, record=record, chunk=1)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (Source(kind="sideload", location="/m", file="a.gguf"), "sideload: /m/a.gguf"),
        (
            Source(kind="sideload", location="/m/a.gguf", file="a.gguf"),
            "sideload: /m/a.gguf",
        ),
        (
            Source(
                kind="hub",
                location="pub/name",
                revision="abc",
                file="a.gguf",
                endpoint="https://hub",
            ),
            "hub: pub/name/a.gguf at abc from https://hub",
        ),
    ],
)
def test_a_source_is_told_in_one_line(source, expected):
    assert expected == tell_source(source)

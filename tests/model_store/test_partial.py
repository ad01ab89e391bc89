"""Where files are collected while they are fetched."""

import os

import pytest

from model_store.errors import DiskFull, StoreUnwritable
from model_store.hub_errors import DownloadRunning
from model_store.layout import Store
from model_store.partial import append, hold_partial, locate_partial, measure
from model_store.remote import RemoteFile, RemoteRepository


def make_repository(name="a/b", commit="a" * 40):
    return RemoteRepository(id=name, endpoint="", commit=commit, files=())


def test_the_same_content_has_the_same_place_wherever_it_comes_from(tmp_path):
    store = Store(tmp_path)
    file = RemoteFile("m.gguf", 5, "d" * 64)
    place = locate_partial(store, make_repository(), file)
    assert tmp_path / "models/.cloister/partial" / f"{'d' * 64}.part" == place
    other = make_repository("c/d", "b" * 40)
    assert place == locate_partial(store, other, RemoteFile("x.gguf", 5, "d" * 64))


def test_unknown_content_is_kept_apart_by_commit_and_path(tmp_path):
    store = Store(tmp_path)
    places = {
        locate_partial(store, repository, RemoteFile(path, 5))
        for repository in (make_repository(), make_repository(commit="b" * 40))
        for path in ("m.gguf", "n.gguf")
    }
    assert 4 == len(places)


def test_a_place_has_one_holder_and_its_lock_goes_with_it(tmp_path):
    partial = tmp_path / "p" / "x.part"
    with hold_partial(partial, "x"):
        with pytest.raises(DownloadRunning), hold_partial(partial, "x"):
            pass
        partial.write_bytes(b"1")
    assert ["x.lock", "x.part"] == sorted(
        path.name for path in partial.parent.iterdir()
    )
    with hold_partial(partial, "x"):
        partial.unlink()
    assert [] == list(partial.parent.iterdir())


def test_pieces_that_break_off_are_kept(tmp_path):
    def pieces():
        yield b"ab"
        yield b"c"
        raise KeyboardInterrupt

    done = []
    partial = tmp_path / "x.part"
    with pytest.raises(KeyboardInterrupt):
        append(pieces(), partial, done.append)
    append([b"d"], partial)
    assert (b"abcd", 4, [2, 1]) == (partial.read_bytes(), measure(partial), done)
    assert 0 == measure(tmp_path / "absent")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
def test_a_full_disk_is_told_from_a_folder_that_cannot_be_written(tmp_path):
    full = tmp_path / "x.part"
    full.symlink_to("/dev/full")
    with pytest.raises(DiskFull):
        append([b"x" * 100_000], full)
    with pytest.raises(StoreUnwritable, match="Is a directory"):
        append([b"x"], tmp_path)

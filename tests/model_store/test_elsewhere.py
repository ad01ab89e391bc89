"""A model found anywhere in the store by what its record says."""

import pytest

from model_store.admission import Incoming, Target, admit
from model_store.elsewhere import find_elsewhere
from model_store.layout import Store
from model_store.record import Source, record_path

UINT32 = 4


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "home")


@pytest.fixture
def source(tmp_path):
    return Source("sideload", str(tmp_path / "usb"))


@pytest.fixture
def take(store, source):
    def run(*paths, target="a/b"):
        files = [Incoming(path, path.name) for path in paths]
        with store.staging() as staging:
            admit(store, staging, files, Target(*target.split("/")), source)
        return files

    return run


def test_an_empty_store_has_nothing(store, source, place):
    files = [Incoming(place("m.gguf", root="usb"), "m.gguf")]
    assert find_elsewhere(store, files, source) is None


def test_it_is_found_by_its_source(store, source, take, place):
    files = take(place("m.gguf", root="usb"))
    found = find_elsewhere(store, files, source)
    assert (True, store.models_dir / "a/b/m.gguf") == (found.was_there, found.paths[0])
    files[0].path.touch()
    assert find_elsewhere(store, files, source) is None


def test_it_is_found_by_its_digest_though_it_comes_from_elsewhere(
    store, source, take, place
):
    take(place("m.gguf", root="usb"))
    found = find_elsewhere(
        store, take(place("m.gguf", root="usb"), target="c/d"), source
    )
    digest = found.records[0].sha256
    other = [Incoming(place("other/x.gguf"), "x.gguf", digest, "--sha256")]
    # The first folder by name, where several have it.
    assert "a/b/m.gguf" == str(
        find_elsewhere(store, other, source).paths[0].relative_to(store.models_dir)
    )
    wrong = [Incoming(other[0].path, "x.gguf", "0" * 64, "--sha256")]
    assert find_elsewhere(store, wrong, source) is None


def test_all_files_must_be_there_in_one_folder(store, source, take, place, forge):
    paths = [
        place(
            f"m-0000{number + 1}-of-00002.gguf",
            root="usb",
            keys={"split.no": (UINT32, number), "split.count": (UINT32, 2)},
        )
        for number in range(2)
    ]
    files = take(*paths)
    assert 2 == len(find_elsewhere(store, files, source).paths)
    (store.models_dir / "a/b" / paths[1].name).unlink()
    assert find_elsewhere(store, files, source) is None


def test_files_that_changed_or_have_no_record_do_not_count(store, source, take, place):
    files = take(place("m.gguf", root="usb"))
    stored = store.models_dir / "a/b/m.gguf"
    content = record_path(stored).read_bytes()
    record_path(stored).write_bytes(b"?")
    assert find_elsewhere(store, files, source) is None
    record_path(stored).write_bytes(content)
    assert find_elsewhere(store, files, source) is not None
    stored.touch()
    assert find_elsewhere(store, files, source) is None

"""Bundles in parts: found by any name, and what is missing is named."""

import os
import shutil

import pytest

from model_store.bundle_reader import open_bundle
from model_store.errors import UnreadableFile
from model_store.layout import Store
from model_store.parts import BadParts
from tests.model_store.bundle_forge import pack, refuse, stock


@pytest.fixture(scope="module")
def stocked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stocked")
    return stock(folder / "home", n_bytes=64 * 2**10)


@pytest.fixture
def store(stocked, tmp_path):
    shutil.copytree(stocked.home, tmp_path / "home")
    return Store(tmp_path / "home")


@pytest.fixture
def split(store, tmp_path):
    (tmp_path / "parts").mkdir()
    big = store.models_dir / "acme/tiny/LICENSE"
    big.write_bytes(os.urandom(2**20))
    written = pack(store, tmp_path / "parts" / "b.tar", split_bytes=2**20)
    assert 2 == len(written.paths)
    return written.paths


@pytest.mark.parametrize("suffix", ["", ".001", ".002"])
def test_parts_are_found_by_any_name(split, suffix):
    with open_bundle(split[0].with_name("b.tar" + suffix)) as opened:
        opened.check_contents()
        assert (split, "b.tar") == (opened.paths, opened.name)


def test_a_missing_part_is_named(split):
    split[0].unlink()
    assert "of its parts b.tar.001 is missing" == refuse(split[1], BadParts)


def test_a_missing_last_part_is_noticed(split):
    size = split[0].stat().st_size
    total = size + split[1].stat().st_size
    split[1].unlink()
    assert (
        f"it has {size} bytes and must have {total}; {total - size} are missing behind "
        "the end of 'b.tar.001'"
    ) == refuse(split[0], BadParts)


def test_swapped_parts_are_refused(split):
    hidden = split[0].with_name("x")
    split[0].rename(hidden)
    split[1].rename(split[0])
    hidden.rename(split[1])
    refuse(split[0], BadParts)


def test_swapped_parts_of_one_size_are_refused(store, tmp_path):
    (store.models_dir / "acme/tiny/LICENSE").write_bytes(os.urandom(2**20))
    (store.models_dir / "acme/tiny/NOTICE").write_bytes(os.urandom(2**20))
    paths = pack(store, tmp_path / "b.tar", split_bytes=2**20).paths
    assert 4 > len(paths) > 2
    first, second = paths[0].read_bytes(), paths[1].read_bytes()
    paths[0].write_bytes(second)
    paths[1].write_bytes(first)
    assert "byte 0 of 'b.tar.001'" in refuse(paths[0])


def test_a_bundle_that_is_not_there_says_so(tmp_path):
    with pytest.raises(UnreadableFile) as caught, open_bundle(tmp_path / "no.tar"):
        pass
    assert "there is no such file and no part of it" == caught.value.reason


def test_a_pipe_is_no_bundle(tmp_path):
    os.mkfifo(tmp_path / "b.tar")
    with pytest.raises(UnreadableFile), open_bundle(tmp_path / "b.tar"):
        pass

"""One file on its way into a staging area."""

import hashlib

import pytest

from model_store.digest import hash_file
from model_store.errors import (
    CannotLink,
    DigestMismatch,
    StoreUnwritable,
    UnreadableFile,
)
from model_store.intake import Incoming, make_content, receive, source_of
from model_store.record import Source

SOURCE = Source("sideload", "/mnt/usb")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "usb.gguf"
    path.write_bytes(b"x" * 100)
    return path


@pytest.fixture
def content(tmp_path):
    return make_content(tmp_path)


def test_a_staging_area_is_used_once(content, tmp_path):
    with pytest.raises(StoreUnwritable, match="File exists"):
        make_content(tmp_path)


@pytest.mark.parametrize("how", ["copy", "move", "hardlink", "symlink"])
def test_each_way_gives_the_digest_and_keeps_the_source(file, content, how):
    arrival = receive(Incoming(file, "m.gguf", how=how), None, content, SOURCE, None)
    assert file.read_bytes() == (content / "m.gguf").read_bytes()
    assert hash_file(file).sha256 == arrival.record.sha256
    assert (how, "usb.gguf", None) == (
        arrival.record.linked,
        arrival.record.source.file,
        arrival.record.verified_against,
    )
    assert (how in {"move", "hardlink"}) == (file.stat().st_nlink == 2)
    assert arrival.staged.stat().st_mtime_ns == arrival.record.mtime_ns


def test_a_digest_is_compared_in_any_case(file, content):
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    incoming = Incoming(file, "m.gguf", digest.upper(), "--sha256")
    arrival = receive(incoming, None, content, SOURCE, None)
    assert "--sha256" == arrival.record.verified_against
    wrong = Incoming(file, "n.gguf", digest[::-1], None)
    with pytest.raises(DigestMismatch, match=r"\(the source\)"):
        receive(wrong, None, content, SOURCE, None)


def test_a_place_that_is_taken_in_the_area_is_told(file, content):
    for how, error in (
        ("copy", StoreUnwritable),
        ("move", StoreUnwritable),
        ("hardlink", CannotLink),
        ("symlink", CannotLink),
    ):
        receive(Incoming(file, f"{how}.gguf"), None, content, SOURCE, None)
        with pytest.raises(error, match="File exists"):
            receive(Incoming(file, f"{how}.gguf", how=how), None, content, SOURCE, None)


def test_a_digest_that_does_not_fit_the_size_is_not_believed(file, content, tmp_path):
    digest = hash_file(file)
    part = tmp_path / "part"
    part.write_bytes(b"y" * 99)
    arrival = receive(
        Incoming(part, "m.gguf", how="staged", digest=digest),
        None,
        content,
        SOURCE,
        None,
    )
    assert hashlib.sha256(b"y" * 99).hexdigest() == arrival.record.sha256


def test_a_link_to_nothing_names_the_source(content, tmp_path):
    with pytest.raises(UnreadableFile, match=r"gone\.gguf"):
        receive(
            Incoming(tmp_path / "gone.gguf", "m.gguf", how="symlink"),
            None,
            content,
            SOURCE,
            None,
        )


def test_the_source_of_a_file_names_it(tmp_path):
    path = tmp_path / "a\n.gguf"
    assert "a.gguf" == source_of(Incoming(path, "m.gguf"), SOURCE).file
    assert "m.gguf" == source_of(Incoming(path, "m.gguf", how="staged"), SOURCE).file
    given = Incoming(path, "m.gguf", source_file="sub/a.gguf")
    assert "sub/a.gguf" == source_of(given, SOURCE).file

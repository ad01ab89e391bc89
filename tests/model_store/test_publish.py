"""The last steps: what is there, what is placed, what is removed."""

import hashlib
import os

import pytest

from model_store.errors import AlreadyTaken, FileChanged, StoreUnwritable
from model_store.publish import (
    Arrival,
    check_unchanged,
    find_standing,
    publish,
    remove_source,
)
from model_store.record import (
    Damage,
    Record,
    Source,
    read_record,
    write_damage,
    write_record,
)


def describe(path, content=b"x"):
    digest = hashlib.sha256(content).hexdigest()
    return Record(
        file_name=path.name,
        size_bytes=len(content),
        mtime_ns=path.stat().st_mtime_ns,
        sha256=digest,
        chunks=(digest,),
        admitted_at="2026-11-22T10:00:00Z",
        verified_against=None,
        source=Source("sideload", "/mnt"),
        licence=None,
        architecture=None,
        quantization=None,
        n_params=None,
        template_sha256=None,
        linked="copy",
    )


@pytest.fixture
def arrive(tmp_path):
    """Return a function that stages a file."""
    staging = tmp_path / "staging"
    (staging / "content").mkdir(parents=True)

    def run(name="m.gguf", content=b"x", **fields):
        staged = staging / "content" / name
        staged.write_bytes(content)
        record = describe(staged, content)
        origin = tmp_path / "usb" / name
        return Arrival(name=name, origin=origin, staged=staged, record=record, **fields)

    run.staging = staging
    return run


@pytest.fixture
def repository(tmp_path):
    return tmp_path / "models/pub/repo"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_that_stands_there_is_sound_if_its_record_says_so(repository):
    repository.mkdir(parents=True)
    file = repository / "m.gguf"
    assert find_standing(repository, "m", "m.gguf") is None
    file.write_bytes(b"x")
    found = find_standing(repository, "m", "m.gguf")
    assert (None, False, False) == (found.record, found.is_sound, found.is_damaged)
    write_record(file, describe(file))
    assert find_standing(repository, "m", "m.gguf").is_sound
    write_damage(file, Damage("now", "x", ()))
    found = find_standing(repository, "m", "m.gguf")
    assert (False, True) == (found.is_sound, found.is_damaged)


def test_a_file_is_also_looked_for_in_its_models_folder(repository):
    (repository / "m").mkdir(parents=True)
    (repository / "m/m.gguf").write_bytes(b"x")
    found = find_standing(repository, "m", "m.gguf")
    assert repository / "m/m.gguf" == found.path


def test_a_dangling_link_is_told(repository):
    repository.mkdir(parents=True)
    (repository / "m.gguf").symlink_to("nowhere")
    with pytest.raises(AlreadyTaken, match="it is a link to a file that is not there"):
        find_standing(repository, "m", "m.gguf")


def test_one_file_is_placed_beside_others(repository, arrive):
    repository.mkdir(parents=True)
    (repository / "other.gguf").write_bytes(b"o")
    (placed,) = publish(repository, "m", [arrive()], arrive.staging)
    assert (repository / "m.gguf", True) == (placed.path, placed.is_new)
    assert [
        "SHA256SUMS",
        "m.gguf",
        "m.gguf.record.json",
        "other.gguf",
    ] == names(repository)


def test_several_files_are_placed_as_a_folder(repository, arrive):
    arrivals = [arrive("a.gguf"), arrive("b.gguf")]
    placed = publish(repository, "ab", arrivals, arrive.staging)
    assert [repository / "a.gguf", repository / "b.gguf"] == [p.path for p in placed]
    again = [arrive("c.gguf"), arrive("d.gguf")]
    placed = publish(repository, "cd", again, arrive.staging)
    assert repository / "cd/c.gguf" == placed[0].path


def test_a_folder_that_holds_something_else_is_not_touched(repository, arrive):
    (repository / "ab").mkdir(parents=True)
    (repository / "ab/mine.txt").write_text("x")
    with pytest.raises(AlreadyTaken, match="it is a folder that holds other files"):
        publish(repository, "ab", [arrive("a.gguf"), arrive("b.gguf")], arrive.staging)
    assert ["mine.txt"] == names(repository / "ab")


def test_staged_bytes_that_changed_are_not_published(repository, arrive):
    arrival = arrive()
    check_unchanged(arrival)
    os.utime(arrival.staged, ns=(1, 1))
    with pytest.raises(FileChanged, match=r"usb/m\.gguf.*written again"):
        publish(repository, "m", [arrival], arrive.staging)
    assert not repository.exists()
    arrival.staged.unlink()
    with pytest.raises(FileChanged, match="No such file"):
        check_unchanged(arrival)


def test_a_file_that_appeared_meanwhile_is_not_overwritten(repository, arrive):
    arrival = arrive()
    repository.mkdir(parents=True)
    (repository / "m.gguf").write_bytes(b"x")
    with pytest.raises(AlreadyTaken, match="it appeared or changed while"):
        publish(repository, "m", [arrival], arrive.staging)
    assert ["m.gguf"] == names(repository)


def test_one_that_cannot_be_placed_keeps_all_out(repository, arrive):
    repository.mkdir(parents=True)
    (repository / "b.gguf").write_bytes(b"other")
    arrivals = [arrive("a.gguf"), arrive("b.gguf")]
    with pytest.raises(AlreadyTaken):
        publish(repository, "ab", arrivals, arrive.staging)
    assert ["b.gguf"] == names(repository)


def test_a_file_in_the_place_of_a_folder_is_told(repository, arrive):
    repository.parent.parent.mkdir(parents=True)
    repository.parent.write_text("x")
    with pytest.raises(StoreUnwritable, match="pub"):
        publish(repository, "m", [arrive()], arrive.staging)


def test_a_record_is_brought_up_to_date(repository, arrive):
    (placed,) = publish(repository, "m", [arrive()], arrive.staging)
    (again,) = publish(repository, "m", [arrive()], arrive.staging)
    assert (False, placed.record) == (again.is_new, read_record(again.path))


def test_a_moved_source_is_removed_unless_it_is_the_stored_file(tmp_path):
    stored, source = tmp_path / "stored", tmp_path / "source"
    stored.write_bytes(b"x")
    source.write_bytes(b"x")
    assert remove_source(source, stored) is None
    assert not source.exists()
    assert "No such file or directory" == remove_source(source, stored)
    source.symlink_to(stored)
    assert remove_source(source, stored) is None
    assert stored.exists()

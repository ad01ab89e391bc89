"""The mark beside a damaged file."""

import os

import msgspec
import pytest

from model_store.chunks import ByteRange
from model_store.digest import CHUNK_BYTES
from model_store.errors import FileChanged
from model_store.quarantine import (
    identify,
    is_ours,
    lift,
    now,
    ranges_of,
    set_aside,
    tell_quarantine,
)
from model_store.record import (
    Damage,
    damage_path,
    read_damage,
    read_record,
    record_path,
)
from tests.model_store.stored_models import SIZE_BYTES, make_shelf

DAMAGE = Damage("2026-11-22T10:00:00Z", "its SHA-256 is wrong", (1,))


@pytest.fixture
def shelf(tmp_path):
    return make_shelf(tmp_path)


@pytest.fixture
def path(shelf):
    return shelf.put("p/r/m.gguf")


def test_a_linked_folder_is_not_ours_but_a_linked_file_is(shelf, path, tmp_path):
    other = tmp_path / "lmstudio" / "r"
    other.mkdir(parents=True)
    (other / "o.gguf").write_bytes(b"x")
    (shelf.store.models_dir / "q").symlink_to(other.parent)
    (path.parent / "l.gguf").symlink_to(other / "o.gguf")
    assert is_ours(shelf.store, path)
    assert is_ours(shelf.store, path.parent / "l.gguf")
    assert not is_ours(shelf.store, other / "o.gguf")
    assert not is_ours(shelf.store, shelf.store.models_dir / "q" / "r" / "o.gguf")


def test_a_mark_is_set_and_lifted(shelf, path):
    set_aside(shelf.store, path, DAMAGE, seen=identify(path))
    assert DAMAGE == read_damage(path)
    lift(shelf.store, path, seen=identify(path), record=None)
    assert read_damage(path) is None
    assert path.exists()


def test_lifting_notes_the_new_time_of_the_same_bytes(shelf, path):
    record = read_record(path)
    os.utime(path, ns=(0, 77))
    lift(shelf.store, path, seen=identify(path), record=record)
    assert msgspec.structs.replace(record, mtime_ns=77) == read_record(path)


def test_another_file_in_its_place_is_not_marked(shelf, path):
    seen = identify(path)
    path.write_bytes(b"another")
    with pytest.raises(FileChanged, match="another file took its place"):
        set_aside(shelf.store, path, DAMAGE, seen=seen)
    with pytest.raises(FileChanged, match="another file took its place"):
        lift(shelf.store, path, seen=seen, record=None)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        set_aside(shelf.store, path, DAMAGE, seen=seen)
    assert not damage_path(path).exists()


def test_the_text_tells_since_when_which_bytes_and_what_to_do(path):
    assert (
        f"The file '{path}' is quarantined since 2026-11-22T10:00:00Z and is not "
        "served: its SHA-256 is wrong (bytes 4194304-8388607). Rewrite the bad bytes "
        "from a good copy by `cloister repair tiny --from PATH`, or check the file "
        "again by `cloister verify tiny`."
    ) == tell_quarantine(path, "tiny", DAMAGE)
    bare = tell_quarantine(path, "tiny", Damage("", "unreadable.", ()))
    assert f"'{path}' is quarantined and is not served: unreadable. Rewrite" in bare


def test_the_last_chunk_ends_where_the_record_says(path):
    last = ByteRange(3 * CHUNK_BYTES, SIZE_BYTES - 1)
    assert (last,) == ranges_of(path, (3,))
    record_path(path).write_text("{")
    assert (ByteRange(3 * CHUNK_BYTES, 4 * CHUNK_BYTES - 1),) == ranges_of(path, (3,))
    assert () == ranges_of(path, ())


def test_the_time_is_utc_with_seconds():
    assert len("2026-11-22T10:00:00Z") == len(now())
    assert now().endswith("Z")

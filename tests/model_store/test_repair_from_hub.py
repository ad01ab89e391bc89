"""A repair that asks a hub for the bad bytes alone."""

import pytest

from model_store.digest import CHUNK_BYTES
from model_store.good_copy import GoodCopyBad, GoodCopyMissing, copies_on_hub
from model_store.record import Source, damage_path
from model_store.repair import repair_file
from tests.hub_server import Fault, HubServer
from tests.model_store.stored_models import (
    SIZE_BYTES,
    flip_bit,
    make_bytes,
    make_shelf,
    write_own_record,
)


@pytest.fixture
def shelf(tmp_path):
    return make_shelf(tmp_path)


@pytest.fixture
def path(shelf):
    return shelf.put("p/r/m.gguf")


@pytest.fixture
def hub():
    server = HubServer()
    yield server
    server.close()


def ranges_of(hub):
    return [each.headers["range"] for each in hub.downloads() if each.server == "store"]


def test_a_hub_sends_the_bad_ranges_alone(shelf, path, hub):
    hub.add("pub/name", {"other-name.gguf": make_bytes(), "small.gguf": b"abc"})
    flip_bit(path, 3)
    flip_bit(path, SIZE_BYTES - 1)
    copies = copies_on_hub("pub/name", {"HF_ENDPOINT": hub.endpoint})
    assert (0, 3) == repair_file(shelf.store, path, copies).bad_chunks
    assert make_bytes() == path.read_bytes()
    last = f"bytes={3 * CHUNK_BYTES}-{SIZE_BYTES - 1}"
    assert [f"bytes=0-{CHUNK_BYTES - 1}", last] == ranges_of(hub)


def test_a_hub_is_asked_for_what_the_record_names(shelf, path, hub):
    """At the recorded commit, at the recorded address, without being told."""
    other = make_bytes(seed=2)
    repository = hub.add("pub/name", {"m.gguf": other}, in_git=("m.gguf",))
    repository.older["b" * 40] = {"m.gguf": make_bytes()}
    source = Source(
        kind="hub",
        location="pub/name",
        revision="b" * 40,
        file="m.gguf",
        endpoint=hub.endpoint,
    )
    write_own_record(path, source=source)
    flip_bit(path, 3)
    copies = copies_on_hub("pub/name", {})
    assert (0,) == repair_file(shelf.store, path, copies).bad_chunks
    assert {f"/api/models/pub/name/revision/{'b' * 40}"} == {
        each.path.partition("?")[0] for each in hub.seen if "/api/" in each.path
    }


def test_wrong_bytes_of_a_hub_are_not_written(shelf, path, hub):
    hub.add("pub/name", {"m.gguf": make_bytes()})
    hub.faults.append(Fault(flip=9))
    flip_bit(path, 3)
    before = path.read_bytes()
    copies = copies_on_hub("pub/name/m.gguf", {"HF_ENDPOINT": hub.endpoint})
    with pytest.raises(GoodCopyBad, match=r"'pub/name/m\.gguf' cannot mend .* chunk 0"):
        repair_file(shelf.store, path, copies)
    assert before == path.read_bytes()
    assert damage_path(path).exists()


def test_a_repository_without_such_a_file_is_told(shelf, path, hub):
    hub.add("pub/name", {"x.gguf": make_bytes(seed=2), "m.gguf": b"abc"})
    flip_bit(path, 3)
    copies = copies_on_hub("pub/name", {"HF_ENDPOINT": hub.endpoint})
    with pytest.raises(GoodCopyMissing, match=r"no such file of 12\.0 MiB"):
        repair_file(shelf.store, path, copies)
    assert [] == ranges_of(hub)

"""Models are removed whole, from the store alone."""

import pytest

from model_store.catalog import Catalog
from model_store.errors import NotInStore, StoreUnwritable
from model_store.record import Damage, read_sums, write_damage
from model_store.removal import CannotRemove, plan_removal, remove_model
from tests.model_store.stored_models import make_shelf

STRING, UINT16 = 8, 2
PROJECTOR = {"general.architecture": (STRING, "clip")}


@pytest.fixture
def shelf(tmp_path):
    return make_shelf(tmp_path)


@pytest.fixture
def remove(shelf):
    """Return a function that removes a model by name."""

    def run(name):
        catalog = Catalog([shelf.store.models_dir])
        catalog.refresh()
        return remove_model(
            catalog, shelf.store, plan_removal(catalog, shelf.store, name)
        )

    return run


def list_left(shelf):
    return sorted(
        each.relative_to(shelf.store.models_dir).as_posix()
        for each in shelf.store.models_dir.rglob("*")
        if ".cloister" not in each.parts
    )


def test_a_model_goes_with_its_records_and_empty_folders(shelf, forge, remove):
    path = shelf.put("p/r/m.gguf", forge().build())
    size = path.stat().st_size
    write_damage(path, Damage("2026-11-22T10:00:00Z", "rotten", ()))
    removal = remove("m")
    assert ("m", (path,), (), size) == (
        removal.model_id,
        removal.files,
        removal.kept,
        removal.freed_bytes,
    )
    assert [] == list_left(shelf)
    assert shelf.store.models_dir.is_dir()


def test_neighbours_and_their_checksums_stay(shelf, forge, remove):
    shelf.put("p/r/m.gguf", forge().build())
    other = shelf.put("p/r/other.gguf", forge().build())
    remove("m")
    assert ["other.gguf"] == list(read_sums(other.with_name("SHA256SUMS")))
    assert [
        "p",
        "p/r",
        "p/r/SHA256SUMS",
        "p/r/other.gguf",
        "p/r/other.gguf.record.json",
    ] == list_left(shelf)


def test_all_shards_go(shelf, forge, remove):
    for number in range(2):
        keys = {"split.no": (UINT16, number), "split.count": (UINT16, 2)}
        if number:
            keys["general.architecture"] = None
        shelf.put(f"p/r/m/m-0000{number + 1}-of-00002.gguf", forge(keys=keys).build())
    assert 2 == len(remove("m").files)
    assert [] == list_left(shelf)


def test_what_is_left_of_a_killed_removal_can_be_removed(shelf, forge, remove):
    keys = {"split.no": (UINT16, 1), "split.count": (UINT16, 2)}
    shelf.put("p/r/m-00002-of-00002.gguf", forge(keys=keys).build())
    assert 1 == len(remove("m").files)
    assert [] == list_left(shelf)


def test_a_projector_stays_as_long_as_another_model_uses_it(shelf, forge, remove):
    projector = shelf.put("p/r/mmproj-m.gguf", forge(keys=PROJECTOR).build())
    shelf.put("p/r/a.gguf", forge().build())
    broken = shelf.put("p/r/b.gguf", forge().build())
    write_damage(broken, Damage("2026-11-22T10:00:00Z", "rotten", ()))
    removal = remove("a")
    assert (projector,) == removal.kept
    assert projector.exists()
    removal = remove("b")
    assert ((broken, projector), ()) == (removal.files, removal.kept)
    assert [] == list_left(shelf)


def test_links_free_nothing_and_leave_what_they_lead_to(shelf, forge, place, remove):
    other = place("o.gguf")
    path = shelf.put("p/r/m.gguf", forge().build())
    path.unlink()
    path.symlink_to(other)
    assert 0 == remove("m").freed_bytes
    assert other.exists()
    assert [] == list_left(shelf)
    path = shelf.put("p/r/h.gguf", forge().build())
    path.unlink()
    path.hardlink_to(other)
    assert 0 == remove("h").freed_bytes
    assert other.exists()


def test_other_folders_are_left_alone(shelf, place):
    path = place("p/r/m.gguf")
    catalog = Catalog([path.parents[2]])
    catalog.refresh()
    with pytest.raises(CannotRemove) as caught:
        plan_removal(catalog, shelf.store, "m")
    assert (
        f"'{path}' is not removed: it does not lie in the store "
        f"'{shelf.store.models_dir}', and other folders are never written to. Remove "
        "the file there by hand."
    ) == caught.value.message
    with pytest.raises(NotInStore):
        plan_removal(catalog, shelf.store, "nothing")


def test_a_model_that_changed_since_the_question_is_kept(shelf, forge):
    shelf.put("p/r/m.gguf", forge().build())
    catalog = Catalog([shelf.store.models_dir])
    catalog.refresh()
    planned = plan_removal(catalog, shelf.store, "m")
    shelf.put("p/r/mmproj-m.gguf", forge(keys=PROJECTOR).build())
    with pytest.raises(CannotRemove, match="changed by another process meanwhile"):
        remove_model(catalog, shelf.store, planned)
    assert planned.files[0].exists()


def test_a_refusal_of_the_system_is_told(shelf, forge, monkeypatch):
    path = shelf.put("p/r/m.gguf", forge().build())
    catalog = Catalog([shelf.store.models_dir])
    catalog.refresh()
    planned = plan_removal(catalog, shelf.store, "m")

    def refuse(self, *, missing_ok=False):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "unlink", refuse)
    with pytest.raises(StoreUnwritable, match="Permission denied"):
        remove_model(catalog, shelf.store, planned)

"""What goes into a bundle, and what keeps a model out of one."""

import shutil

import msgspec
import pytest

from model_store.bundle_plan import CannotBundle, count_unrecorded, plan_bundle
from model_store.errors import Quarantined
from model_store.layout import Store
from model_store.record import Damage, read_record, write_damage, write_record
from tests.model_store.bundle_forge import MTIME_NS, list_models, stock

TINY = "acme/tiny/tiny-F32.gguf"


@pytest.fixture(scope="module")
def stocked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stocked")
    return stock(folder / "home", n_bytes=64 * 2**10)


@pytest.fixture
def store(stocked, tmp_path):
    shutil.copytree(stocked.home, tmp_path / "home")
    return Store(tmp_path / "home")


def paths(plan):
    return [file.path for file in plan.manifest.files]


def test_the_plan_takes_digests_from_the_records(store):
    path = store.models_dir / TINY
    digest = "0" * 64
    write_record(path, msgspec.structs.replace(read_record(path), sha256=digest))
    models = list_models(store)
    assert 0 == count_unrecorded(models)
    found = {file.path: file for file in plan_bundle(models).manifest.files}
    assert (digest, MTIME_NS // 10**9) == (found[TINY].sha256, found[TINY].mtime_s)


def test_files_without_record_are_counted(store):
    path = store.models_dir / TINY
    path.with_name(path.name + ".record.json").unlink()
    assert path.stat().st_size == count_unrecorded(list_models(store))


def test_a_damaged_model_is_kept_out(store):
    path = store.models_dir / TINY
    models = list_models(store)
    write_damage(path, Damage(found_at="", reason="chunk 3 differs", bad_chunks=(3,)))
    with pytest.raises(Quarantined) as caught:
        plan_bundle(models)
    assert "chunk 3 differs" == caught.value.reason


def test_a_file_of_another_size_than_recorded_is_kept_out(store):
    path = store.models_dir / TINY
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(CannotBundle) as caught:
        plan_bundle(list_models(store))
    assert f"it has {size + 1} bytes, its record says {size}" == caught.value.reason


def test_folders_that_are_odd_or_missing_get_a_plain_name(store, place):
    file = store.models_dir / TINY
    odd = store.models_dir / "Ä & Co" / ".."
    (odd.parent / "my repo").mkdir(parents=True)
    shutil.copy(file, odd.parent / "my repo" / "odd.gguf")
    shutil.copy(file, store.models_dir / "flat-F16.gguf")
    found = paths(plan_bundle(list_models(store)))
    assert {"-Co/my-repo/odd.gguf", "local/flat/flat-F16.gguf"} <= {
        path.replace("--Co", "-Co") for path in found
    }


def test_two_files_that_would_share_a_name_are_told(store):
    file = store.models_dir / TINY
    for folder in ("one", "two"):
        (file.parent / folder).mkdir()
        shutil.copy(file, file.parent / folder / "same.gguf")
    with pytest.raises(CannotBundle) as caught:
        plan_bundle(list_models(store))
    assert "it has 'acme/tiny/same.gguf' 2 times" in caught.value.reason


def test_a_licence_above_the_models_own_folder_is_taken(store):
    file = store.models_dir / TINY
    (file.parent / "deep").mkdir()
    shutil.copy(file, file.parent / "deep" / "deep.gguf")
    models = [model for model in list_models(store) if model.id == "deep"]
    assert ["acme/tiny/LICENSE", "acme/tiny/deep.gguf"] == paths(plan_bundle(models))


def test_a_licence_that_is_too_long_is_told(store):
    licence = store.models_dir / "acme/tiny/LICENSE"
    licence.write_bytes(bytes(2**20 + 1))
    with pytest.raises(CannotBundle) as caught:
        plan_bundle(list_models(store))
    assert "it has more than 1048576 bytes" in caught.value.reason

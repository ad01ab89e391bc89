"""What is listed and shown of the models that lie there."""

import hashlib
import os

import pytest

from model_store.catalog import Catalog
from model_store.errors import NotInStore
from model_store.inventory import (
    find_model,
    list_models,
    measure_usage,
    read_details,
)
from model_store.quarantine import is_ours
from model_store.record import Damage, record_path, write_damage
from tests.model_store.stored_models import make_shelf

STRING, UINT32 = 8, 4


@pytest.fixture
def shelf(tmp_path):
    return make_shelf(tmp_path)


def open_catalog(*folders):
    catalog = Catalog(folders)
    catalog.refresh()
    return catalog


def test_a_model_is_listed_with_what_its_header_says(shelf, forge):
    path = shelf.put("Pub/Repo/tiny-Q4_K_M.gguf", forge().build())
    (facts,) = list_models(open_catalog(shelf.store.models_dir), shelf.store)
    assert ("tiny", "ready", "", "llm", "llama", 128, "Q4_K_M", 64) == (
        facts.id,
        facts.state,
        facts.reason,
        facts.kind,
        facts.architecture,
        facts.n_params,
        facts.quantization,
        facts.n_ctx_train,
    )
    assert ("Pub", "Repo", "tiny-Q4_K_M.gguf", path.stat().st_size) == (
        facts.publisher,
        facts.repository,
        facts.file_name,
        facts.size_bytes,
    )
    assert (True, True, (path,)) == (facts.is_ours, facts.is_recorded, facts.paths)


def test_broken_and_quarantined_models_are_listed_with_the_reason(shelf, forge, place):
    path = shelf.put("p/r/a-Q8_0.gguf", forge().build())
    write_damage(path, Damage("2026-11-22T10:00:00Z", "rotten", (0,)))
    place("p/r/z.gguf", b"GGUF")
    catalog = open_catalog(shelf.store.models_dir, shelf.store.home.parent / "models")
    first, last = list_models(catalog, shelf.store)
    assert ("a", "quarantined", True, "Q8_0") == (
        first.id,
        first.state,
        first.is_recorded,
        first.quantization,
    )
    assert "quarantined since 2026-11-22T10:00:00Z" in first.reason
    assert ("z", "broken", False, False, None, None) == (
        last.id,
        last.state,
        last.is_ours,
        last.is_recorded,
        last.architecture,
        last.kind,
    )


def test_models_of_one_folder_are_listed_by_id(shelf, forge):
    for name in ("b", "a"):
        shelf.put(f"p/r/{name}.gguf", forge().build())
    listed = list_models(open_catalog(shelf.store.models_dir), shelf.store)
    assert [("a", True), ("b", True)] == [(each.id, each.is_ours) for each in listed]


def test_whose_a_listed_model_is_depends_on_its_real_place(shelf, forge, tmp_path):
    """As `is_ours` has it: linked folders are where they lead to."""
    shelf.put("p/r/own.gguf", forge().build())
    other = tmp_path / "lmstudio" / "r"
    other.mkdir(parents=True)
    (other / "other.gguf").write_bytes(forge().build())
    (shelf.store.models_dir / "linked").symlink_to(other.parent)
    (tmp_path / "way").symlink_to(shelf.store.models_dir)
    beside = tmp_path / "home" / "models-of-others"
    beside.mkdir()
    (beside / "near.gguf").write_bytes(forge().build())
    catalog = open_catalog(tmp_path / "way", beside)
    listed = {each.id: each for each in list_models(catalog, shelf.store)}
    assert {"own": True, "other": False, "near": False} == {
        name: each.is_ours for name, each in listed.items()
    }
    assert all(
        each.is_ours == is_ours(shelf.store, each.paths[0]) for each in listed.values()
    )


def test_an_unknown_name_is_told_with_the_near_ones(shelf, forge):
    shelf.put("p/r/tiny-llama.gguf", forge().build())
    catalog = open_catalog(shelf.store.models_dir)
    assert "tiny-llama" == find_model(catalog, "Tiny-Llama.gguf").id
    with pytest.raises(NotInStore) as caught:
        find_model(catalog, "tiny-lama")
    assert (
        "'tiny-lama' is not in the store: no model has that name; did you mean "
        "'tiny-llama'. List what is there by `cloister ls`."
    ) == caught.value.message


def test_details_have_the_header_and_the_records(shelf, forge):
    keys = {
        "general.name": (STRING, "Tiny"),
        "general.license": (STRING, "mit"),
        "tokenizer.chat_template": (STRING, "{{ messages }}"),
        "llama.attention.head_count_kv": (UINT32, 2),
    }
    shelf.put("p/r/m.gguf", forge(keys=keys).build(), verified_against="--sha256")
    catalog = open_catalog(shelf.store.models_dir)
    details = read_details(find_model(catalog, "m"), shelf.store)
    assert ("Tiny", "mit", 2, 32, 4, 2, 0) == (
        details.name,
        details.licence,
        details.n_layer,
        details.n_embd,
        details.n_head,
        details.n_head_kv,
        details.n_expert,
    )
    template = hashlib.sha256(b"{{ messages }}").hexdigest()
    assert template == details.template_sha256
    (file,) = details.files
    assert ("--sha256", None, None) == (
        file.record.verified_against,
        file.record_error,
        file.quarantined_since,
    )


def test_the_records_licence_goes_before_the_headers(shelf, forge):
    keys = {"general.license": (STRING, "mit")}
    shelf.put("p/r/m.gguf", forge(keys=keys).build(), licence="apache-2.0")
    catalog = open_catalog(shelf.store.models_dir)
    details = read_details(find_model(catalog, "m"), shelf.store)
    assert "apache-2.0" == details.licence


def test_details_of_a_broken_model_and_record_say_so(shelf):
    path = shelf.put("p/r/m.gguf", b"GGUF")
    record_path(path).write_text("{")
    write_damage(path, Damage("", "rotten", ()))
    catalog = open_catalog(shelf.store.models_dir)
    details = read_details(find_model(catalog, "m"), shelf.store)
    assert (None, None, None) == (
        details.name,
        details.template_sha256,
        details.n_head,
    )
    (file,) = details.files
    assert "m.gguf.record.json' cannot be used" in file.record_error
    assert (None, "unknown") == (file.record, file.quarantined_since)


def test_usage_counts_shared_blocks_once_and_links_not_at_all(shelf, forge, place):
    content = forge().build() + bytes(100_000)
    big = shelf.put("p/r/big.gguf", content + bytes(100_000))
    path = shelf.put("p/r/m.gguf", content)
    twin = path.with_name("twin.gguf")
    twin.hardlink_to(path)
    other = place("p/r/o.gguf", content)
    (path.parent / "linked.gguf").symlink_to(other)
    (shelf.store.models_dir / ".cloister" / "incoming" / "x").write_bytes(bytes(9000))
    folders = (shelf.store.models_dir, other.parents[2])
    usage = measure_usage(open_catalog(*folders), folders, shelf.store)
    assert "big" == usage.models[0].id
    disk = {each.id: each.disk_bytes for each in usage.models}

    def blocks(path):
        return path.lstat().st_blocks * 512

    assert disk["big"] == blocks(big) >= big.stat().st_size
    assert blocks(path) == disk["m"] + disk["twin"]
    assert 0 == disk["linked"]
    sizes = {each.id: each.size_bytes for each in usage.models}
    assert len(content) == sizes["linked"]
    store, models = usage.directories
    assert (True, False) == (store.is_store, models.is_store)
    assert blocks(big) + blocks(path) == store.model_bytes
    assert store.unfinished_bytes >= 9000
    assert store.other_bytes > 0
    assert (blocks(other), 0, 0) == (
        models.model_bytes,
        models.unfinished_bytes,
        models.other_bytes,
    )
    assert store.free_bytes > 0


def test_usage_survives_what_vanishes(shelf, forge):
    path = shelf.put("p/r/m.gguf", forge().build())
    catalog = open_catalog(shelf.store.models_dir)
    os.unlink(path)  # noqa: PTH108 - as another process would
    usage = measure_usage(catalog, (shelf.store.models_dir,), shelf.store)
    assert 0 == usage.models[0].disk_bytes
    details = read_details(find_model(catalog, "m"), shelf.store)
    assert 0 == details.files[0].size_bytes

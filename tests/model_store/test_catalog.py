"""The catalog over real directories."""

import os
import shutil
import threading
import time

import pytest

from model_store import catalog as module
from model_store.catalog import BrokenModel, Catalog, StoredModel

STRING, ARRAY, UINT16, UINT32, INT32 = 8, 9, 2, 4, 5


@pytest.fixture
def models(tmp_path):
    """Return a function that lists the models directory anew."""

    def load(*names):
        roots = [tmp_path / name for name in names or ("models",)]
        catalog = Catalog(roots)
        catalog.refresh()
        return catalog

    return load


def split_keys(number, count, n_tensors=None):
    keys = {"split.no": (UINT16, number), "split.count": (UINT16, count)}
    if n_tensors is not None:
        keys["split.tensors.count"] = (INT32, n_tensors)
    if number:
        keys["general.architecture"] = None
    return keys


@pytest.mark.model
def test_lists_real_models(real_models):
    catalog = Catalog([real_models])
    assert catalog.models() == ()
    catalog.refresh()
    assert [(each.id, each.quantization) for each in catalog.models()] == [
        ("all-minilm-l6-v2", "Q8_0"),
        ("stories260k", "F32"),
        ("tiny-qwen2-vocab", "Q8_0"),
    ]
    assert catalog.broken() == ()
    embedder = catalog.find("text-embedding-ALL-minilm-l6-v2")
    assert embedder.is_embedding
    assert embedder is catalog.find("all-minilm-l6-v2-q8_0.gguf")
    assert catalog.find("stories") is None


def test_a_model_is_described(models, place):
    path = place("Pub/Repo/Tiny-Q4_K_M.gguf")
    os.utime(path, ns=(0, 1_700_000_000_900_000_000))
    (model,) = models().models()
    assert (model.id, model.publisher, model.repository) == ("tiny", "Pub", "Repo")
    assert (model.file_name, model.quantization) == ("Tiny-Q4_K_M.gguf", "Q4_K_M")
    assert model.paths == (path,)
    assert (model.size_bytes, model.mtime_s) == (path.stat().st_size, 1_700_000_000)
    (stamp,) = model.stamps
    assert (stamp.path, stamp.size_bytes, stamp.mtime_ns, stamp.inode) == (
        path,
        path.stat().st_size,
        1_700_000_000_900_000_000,
        path.stat().st_ino,
    )
    assert model.aliases == (
        "tiny@q4_k_m",
        "Tiny-Q4_K_M",
        "tiny-q4_k_m",
        "Tiny-Q4_K_M.gguf",
        "tiny-q4_k_m.gguf",
        "Pub/Repo/Tiny-Q4_K_M.gguf",
        "Pub/Repo",
    )
    assert (model.is_embedding, model.projectors) == (False, ())
    assert model.summary.architecture == "llama"


def test_a_split_model_is_one_model(models, place, forge):
    first = place(
        "p/r/Big-Q8_0-00001-of-00002.gguf", keys=split_keys(0, 2, 2), tensors=()
    )
    second = place(
        "p/r/Big-Q8_0-00002-of-00002.gguf",
        keys=split_keys(1, 2),
        tensors=(forge.Tensor(), forge.Tensor(name="b", offset=512)),
    )
    catalog = models()
    (model,) = catalog.models()
    assert (model.id, model.paths) == ("big", (first, second))
    assert model.size_bytes == first.stat().st_size + second.stat().st_size
    assert (model.summary.tensor_bytes, model.summary.n_params) == (1_024, 256)
    for name in ("Big-Q8_0", "big-q8_0.gguf", "Big-Q8_0-00001-of-00002.gguf"):
        assert catalog.find(name) is model


def broken(catalog):
    assert catalog.models() == ()
    (found,) = catalog.broken()
    assert isinstance(catalog.find(found.id), BrokenModel)
    return found


def test_a_split_model_with_missing_parts_is_broken(models, place):
    path = place("p/r/big-00001-of-00003.gguf", keys=split_keys(0, 3))
    found = broken(models())
    assert (found.id, found.path) == ("big", path)
    assert found.reason == (
        f"The model '{path}' is split into 3 files, of which 2 are missing: "
        "'big-00002-of-00003.gguf', 'big-00003-of-00003.gguf'. Put them into the same "
        "folder."
    )


HINT = "Copy or download the file again, or remove it."


def reason(path, text):
    return f"The file '{path}' is not a usable GGUF file: {text}. {HINT}"


def test_a_broken_part_is_named(models, place):
    place("big-00001-of-00002.gguf", keys=split_keys(0, 2))
    path = place("big-00002-of-00002.gguf", b"GGUX" + bytes(40))
    assert broken(models()).reason == reason(
        path, "it begins with b'GGUX' and not with b'GGUF'"
    )


def test_swapped_parts_are_found(models, place):
    path = place("big-00001-of-00002.gguf", keys=split_keys(1, 2) | LLAMA)
    place("big-00002-of-00002.gguf", keys=split_keys(0, 2))
    assert broken(models()).reason == reason(
        path, "its name says part 1 of 2, its header part 2 of 2"
    )


LLAMA = {"general.architecture": (STRING, "llama")}


def test_a_renamed_part_is_found(models, place):
    path = place("big.gguf", keys=split_keys(0, 2))
    assert broken(models()).reason == reason(
        path,
        "it says that it is part 1 of 2, but its name does not end in "
        "-00001-of-00002.gguf",
    )


def test_parts_of_different_models_are_found(models, place):
    path = place("big-00001-of-00002.gguf", keys=split_keys(0, 2, 7))
    place("big-00002-of-00002.gguf", keys=split_keys(1, 2))
    assert broken(models()).reason == reason(
        path, "it says that all parts together have 7 tensors, but they have 2"
    )


def test_a_vocabulary_without_weights_is_broken(models, place):
    path = place("vocab.gguf", tensors=())
    assert broken(models()).reason == reason(
        path, "it has no tensors, so it holds no model"
    )


def test_broken_files_do_not_hide_sound_ones(models, place, forge):
    place("p/r/good-Q8_0.gguf")
    place("p/r/good-Q4_K_M.gguf", forge().build()[:-1])
    catalog = models()
    assert [each.id for each in catalog.models()] == ["good@q8_0"]
    assert [each.id for each in catalog.broken()] == ["good@q4_k_m"]
    assert catalog.find("good") is catalog.models()[0]
    assert catalog.find("good-Q4_K_M.gguf") is catalog.broken()[0]


def test_projectors_and_adapters_are_not_models(models, place):
    clip = {"general.architecture": (STRING, "clip")}
    adapter = {"general.type": (STRING, "adapter")}
    place("p/r/Q8/vision-Q8_0.gguf")
    named = place("p/r/mmproj-vision-f16.gguf", b"")
    other = place("p/r/Q8/eyes.gguf", keys=clip)
    place("p/r/lora.gguf", keys=adapter)
    place("p/other/mmproj.gguf", b"")
    catalog = models()
    (model,) = catalog.models()
    assert set(model.projectors) == {named, other}
    assert catalog.broken() == ()
    assert catalog.find("eyes") is None


def test_the_header_names_a_quantization_that_the_name_lacks(models, place):
    place("plain.gguf", keys={"general.file_type": (UINT32, 15)})
    (model,) = models().models()
    assert model.quantization == "Q4_K_M"
    assert "plain@q4_k_m" in model.aliases


def test_the_first_directory_wins(tmp_path, models, place):
    first = place("p/r/m.gguf", root="one")
    place("p/r/m.gguf", root="two")
    place("x/y/m.gguf", root="two")
    catalog = models("one", "two")
    assert [each.id for each in catalog.models()] == ["p/r/m@f32", "x/y/m@f32"]
    assert catalog.models()[0].paths == (first,)


def count_reads(monkeypatch):
    read = []
    original = module.read_header

    def counting(path):
        read.append(path.name)
        return original(path)

    monkeypatch.setattr(module, "read_header", counting)
    return read


def test_only_new_and_changed_files_are_read_again(models, place, monkeypatch):
    read = count_reads(monkeypatch)
    place("a.gguf")
    changed = place("b.gguf", b"GGUF")
    gone = place("c.gguf")
    catalog = models()
    assert sorted(read) == ["a.gguf", "b.gguf", "c.gguf"]
    read.clear()
    catalog.refresh()
    assert read == []
    place("b.gguf")
    os.utime(changed, ns=(0, 1))
    gone.unlink()
    place("d.gguf")
    catalog.refresh()
    assert sorted(read) == ["b.gguf", "d.gguf"]
    assert [each.id for each in catalog.models()] == ["a", "b", "d"]
    assert catalog.broken() == ()
    assert catalog.find("c") is None


def test_a_file_replaced_with_the_same_size_and_time_is_read_again(
    models, place, monkeypatch
):
    read = count_reads(monkeypatch)
    path = place("a.gguf")
    os.utime(path, ns=(0, 1))
    catalog = models()
    other = place("a.new")
    os.utime(other, ns=(0, 1))
    other.rename(path)
    catalog.refresh()
    assert read == ["a.gguf", "a.gguf"]


def test_an_unreadable_file_is_tried_again(tmp_path, models, place, monkeypatch):
    path = place("a.gguf")

    def refuse(path):
        raise module.UnreadableFile(path, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(module, "read_header", refuse)
        catalog = models()
    assert catalog.broken()[0].reason == (
        f"The file '{path}' cannot be read: Permission denied. "
        "Check that the file exists, and its permissions and its disk."
    )
    catalog.refresh()
    assert [each.id for each in catalog.models()] == ["a"]


def test_what_could_not_be_looked_at_is_noted(tmp_path, models):
    (note,) = models("absent").notes()
    assert note == (
        f"The folder '{tmp_path}/absent' cannot be read: No such file or directory."
    )


def test_hostile_names_are_served_as_clean_ids(tmp_path, models, place):
    path = place("p/r/new\nline\x1b[2J-Q8_0.gguf")
    raw = os.path.join(os.fsencode(path.parent), b"caf\xe9.gguf")  # noqa: PTH118
    shutil.copy(path, raw)
    found = models().models()
    assert [each.id for each in found] == ["caf\ufffd", "new-line[2j"]
    assert found[0].paths[0].read_bytes() == path.read_bytes()
    for model in found:
        for name in (model.id, model.file_name, *model.aliases):
            assert name.isprintable()


def test_a_refresh_without_changes_is_cheap(models, place, forge):
    content = forge().build()
    for number in range(500):
        place(f"p{number % 10}/r{number}/m{number}-Q8_0.gguf", content)
    catalog = models()
    assert len(catalog.models()) == 500
    times = []
    for _ in range(5):
        start = time.thread_time()
        catalog.refresh()
        times.append(time.thread_time() - start)
    assert min(times) < 0.3


def test_readers_always_see_one_whole_state(models, place, forge):
    content = forge().build()
    place("p/r/m-Q8_0.gguf", content)
    extra = place("p/r/m-Q4_K_M.gguf", content)
    catalog = models()
    stop = threading.Event()
    seen = []

    def look():
        while not stop.is_set():
            seen.append(tuple(each.id for each in catalog.models()))
            assert isinstance(catalog.find("m"), StoredModel)

    readers = [threading.Thread(target=look) for _ in range(2)]
    for each in readers:
        each.start()
    for _ in range(50):
        extra.unlink()
        catalog.refresh()
        extra.write_bytes(content)
        catalog.refresh()
    stop.set()
    for each in readers:
        each.join()
    assert set(seen) <= {("m",), ("m@q4_k_m", "m@q8_0")}


def test_a_quarantined_model_is_not_served_and_keeps_its_name(models, place, forge):
    path = place("p/r/m-custom.gguf", tensors=(forge.Tensor(),))
    (before,) = models().models()
    mark = path.with_name(path.name + ".damaged.json")
    mark.write_text(
        '{"found_at": "2026-11-22T10:00:00Z", "reason": "rotten", "bad_chunks": [1]}'
    )
    catalog = models()
    assert () == catalog.models()
    (broken,) = catalog.broken()
    assert (before.id, path, True, (path,)) == (
        broken.id,
        broken.path,
        broken.is_quarantined,
        broken.paths,
    )
    assert (
        f"The file '{path}' is quarantined since 2026-11-22T10:00:00Z and is not "
        "served: rotten (bytes 4194304-8388607). Rewrite the bad bytes from a good "
        "copy by `cloister repair m-custom --from PATH`, or check the file again by "
        "`cloister verify m-custom`."
    ) == broken.reason
    assert broken is catalog.find(path.name)
    assert "llama" == broken.summary.architecture
    mark.unlink()
    catalog.refresh()
    assert before == catalog.find("m-custom")


def test_a_sound_model_gets_a_shared_name_before_a_quarantined_one(models, place):
    bad = place("p/r/m-Q4_K_M.gguf")
    good = place("p/r/m-Q8_0.gguf")
    bad.with_name(bad.name + ".damaged.json").write_text("{")
    assert (good,) == models().find("m").paths
    assert "cannot be understood" in models().find("m@q4_k_m").reason


def test_one_bad_shard_quarantines_the_whole_model(models, place, forge):
    paths = [
        place(f"p/r/m-0000{number + 1}-of-00002.gguf", keys=split_keys(number, 2))
        for number in range(2)
    ]
    paths[1].with_name(paths[1].name + ".damaged.json").write_text("{")
    (broken,) = models().broken()
    assert (paths[1], tuple(paths)) == (broken.path, broken.paths)


def test_sound_and_broken_models_are_listed_together_by_id(models, place, forge):
    content = forge().build()
    place("p/r/b.gguf", b"GGUF")
    for name in ("a", "c"):
        path = place(f"p/r/{name}.gguf", content)
    path.with_name(path.name + ".record.json").write_text("{}")
    projector = place(
        "p/r/mmproj.gguf", keys={"general.architecture": (STRING, "clip")}
    )
    catalog = models()
    assert [("a", False), ("b", False), ("c", True)] == [
        (each.id, each.is_recorded) for each in catalog.entries()
    ]
    assert [(projector,)] * 3 == [each.projectors for each in catalog.entries()]

"""Plans of imports, and what comes of them."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from model_store.errors import (
    BadGguf,
    BadSource,
    BadSums,
    CannotLink,
    DigestMismatch,
    UnreadableFile,
)
from model_store.layout import Store
from model_store.ollama import MODEL_LAYER, PROJECTOR_LAYER
from model_store.record import read_sums
from model_store.sideload import (
    Wish,
    count_work,
    find_there,
    import_model,
    plan_ollama,
    plan_sideload,
)
from model_store.target import Target

UINT32, STRING = 4, 8
CLIP = {"general.architecture": (STRING, "clip")}
WRONG = "0" * 64


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "home")


@pytest.fixture
def usb(place, tmp_path):
    """Return a function that writes a file at the source."""

    def write(name="m.gguf", content=None, **parts):
        return place(name, content, root="usb", **parts)

    return write


@pytest.fixture
def bring(store):
    """Return a function that plans and imports; it gives what was stored."""

    def run(*paths, **wish):
        plan = plan_sideload(store, paths, Wish(**wish))
        return [import_model(store, each) for each in plan.models]

    return run


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stored(store, results):
    return [
        str(path.relative_to(store.models_dir))
        for each in results
        for path in each.paths
    ]


def test_a_file_goes_to_local_and_its_id(store, bring, usb):
    results = bring(usb("My Model-Q8_0.gguf"))
    assert ["local/my-model/My Model-Q8_0.gguf"] == stored(store, results)
    assert "copy" == results[0].records[0].linked


def test_a_name_can_be_chosen(store, bring, usb):
    results = bring(usb(), target=Target("a", "b"))
    assert ["a/b/m.gguf"] == stored(store, results)


def test_folders_below_the_named_one_are_publisher_and_repository(
    store, bring, usb, tmp_path
):
    usb("pub/repo/m.gguf")
    usb("single.gguf")
    results = bring(tmp_path / "usb")
    assert ["pub/repo/m.gguf", "local/single/single.gguf"] == stored(store, results)


def test_all_shards_come_if_one_is_named(store, bring, usb):
    for number in range(3):
        path = usb(
            f"m-0000{number + 1}-of-00003.gguf",
            keys={"split.no": (UINT32, number), "split.count": (UINT32, 3)},
        )
    results = bring(path)
    names = [f"local/m/m-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    assert names == stored(store, results)
    path.unlink()
    assert not store.models_dir.joinpath("x").exists()
    (planned,) = plan_sideload(store, [path.parent], Wish()).models
    assert find_there(store, planned) is None
    with pytest.raises(BadGguf, match=r"1 are missing: 'm-00003-of-00003\.gguf'"):
        import_model(store, planned)


def test_a_projector_comes_with_the_model_of_its_folder(store, bring, usb, tmp_path):
    usb("p/r/m.gguf")
    usb("p/r/mmproj.gguf", keys=CLIP)
    results = bring(tmp_path / "usb")
    assert ["p/r/m.gguf", "p/r/mmproj.gguf"] == stored(store, results)
    assert bring(tmp_path / "usb")[0].was_there


def test_a_projector_that_is_named_too_joins_the_only_model(store, bring, usb):
    model, projector = usb("a/m.gguf"), usb("b/mmproj.gguf", keys=CLIP)
    results = bring(model, projector)
    assert ["local/m/m.gguf", "local/m/mmproj.gguf"] == stored(store, results)


def test_a_projector_that_is_not_named_is_told(store, usb):
    model = usb()
    usb("mmproj.gguf", keys=CLIP)
    plan = plan_sideload(store, [model], Wish())
    assert [model] == [file.path for file in plan.models[0].files]
    assert "A projector lies beside: 'mmproj.gguf'" in plan.notes[0]


def test_the_same_file_again_is_no_work_by_any_path_to_it(store, bring, usb, tmp_path):
    path = usb()
    bring(path, target=Target("a", "b"))
    for again in (path, path.parent, tmp_path / "usb/../usb/m.gguf"):
        (planned,) = plan_sideload(store, [again], Wish()).models
        assert ["a/b/m.gguf"] == stored(store, [find_there(store, planned)])
        assert import_model(store, planned).was_there


def test_a_chosen_name_is_kept_though_the_file_is_there_under_another(
    store, bring, usb
):
    bring(usb())
    results = bring(usb(), target=Target("a", "b"))
    assert (["a/b/m.gguf"], False) == (stored(store, results), results[0].was_there)


def test_a_list_beside_the_file_is_used_by_itself(bring, usb):
    path = usb()
    (path.parent / "SHA256SUMS").write_text(f"{sha256(path)}  m.gguf\n")
    assert "SHA256SUMS" == bring(path)[0].records[0].verified_against
    (path.parent / "SHA256SUMS").write_text(f"{WRONG}  m.gguf\n")
    with pytest.raises(DigestMismatch, match=r"\(SHA256SUMS\)"):
        bring(path, target=Target("a", "b"))


def test_the_users_digest_goes_before_the_list_and_both_are_named(store, usb):
    path = usb()
    sums = path.parent / "SHA256SUMS"
    sums.write_text(f"{WRONG}  m.gguf\n")
    wish = Wish(sha256=sha256(path))
    (planned,) = plan_sideload(store, [path], wish).models
    assert (
        (
            f"For 'm.gguf' --sha256 says {sha256(path)}, but SHA256SUMS says {WRONG}; "
            "--sha256 is used."
        ),
    ) == planned.notes
    assert "--sha256" == import_model(store, planned).records[0].verified_against
    sums.write_text("hello\n")
    with pytest.raises(BadSums, match="line 1 is 'hello'"):
        plan_sideload(store, [path], Wish())
    (planned,) = plan_sideload(store, [path], wish).models
    assert "line 1 is 'hello'" in planned.notes[0]


def test_one_digest_for_several_files_is_refused_with_the_next_step(
    store, usb, tmp_path
):
    usb("a.gguf")
    usb("b.gguf")
    with pytest.raises(
        BadSource,
        match=r"here are 2 files of 2 models\. .* or put the digests of all into a "
        "file SHA256SUMS",
    ):
        plan_sideload(store, [tmp_path / "usb"], Wish(sha256=WRONG))


def test_a_known_digest_needs_no_reading(store, bring, usb, tmp_path):
    first = bring(usb())
    other = usb("other/renamed.gguf")
    digest = sha256(other)
    other.write_bytes(bytes(800))
    (planned,) = plan_sideload(store, [other], Wish(sha256=digest)).models
    result = import_model(store, planned)
    assert (True, first[0].paths) == (result.was_there, result.paths)


def test_models_of_lm_studio_are_linked_and_keep_their_names(
    store, bring, place, tmp_path
):
    path = place("pub/repo/m.gguf", root=".lmstudio/models")
    for named in (path, tmp_path / ".lmstudio/models", path.parent):
        results = bring(named)
        assert ["pub/repo/m.gguf"] == stored(store, results)
        assert path.samefile(results[0].paths[0])
        assert "hardlink" == results[0].records[0].linked


@pytest.fixture
def hub_cache(tmp_path, forge):
    """Return the folder of a repository in a Hugging Face cache."""
    folder = tmp_path / "hub/models--org--name-GGUF"
    for revision, tensor in (("old", b"o"), ("new", b"n")):
        content = forge(tensors=(forge.Tensor(data=tensor * 512),)).build()
        blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = folder / "snapshots" / revision / "m.gguf"
        link.parent.mkdir(parents=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("new")
    return folder


def test_a_hub_cache_gives_name_revision_and_digest(store, bring, hub_cache):
    plan = plan_sideload(store, [hub_cache.parent], Wish())
    assert "1 files of older revisions" in plan.notes[0]
    results = bring(hub_cache.parent)
    assert ["org/name-GGUF/m.gguf"] == stored(store, results)
    record = results[0].records[0]
    assert ("new", "hub cache", "hardlink") == (
        record.source.revision,
        record.verified_against,
        record.linked,
    )
    assert not results[0].paths[0].is_symlink()


def test_a_snapshot_can_be_named(store, bring, hub_cache):
    results = bring(hub_cache / "snapshots/old/m.gguf", mode="symlink")
    assert "old" == results[0].records[0].source.revision
    assert results[0].paths[0].is_symlink()


def test_a_blob_with_other_bytes_is_kept_out(store, bring, hub_cache):
    blob = (hub_cache / "snapshots/new/m.gguf").resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(DigestMismatch, match=r"\(hub cache\)"):
        bring(hub_cache)


@pytest.fixture
def ollama_folder(tmp_path, forge):
    """Return an Ollama folder with one model and its projector."""
    folder = tmp_path / "ollama"
    (folder / "blobs").mkdir(parents=True)
    layers = []
    for kind, keys in ((MODEL_LAYER, {}), (PROJECTOR_LAYER, CLIP)):
        content = forge(keys=keys).build()
        digest = hashlib.sha256(content).hexdigest()
        (folder / "blobs" / f"sha256-{digest}").write_bytes(content)
        layers.append(f'{{"mediaType": "{kind}", "digest": "sha256:{digest}"}}')
    manifest = folder / "manifests/registry.ollama.ai/library/llava/7b"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(f'{{"layers": [{", ".join(layers)}]}}')
    return folder


def test_ollamas_models_are_linked_and_verified_by_their_names(
    store, bring, ollama_folder
):
    results = bring(ollama_folder)
    assert [
        "library/llava/llava-7b.gguf",
        "library/llava/llava-7b-mmproj.gguf",
    ] == stored(store, results)
    record = results[0].records[0]
    assert ("ollama", "hardlink", "ollama") == (
        record.verified_against,
        record.linked,
        record.source.kind,
    )
    (planned,) = plan_ollama(store, ollama_folder, ["llava:7b"], Wish()).models
    assert 0 == count_work(store, planned)
    assert import_model(store, planned).was_there


def test_a_blob_of_ollama_that_is_broken_or_gone_is_kept_out(bring, ollama_folder):
    blob = min((ollama_folder / "blobs").iterdir(), key=lambda path: path.stat().st_ino)
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(DigestMismatch, match=r"\(ollama\)"):
        bring(ollama_folder)
    blob.unlink()
    with pytest.raises(UnreadableFile, match=blob.name):
        bring(ollama_folder)


def test_a_file_that_lies_in_the_store_is_taken_up_where_it_is(store, bring, usb):
    path = store.models_dir / "pub/repo/m.gguf"
    path.parent.mkdir(parents=True)
    shutil.copy(usb(), path)
    inode = path.stat().st_ino
    results = bring(store.models_dir)
    assert ["pub/repo/m.gguf"] == stored(store, results)
    assert (True, inode) == (results[0].was_there, path.stat().st_ino)
    assert {"m.gguf": sha256(path)} == read_sums(path.parent / "SHA256SUMS")


def test_what_another_program_owns_on_another_disk_is_a_symlink(store, forge):
    shm = Path("/dev/shm")  # noqa: S108 - another file system than the tests' own
    store.create()
    if not shm.is_dir() or shm.stat().st_dev == store.home.stat().st_dev:
        pytest.skip("no second file system here")
    with tempfile.TemporaryDirectory(dir=shm) as folder:
        path = Path(folder) / ".lmstudio/models/p/r/m.gguf"
        path.parent.mkdir(parents=True)
        path.write_bytes(forge().build())
        (planned,) = plan_sideload(store, [path], Wish()).models
        result = import_model(store, planned)
        assert result.paths[0].is_symlink()
        (planned,) = plan_sideload(
            store, [path], Wish(mode="hardlink", target=Target("a", "b"))
        ).models
        with pytest.raises(CannotLink, match=r"another file system\. Use --symlink"):
            import_model(store, planned)
        (planned,) = plan_sideload(
            store, [path], Wish(mode="move", target=Target("c", "d"))
        ).models
        moved = import_model(store, planned)
        assert (False, True) == (path.exists(), moved.paths[0].is_file())


def test_a_killed_imports_missing_checksums_are_mended(store, bring, usb):
    path = usb()
    sums = bring(path)[0].paths[0].with_name("SHA256SUMS")
    sums.unlink()
    assert bring(path)[0].was_there
    assert {"m.gguf": sha256(path)} == read_sums(sums)


def test_a_killed_imports_staging_area_is_removed_though_nothing_is_to_do(
    store, bring, usb
):
    path = usb()
    bring(path)
    area = store.models_dir / ".cloister/incoming/1-dead"
    area.mkdir()
    assert bring(path)[0].was_there
    assert not area.exists()


def test_what_is_no_model_is_refused_before_it_is_copied(store, usb):
    path = usb(content=b"hello, I am a long text and no model")
    (planned,) = plan_sideload(store, [path], Wish()).models
    with pytest.raises(BadGguf, match="begins with b'hell'"):
        import_model(store, planned)
    assert not store.home.exists()


def test_a_file_without_the_ending_gets_it(store, bring, usb):
    assert ["local/m.bin/m.bin.gguf"] == stored(store, bring(usb("m.bin")))


def test_folders_and_paths_without_models_are_told(store, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadSource, match=r"no \.gguf file lies in that folder\. Name"):
        plan_sideload(store, [tmp_path / "empty"], Wish())
    with pytest.raises(UnreadableFile, match="No such file"):
        plan_sideload(store, [tmp_path / "none"], Wish())
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(UnreadableFile, match="it is neither a file nor a folder"):
        plan_sideload(store, [tmp_path / "pipe.gguf"], Wish())

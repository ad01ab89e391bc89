"""An import brings all of a bundle into the store, or nothing of it."""

import hashlib
import shutil

import msgspec
import pytest

from model_store.bundle import MANIFEST_NAME, BadBundle, decode_manifest
from model_store.bundle_import import import_bundle
from model_store.bundle_reader import open_bundle
from model_store.errors import AlreadyTaken, BadGguf
from model_store.layout import Store
from model_store.record import read_record
from model_store.signature import Policy, Verdict
from model_store.ssh_keys import PublicKey, TrustedKey
from tests.model_store.bundle_forge import (
    MTIME_NS,
    Tampered,
    list_models,
    make_signer,
    pack,
    snapshot,
    stock,
)

TINY = "acme/tiny/tiny-F32.gguf"


@pytest.fixture(scope="module")
def stocked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stocked")
    return stock(folder / "home", n_bytes=64 * 2**10)


@pytest.fixture
def store(stocked, tmp_path):
    shutil.copytree(stocked.home, tmp_path / "home")
    return Store(tmp_path / "home")


@pytest.fixture
def closed(tmp_path):
    return Store(tmp_path / "closed")


@pytest.fixture
def bundle(stocked, tmp_path):
    return pack(stocked, tmp_path / "b.tar", signer=make_signer()).paths[0]


def take(store, path, verdict=None):
    with open_bundle(path) as opened:
        return import_bundle(store, opened, verdict or Verdict(Policy.OFF))


def test_the_models_arrive_as_they_were(store, bundle, closed):
    imported = take(closed, bundle)
    names = ["acme/pair/pair-00001-of-00002.gguf", TINY]
    assert names == [model.name for model in imported.models]
    assert not any(model.was_there for model in imported.models)
    there, here = snapshot(store.models_dir), snapshot(closed.models_dir)
    assert there.keys() == here.keys()
    same = [name for name in there if not name.endswith(".record.json")]
    assert [there[name] for name in same] == [here[name] for name in same]
    assert [m.id for m in list_models(store)] == [m.id for m in list_models(closed)]


def test_the_record_names_the_bundle_its_signer_and_the_source(bundle, closed):
    with open_bundle(bundle) as opened:
        key = opened.judge(Policy.WARN, ()).key
        trusted = (TrustedKey(PublicKey(key.raw), bundle),)
        verdict = opened.judge(Policy.REQUIRE, trusted)
        import_bundle(closed, opened, verdict)
    record = read_record(closed.models_dir / TINY)
    assert (
        "bundle",
        f"b.tar, signed by {key.fingerprint}, from hub acme/source",
        "f00d",
        "bundle",
        MTIME_NS,
    ) == (
        record.source.kind,
        record.source.location,
        record.source.revision,
        record.verified_against,
        record.mtime_ns,
    )


def test_a_second_import_finds_all_there_and_changes_nothing(bundle, closed):
    take(closed, bundle)
    before = snapshot(closed.models_dir)
    again = take(closed, bundle)
    assert all(model.was_there for model in again.models)
    assert before == snapshot(closed.models_dir)
    assert [closed.models_dir / TINY] == list(again.models[1].paths)


def test_a_bundle_of_imported_models_has_the_same_digests(bundle, closed, tmp_path):
    take(closed, bundle)
    with open_bundle(bundle) as opened:
        first = {f.path: f.sha256 for f in opened.manifest.files if f.role != "record"}
    with open_bundle(pack(closed, tmp_path / "again.tar").paths[0]) as opened:
        again = {f.path: f.sha256 for f in opened.manifest.files if f.role != "record"}
    assert first == again


def test_damage_in_the_last_file_keeps_the_first_model_out(bundle, closed):
    content = bytearray(bundle.read_bytes())
    tampered = Tampered.of(bundle)
    last = tampered.members[-1][0]
    content[last.offset_data + last.size - 1] ^= 1
    bundle.write_bytes(content)
    with pytest.raises(BadBundle):
        take(closed, bundle)
    assert {} == snapshot(closed.models_dir)
    left = (closed.models_dir / ".cloister").rglob("*")
    assert ["lock"] == [path.name for path in left if path.is_file()]


def test_a_file_that_is_no_model_keeps_all_out(bundle, closed, tmp_path):
    tampered = Tampered.of(bundle)
    manifest = decode_manifest(tampered.content(MANIFEST_NAME))
    junk = b"GGUF" + b"\xff" * 60
    digest = hashlib.sha256(junk).hexdigest()
    files = tuple(
        msgspec.structs.replace(each, sha256=digest, size_bytes=len(junk))
        if each.path == TINY
        else each
        for each in manifest.files
        if each.path != f"{TINY}.record.json"
    )
    del tampered.members[tampered.index(f"{TINY}.record.json")]
    tampered.unsign()
    tampered.replace(TINY, junk)
    tampered.reseal(msgspec.structs.replace(manifest, files=files))
    with pytest.raises(BadGguf) as caught:
        take(closed, tampered.write(tmp_path / "evil.tar"))
    assert f"evil.tar/{TINY}' is not a usable GGUF file" in caught.value.message
    assert {} == snapshot(closed.models_dir)


def test_a_record_of_another_file_is_refused(bundle, closed, tmp_path):
    tampered = Tampered.of(bundle)
    tampered.unsign()
    manifest = decode_manifest(tampered.content(MANIFEST_NAME))
    other = next(
        each
        for each in manifest.files
        if each.role == "record" and not each.path.startswith(TINY)
    )
    path = f"{TINY}.record.json"
    tampered.replace(path, tampered.content(other.path))
    files = tuple(
        msgspec.structs.replace(each, sha256=other.sha256, size_bytes=other.size_bytes)
        if each.path == path
        else each
        for each in manifest.files
    )
    tampered.reseal(msgspec.structs.replace(manifest, files=files))
    with pytest.raises(BadBundle) as caught:
        take(closed, tampered.write(tmp_path / "evil.tar"))
    assert f"its record '{path}' is of a file with the SHA-256 " in caught.value.reason
    assert {} == snapshot(closed.models_dir)


def test_another_file_of_the_same_name_keeps_all_out(bundle, tmp_path):
    stock(tmp_path / "other", n_bytes=32 * 2**10)
    other = Store(tmp_path / "other")
    before = snapshot(other.models_dir)
    with pytest.raises(AlreadyTaken):
        take(other, bundle)
    assert before == snapshot(other.models_dir)


def test_a_licence_that_is_there_stays(bundle, closed):
    folder = closed.models_dir / "acme" / "tiny"
    folder.mkdir(parents=True)
    (folder / "LICENSE").write_text("mine")
    imported = take(closed, bundle)
    assert (
        f"'{folder / 'LICENSE'}' stayed as it was; the bundle has another one.",
    ) == imported.notes
    assert "mine" == (folder / "LICENSE").read_text()


def test_two_models_that_share_a_projector_both_arrive(store, closed, forge, tmp_path):
    folder = store.models_dir / "acme" / "tiny"
    (folder / "mmproj-tiny.gguf").write_bytes(
        forge(keys={"general.architecture": (8, "clip")}).build()
    )
    (folder / "tiny-F16.gguf").write_bytes(forge().build())
    take(closed, pack(store, tmp_path / "b.tar").paths[0])
    names = {path.name for path in (closed.models_dir / "acme/tiny").rglob("*.gguf")}
    assert {"mmproj-tiny.gguf", "tiny-F16.gguf", "tiny-F32.gguf"} == names
    assert 3 == len(list_models(closed))

"""Whatever was done to a bundle, it is refused before anything is written."""

import hashlib
import os
import random
import shutil
import tarfile

import msgspec
import pytest

from model_store.bundle import (
    MANIFEST_NAME,
    SIGNATURE_NAME,
    SUMS_NAME,
    BadBundle,
    decode_manifest,
)
from model_store.bundle_reader import open_bundle
from model_store.errors import StoreError
from model_store.layout import Store
from model_store.parts import BadParts
from model_store.signature import (
    BadSignature,
    Policy,
    UntrustedBundle,
)
from model_store.ssh_keys import PublicKey, TrustedKey
from tests.model_store.bundle_forge import (
    Tampered,
    make_signer,
    pack,
    refuse,
    stock,
)

TINY = "acme/tiny/tiny-F32.gguf"


@pytest.fixture(scope="module")
def signer():
    return make_signer()


@pytest.fixture(scope="module")
def stocked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stocked")
    return stock(folder / "home", n_bytes=64 * 2**10)


@pytest.fixture
def store(stocked, tmp_path):
    shutil.copytree(stocked.home, tmp_path / "home")
    return Store(tmp_path / "home")


@pytest.fixture(scope="module")
def packed(stocked, signer):
    return pack(stocked, stocked.home / "b.tar", signer=signer).paths[0]


@pytest.fixture
def bundle(packed, tmp_path):
    return shutil.copy(packed, tmp_path / "b.tar")


def trust(signer, path):
    return (TrustedKey(key=PublicKey(signer.key.raw), path=path / "key.pub"),)


def read(path, signer, policy=Policy.REQUIRE):
    with open_bundle(path) as opened:
        opened.judge(policy, trust(signer, path.parent))
        opened.check_contents()


def test_a_sound_bundle_is_read_and_its_signer_known(bundle, signer):
    seen = []
    with open_bundle(bundle) as opened:
        verdict = opened.judge(Policy.REQUIRE, trust(signer, bundle.parent))
        opened.check_contents(seen.append)
        assert opened.content_bytes == sum(seen)
        assert bundle.stat().st_size == opened.size_bytes
    assert (signer.key, "key.pub") == (verdict.key, verdict.trusted_as)


def test_a_flipped_bit_anywhere_is_found(bundle, signer):
    content = bundle.read_bytes()
    rng = random.Random(4)  # noqa: S311 - not for secrets
    # All of the head, then samples of contents, padding and end.
    offsets = [*range(0, 4_096, 61), *rng.sample(range(len(content)), 40)]
    offsets += [len(content) - 1, len(content) - 5_000]
    for offset in offsets:
        changed = bytearray(content)
        changed[offset] ^= 1 << rng.randrange(8)
        bundle.write_bytes(changed)
        with pytest.raises((BadBundle, BadSignature, BadParts)):
            read(bundle, signer)
    bundle.write_bytes(content)
    read(bundle, signer)


def test_a_flipped_bit_names_the_file_and_the_place(bundle):
    content = bytearray(bundle.read_bytes())
    with tarfile.open(bundle) as archive:
        start = archive.getmember(TINY).offset_data
    before = hashlib.sha256(Tampered.of(bundle).content(TINY)).hexdigest()
    content[start + 5_000] ^= 1
    bundle.write_bytes(content)
    after = hashlib.sha256(Tampered.of(bundle).content(TINY)).hexdigest()
    size = len(Tampered.of(bundle).content(TINY))
    with open_bundle(bundle) as opened, pytest.raises(BadBundle) as caught:
        opened.check_contents()
    assert (
        f"the content of '{TINY}' is damaged: its SHA-256 is {after}, SHA256SUMS says "
        f"{before} (it lies from byte {start} of 'b.tar' to byte {start + size - 1} of "
        "'b.tar')"
    ) == caught.value.reason


def test_all_damaged_files_are_named_at_once(bundle):
    content = bytearray(bundle.read_bytes())
    with tarfile.open(bundle) as archive:
        models = [info for info in archive if info.name.endswith(".gguf")]
    for info in models:
        content[info.offset_data + info.size - 1] ^= 1
    bundle.write_bytes(content)
    with open_bundle(bundle) as opened, pytest.raises(BadBundle) as caught:
        opened.check_contents()
    assert all(f"'{info.name}' is damaged" in caught.value.reason for info in models)


KINDS = {
    tarfile.SYMTYPE: "it is a symbolic link",
    tarfile.LNKTYPE: "it is a hard link",
    tarfile.CHRTYPE: "it is a character device",
    tarfile.BLKTYPE: "it is a block device",
    tarfile.FIFOTYPE: "it is a named pipe",
    tarfile.DIRTYPE: "it is a folder",
    tarfile.CONTTYPE: "it is a contiguous file",
    tarfile.GNUTYPE_SPARSE: "it is a sparse file",
    tarfile.XHDTYPE: "it is an extension header",
    tarfile.XGLTYPE: "it is a global extension header",
    tarfile.GNUTYPE_LONGLINK: "it is a long link name",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["instead", "behind"])
def test_members_of_other_kinds_are_refused(bundle, kind, place):
    tampered = Tampered.of(bundle)
    info = tarfile.TarInfo(TINY)
    info.type = kind
    info.linkname = "/etc/passwd"
    if place == "instead":
        tampered.members.insert(tampered.index(TINY), (info, b""))
    else:
        tampered.members.append((info, b""))
    reason = refuse(tampered.write(bundle))
    if place == "instead":
        assert KINDS[kind] in reason
    else:
        assert "behind its last file, at byte" in reason


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.gguf",
        "/etc/evil.gguf",
        "acme/../evil.gguf",
        "acme/tiny/../../evil.gguf",
        "acme/tiny/.hidden.gguf",
        "acme/.cloister/evil.gguf",
        ".cloister/tiny/evil.gguf",
        "acme/tiny/deep/evil.gguf",
        "acme//evil.gguf",
        "acme/tiny/a\nb.gguf",
        "acme/tiny/a\\b.gguf",
        "acme/tiny/C:evil.gguf",
        "acme/tiny/cafe\u0301.gguf",
        "acme/tiny/evil.gguf.",
        "acme/tiny/" + "a" * 300 + ".gguf",
    ],
)
def test_names_with_tricks_are_refused_even_if_the_list_has_them(bundle, name):
    tampered = Tampered.of(bundle)
    tampered.unsign()
    manifest = decode_manifest(tampered.content(MANIFEST_NAME))
    files = tuple(
        msgspec.structs.replace(each, path=name) if each.path == TINY else each
        for each in manifest.files
    )
    models = tuple(
        msgspec.structs.replace(each, files=(name,)) if each.name == TINY else each
        for each in manifest.models
    )
    tampered.reseal(msgspec.structs.replace(manifest, files=files, models=models))
    tampered.members[tampered.index(TINY)][0].name = name
    reason = refuse(tampered.write(bundle))
    assert reason.startswith("its list 'cloister-bundle.json' is not accepted: it has")


def test_a_licence_that_would_be_a_mark_of_the_store_is_refused(bundle):
    tampered = Tampered.of(bundle)
    tampered.unsign()
    manifest = decode_manifest(tampered.content(MANIFEST_NAME))
    mark = f"{TINY}.damaged.json"
    files = tuple(
        msgspec.structs.replace(each, path=mark) if each.role == "licence" else each
        for each in manifest.files
    )
    tampered.reseal(msgspec.structs.replace(manifest, files=files))
    assert f"it has '{mark}' as licence" in refuse(tampered.write(bundle))


def test_a_member_that_comes_twice_is_refused(bundle):
    tampered = Tampered.of(bundle)
    tampered.members.append(tampered.members[tampered.index(TINY)])
    assert f"is '{TINY}' unlisted" in refuse(tampered.write(bundle))


def test_names_that_differ_in_case_only_are_refused(bundle):
    tampered = Tampered.of(bundle)
    tampered.unsign()
    manifest = decode_manifest(tampered.content(MANIFEST_NAME))
    licence = next(each for each in manifest.files if each.role == "licence")
    twin = msgspec.structs.replace(licence, path="ACME/tiny/LICENSE")
    tampered.reseal(msgspec.structs.replace(manifest, files=(*manifest.files, twin)))
    assert "'acme' and 'ACME', which differ only in case" in refuse(
        tampered.write(bundle)
    )


def test_pax_headers_are_refused_however_large(bundle):
    tampered = Tampered.of(bundle)
    info = tampered.members[tampered.index(TINY)][0]
    info.pax_headers = {"comment": "x" * 2**20, "size": "1"}
    assert (
        "at byte 0 of 'b.tar', it is not in the form in which bundles are written"
    ) == refuse(tampered.write(bundle, tarfile.PAX_FORMAT))


def test_a_gnu_long_name_that_is_not_listed_is_refused(bundle):
    tampered = Tampered.of(bundle)
    tampered.members[tampered.index(TINY)][0].name = "acme/tiny/" + "a" * 150
    assert f"where '{TINY}' should begin, it is not in the form" in refuse(
        tampered.write(bundle)
    )


@pytest.mark.parametrize(
    "size", [b"-0000000001\0", b"\xff" * 12, b"\x80" + b"\xff" * 11]
)
def test_negative_and_huge_sizes_are_refused(bundle, size):
    content = bytearray(bundle.read_bytes())
    with tarfile.open(bundle) as archive:
        start = archive.getmember(SUMS_NAME).offset
    content[start + 124 : start + 136] = size
    content[start + 148 : start + 156] = b" " * 8
    content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])
    bundle.write_bytes(content)
    assert "size" in refuse(bundle) or "bytes; at most" in refuse(bundle)


def test_bytes_behind_the_end_are_refused(bundle):
    with bundle.open("ab") as file:
        file.write(b"x" * 700)
    assert "700 bytes follow its end at byte" in refuse(bundle)


@pytest.mark.parametrize("keep", [0.001, 0.3, 0.9, 0.9999])
def test_a_cut_bundle_is_refused(bundle, keep):
    size = bundle.stat().st_size
    os.truncate(bundle, int(size * keep))
    refuse(bundle, StoreError)


def test_a_cut_bundle_tells_how_much_is_missing(bundle):
    size = bundle.stat().st_size
    os.truncate(bundle, size - 1_000)
    assert (
        f"it has {size - 1_000} bytes and must have {size}; 1000 are missing behind "
        "the end of 'b.tar'"
    ) == refuse(bundle, BadParts)


def test_edited_sums_are_refused(bundle):
    tampered = Tampered.of(bundle)
    sums = tampered.content(SUMS_NAME)
    lines = sums.split(b"\n")
    lines[2] = b"0" * 64 + lines[2][64:]
    tampered.replace(SUMS_NAME, b"\n".join(lines))
    assert "SHA256SUMS differs from its list 'cloister-bundle.json' from line 3" in (
        refuse(tampered.write(bundle))
    )


def test_an_edited_list_is_refused(bundle):
    tampered = Tampered.of(bundle)
    raw = tampered.content(MANIFEST_NAME).replace(b"acme/tiny", b"evil/tiny")
    tampered.replace(MANIFEST_NAME, raw)
    digest = hashlib.sha256(raw).hexdigest()
    assert (
        f"its list 'cloister-bundle.json' has the SHA-256 {digest}, which is not in "
        "the first line of SHA256SUMS"
    ) == refuse(tampered.write(bundle))


def test_a_list_of_another_version_says_so(bundle):
    tampered = Tampered.of(bundle)
    raw = tampered.content(MANIFEST_NAME).replace(b'"version": 1', b'"version": 2')
    tampered.replace(MANIFEST_NAME, raw)
    line = f"{hashlib.sha256(raw).hexdigest()}  {MANIFEST_NAME}\n".encode()
    tampered.replace(SUMS_NAME, line)
    assert (
        "its list 'cloister-bundle.json' is not accepted: it is of the format "
        "'cloister-bundle' version 2; this program reads 'cloister-bundle' version 1"
    ) == refuse(tampered.write(bundle))


def test_a_consistent_forgery_is_caught_by_the_signature(bundle, signer):
    tampered = Tampered.of(bundle)
    manifest = decode_manifest(tampered.content(MANIFEST_NAME))
    content = bytearray(tampered.content(TINY))
    content[-1] ^= 1
    digest = hashlib.sha256(content).hexdigest()
    files = tuple(
        msgspec.structs.replace(each, sha256=digest) if each.path == TINY else each
        for each in manifest.files
    )
    tampered.replace(TINY, bytes(content))
    tampered.reseal(msgspec.structs.replace(manifest, files=files))
    tampered.write(bundle)
    for policy in (Policy.WARN, Policy.REQUIRE):
        with pytest.raises(BadSignature) as caught:
            read(bundle, signer, policy)
        assert (
            "its SHA256SUMS does not fit the signature by the key "
            f"{signer.key.fingerprint}"
        ) == caught.value.reason


def test_a_signature_from_another_bundle_is_refused(bundle, store, tmp_path, signer):
    (store.models_dir / "acme/tiny/LICENSE").write_text("Ask first.\n")
    other = pack(store, tmp_path / "other.tar", signer=signer).paths[0]
    tampered = Tampered.of(bundle)
    tampered.replace(SIGNATURE_NAME, Tampered.of(other).content(SIGNATURE_NAME))
    with pytest.raises(BadSignature):
        read(tampered.write(bundle), signer, Policy.WARN)


def test_a_removed_signature_is_refused_where_one_is_required(bundle, signer):
    tampered = Tampered.of(bundle)
    tampered.unsign()
    tampered.write(bundle)
    with pytest.raises(UntrustedBundle) as caught:
        read(bundle, signer)
    assert "it is not signed" == caught.value.reason


def test_another_key_is_refused_with_both_fingerprints(bundle, signer):
    other = make_signer()
    with pytest.raises(UntrustedBundle) as caught:
        read(bundle, other)
    assert (
        f"its signature is by the key {signer.key.fingerprint}, which is not trusted "
        f"here (trusted: key.pub {other.key.fingerprint})"
    ) == caught.value.reason


def test_a_tar_that_is_no_bundle_is_refused(tmp_path):
    path = tmp_path / "plain.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo("readme.txt")
        archive.addfile(info)
    assert ("at byte 0 of 'plain.tar' is 'readme.txt' and not 'SHA256SUMS'") == refuse(
        path
    )


@pytest.mark.parametrize("content", [b"", b"x" * 100, bytes(10_240), b"GGUF" * 512])
def test_what_is_no_tar_is_refused(tmp_path, content):
    path = tmp_path / "b.tar"
    path.write_bytes(content)
    refuse(path, StoreError)


def test_a_sums_member_that_is_too_long_is_not_read(bundle):
    tampered = Tampered.of(bundle)
    tampered.replace(SUMS_NAME, bytes(8 * 2**20 + 1))
    for info, _ in tampered.members:
        info.mtime = 1_700_000_000
    assert "'SHA256SUMS' has 8388609 bytes; at most 8388608 are accepted" == refuse(
        tampered.write(bundle)
    )

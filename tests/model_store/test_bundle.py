"""The list of a bundle: what it may say, and that it is written in one way."""

import msgspec
import pytest

from model_store.bundle import (
    BundledFile,
    BundledModel,
    FileRole,
    Manifest,
    check_manifest,
    check_path,
    decode_manifest,
    encode_manifest,
    is_licence_name,
    lay_out,
    list_members,
    render_sums,
    total_bytes,
)

PATH = "acme/tiny/tiny.gguf"
FILE = BundledFile(
    path=PATH, role=FileRole.MODEL, size_bytes=1_000, sha256="0" * 64, mtime_s=7
)
MANIFEST = Manifest(models=(BundledModel((PATH,)),), files=(FILE,))


def refuse(**changes):
    with pytest.raises(ValueError, match=r"^it ") as caught:
        check_manifest(msgspec.structs.replace(MANIFEST, **changes))
    return str(caught.value)


def change(**changes):
    return refuse(files=(msgspec.structs.replace(FILE, **changes),))


def test_a_list_is_read_as_it_was_written():
    assert MANIFEST == decode_manifest(encode_manifest(MANIFEST))


def test_another_spelling_of_the_same_list_is_refused():
    raw = encode_manifest(MANIFEST)
    with pytest.raises(ValueError, match="not in the form"):
        decode_manifest(raw + b" ")
    with pytest.raises(ValueError, match="unknown field `more`"):
        decode_manifest(raw.replace(b'"version"', b'"more": 1, "version"'))


@pytest.mark.parametrize("raw", [b"", b"[", b"[]", b"{}", b"[" * 100_000, b"\xff"])
def test_what_is_no_list_is_refused(raw):
    with pytest.raises(ValueError, match=r"^it cannot be read: "):
        decode_manifest(raw)


def test_sums_are_those_of_the_list_and_all_files():
    lines = render_sums(MANIFEST, b"").decode().splitlines()
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert [f"{empty}  cloister-bundle.json", f"{'0' * 64}  {PATH}"] == lines


def test_the_length_follows_from_the_list():
    places = list(lay_out(list_members(MANIFEST, b"x" * 600, b"y" * 512, None)))
    assert [0, 1_024, 2_560] == [place.offset for place in places]
    assert [512, 1_536, 3_072] == [place.content for place in places]
    assert 10_240 == total_bytes(places[-1])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"size_bytes": -1}, "it gives 'acme/tiny/tiny.gguf' -1 bytes"),
        ({"size_bytes": 2**50 + 1}, "0 to 1125899906842624 are accepted"),
        ({"sha256": "A" * 64}, "a wrong time or digest"),
        ({"mtime_s": -1}, "a wrong time or digest"),
        ({"role": FileRole.LICENCE}, "it has 'acme/tiny/tiny.gguf' as licence"),
        ({"role": FileRole.RECORD}, "it has 'acme/tiny/tiny.gguf' as record"),
        ({"role": FileRole.PROJECTOR}, "it has a model without a file"),
    ],
)
def test_impossible_files_are_refused(changes, text):
    assert text in change(**changes)


def test_files_without_model_and_models_without_file_are_refused():
    spare = msgspec.structs.replace(FILE, path="acme/tiny/more.gguf")
    record = msgspec.structs.replace(
        FILE, path="acme/tiny/no.gguf.record.json", role=FileRole.RECORD
    )
    assert "which no model uses" in refuse(files=(FILE, spare))
    assert "without its file" in refuse(files=(FILE, record))
    assert "a model without a file" in refuse(files=())
    assert "a model without a file" in refuse(models=(BundledModel(()),))
    assert "it has 0 models and 1 files" in refuse(models=())
    assert "in 2 models" in refuse(models=MANIFEST.models * 2)
    assert "with a file twice" in refuse(models=(BundledModel((PATH, PATH)),))
    assert f"it has '{PATH}' 2 times" in refuse(files=(FILE, FILE))


def test_a_model_may_not_reach_into_another_folder():
    other = msgspec.structs.replace(FILE, path="acme/else/more.gguf")
    assert "which is no such file of 'acme/tiny'" in refuse(
        files=(FILE, other), models=(BundledModel((PATH, other.path)),)
    )


@pytest.mark.parametrize(
    "path", [PATH, "_a/-b/Größe (1)+x.gguf", "a/b/" + "c" * 195 + ".gguf"]
)
def test_usual_names_are_carried(path):
    check_path(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LICENSE", True),
        ("licence.txt", True),
        ("LICENSE-APACHE.md", True),
        ("NOTICE", True),
        ("USE_POLICY.md", True),
        ("LICENSE.gguf", False),
        ("license.json", False),
        ("SHA256SUMS", False),
        ("x.gguf.damaged.json", False),
        ("license.gguf.record.json", False),
        ("LICENSE.txt.sh", False),
        ("../LICENSE", False),
    ],
)
def test_only_terms_of_use_are_licences(name, expected):
    assert expected == is_licence_name(name)

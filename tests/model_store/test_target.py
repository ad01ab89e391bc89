"""Targets and file names that the store accepts."""

import pytest

from model_store.errors import BadTarget
from model_store.layout import Store
from model_store.target import (
    MAX_FILES,
    Target,
    check_names,
    locate,
    make_part,
    name_folder,
    parse_target,
)


def test_a_target_is_publisher_and_name():
    target = parse_target("Acme-1/My_Model.v2")
    assert Target("Acme-1", "My_Model.v2") == target
    assert "Acme-1/My_Model.v2" == str(target)
    assert "a" * 96 == parse_target(f"x/{'a' * 96}").repository


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model", "it has 1 parts and must be publisher/name"),
        ("a/b/c", "it has 3 parts"),
        ("a/", "'' must be 1 to 96 letters"),
        ("../b", r"'\.\.' must be"),
        ("a/.hidden", "not beginning with a dot"),
        (f"a/{'b' * 97}", "must be 1 to 96 letters"),
        ("a/b c", "'b c' must be"),
        ("a/ü", "must be 1 to 96 letters"),
        ("a/b\n", "must be 1 to 96 letters"),
    ],
)
def test_other_targets_are_refused(text, reason):
    with pytest.raises(BadTarget, match=reason) as caught:
        parse_target(text)
    assert caught.value.message.endswith("Choose another by --as publisher/name.")


@pytest.mark.parametrize(
    "text", ["", "Ümläut/..", ".hidden", "a b", "-", "x" * 200, "a/../../b"]
)
def test_any_text_becomes_a_part_that_is_accepted(text):
    part = make_part(text)
    assert Target(part, part) == parse_target(f"{part}/{part}")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], f"a model has 1 to {MAX_FILES} files, not 0"),
        (["m.gguf"] * (MAX_FILES + 1), f"not {MAX_FILES + 1}"),
        (["m.bin"], "must be printable and end in .gguf"),
        ([".m.gguf"], "must be printable"),
        (["../m.gguf"], "must be printable"),
        (["m\n.gguf"], "must be printable"),
        (["m" * 236 + ".gguf"], "it has 241 bytes; at most 240 are accepted"),
        (["m.gguf", "m.gguf"], "two files would have that name"),
    ],
)
def test_names_that_cannot_be_stored_are_refused(names, reason):
    with pytest.raises(BadTarget, match=reason):
        check_names(names)


def test_the_longest_name_is_accepted():
    check_names(["m" * 235 + ".gguf", "n.GGUF"])


def test_a_link_in_the_place_of_a_folder_is_not_followed(tmp_path):
    store = Store(tmp_path / "home")
    store.create()
    (tmp_path / "foreign").mkdir()
    assert store.models_dir / "a/b" == locate(store, Target("a", "b"))
    (store.models_dir / "linked").symlink_to(tmp_path / "foreign")
    (store.models_dir / "file").write_text("x")
    for publisher in ("linked", "file"):
        with pytest.raises(BadTarget, match="is a link or a file"):
            locate(store, Target(publisher, "b"))


def test_a_folder_of_a_model_is_called_by_its_stem():
    names = ["mmproj-m.gguf", "m-Q8_0-00002-of-00002.gguf"]
    assert "m-Q8_0" == name_folder(names)
    assert "mmproj-m" == name_folder(names[:1])

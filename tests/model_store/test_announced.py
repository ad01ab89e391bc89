"""Digests that lie beside a file."""

import pytest

from model_store.announced import Announced, find_announced
from model_store.errors import BadSums

A, B = "a" * 64, "b" * 64


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "usb/pub/repo/m.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    return path


def test_without_a_list_nothing_is_announced(file, tmp_path):
    assert find_announced(file, tmp_path / "usb") is None
    (file.parent / "SHA256SUMS").write_text(f"{A}  other.gguf\n")
    assert find_announced(file, tmp_path / "usb") is None


def test_a_list_in_the_folder_or_above_counts(file, tmp_path):
    root = tmp_path / "usb"
    (root / "SHA256SUMS").write_text(f"{A}  ./pub/repo/m.gguf\n")
    assert Announced(A, "SHA256SUMS") == find_announced(file, root)
    # What lies above the folder that was named says nothing.
    assert find_announced(file, file.parent) is None
    (file.parent / "SHA256SUMS").write_text(f"{A} *m.gguf\n")
    assert Announced(A, "SHA256SUMS") == find_announced(file, file.parent)


@pytest.mark.parametrize("line", [A, f"{A}  m.gguf", f"{A}  ./dist/m.gguf"])
def test_a_file_may_have_its_own_list(file, line):
    file.with_name("m.gguf.sha256").write_text(line + "\n")
    assert Announced(A, "m.gguf.sha256") == find_announced(file, file.parent)


def test_an_own_list_of_other_files_is_told(file):
    file.with_name("m.gguf.sha256").write_text(f"{A}  n.gguf\n{B}  o.gguf\n")
    with pytest.raises(BadSums, match=r"it has no line for 'm\.gguf'"):
        find_announced(file, file.parent)


def test_two_lists_that_disagree_are_told(file):
    file.with_name("m.gguf.sha256").write_text(A)
    (file.parent / "SHA256SUMS").write_text(f"{B}  m.gguf\n")
    with pytest.raises(BadSums, match=f"digest {B}, but 'm.gguf.sha256' gives it {A}"):
        find_announced(file, file.parent)

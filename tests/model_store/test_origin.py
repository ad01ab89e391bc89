"""Folders of other programs, recognised by their paths."""

import os

import pytest

from model_store.origin import Origin, choose_snapshots, tell_blob_digest, tell_origin
from model_store.scan import scan_directories


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


@pytest.mark.parametrize(
    ("relative", "expected"),
    [
        ("m.gguf", Origin()),
        ("repo/m.gguf", Origin()),
        ("pub/repo/m.gguf", Origin("pub", "repo")),
        ("pub/repo/q8/m.gguf", Origin("pub", "repo")),
        (".lmstudio/models/p/r/m.gguf", Origin("p", "r", is_shared=True)),
        (".cache/lm-studio/models/p/r/m.gguf", Origin("p", "r", is_shared=True)),
        (".lmstudio/models/m.gguf", Origin(is_shared=True)),
        (
            "hub/models--org--a--b/snapshots/abc/sub/m.gguf",
            Origin("org--a", "b", revision="abc", is_shared=True),
        ),
        (
            "hub/models--gpt2/snapshots/abc/m.gguf",
            Origin("huggingface", "gpt2", revision="abc", is_shared=True),
        ),
    ],
)
def test_a_path_tells_whose_file_it_is(tmp_path, relative, expected):
    assert expected == tell_origin(touch(tmp_path / relative), tmp_path)


def test_a_link_to_a_folder_of_lm_studio_is_seen_through(tmp_path):
    touch(tmp_path / ".lmstudio/models/p/r/m.gguf")
    (tmp_path / "link").symlink_to(tmp_path / ".lmstudio/models")
    found = tell_origin(tmp_path / "link/p/r/m.gguf", tmp_path / "link")
    assert Origin("p", "r", is_shared=True) == found


def test_a_blob_is_named_by_its_digest(tmp_path):
    blob = touch(tmp_path / "blobs" / ("a" * 64))
    link = tmp_path / "m.gguf"
    link.symlink_to(blob)
    assert "a" * 64 == tell_blob_digest(link)
    # Files that are not in LFS are named by a shorter digest.
    link.unlink()
    link.symlink_to(touch(tmp_path / "blobs" / ("a" * 40)))
    assert tell_blob_digest(link) is None
    assert tell_blob_digest(touch(tmp_path / ("b" * 64))) is None


def test_without_a_main_revision_the_newest_counts(tmp_path):
    folder = tmp_path / "models--o--n"
    old = touch(folder / "snapshots/b-old/m.gguf")
    new = touch(folder / "snapshots/a-new/m.gguf")

    os.utime(old, (1, 1))
    other = touch(tmp_path / "other.gguf")
    files = scan_directories([tmp_path]).files
    assert {new, other} == {file.path for file in choose_snapshots(files)}
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("b-old\n")
    assert {old, other} == {file.path for file in choose_snapshots(files)}

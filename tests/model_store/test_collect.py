"""Models among the files and folders that a user names."""

import pytest

from model_store.collect import collect
from model_store.errors import BadSource, UnreadableFile

STRING = 8
CLIP = {"general.architecture": (STRING, "clip")}


@pytest.fixture
def usb(place):
    def write(name, content=None, **parts):
        return place(name, content, root="usb", **parts)

    return write


def names(collected):
    return [[path.name for path in each.files] for each in collected.clusters]


def test_shards_of_a_folder_are_one_model_in_order(usb):
    for number in (2, 1):
        path = usb(f"m-0000{number}-of-00002.gguf")
    expected = [["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]]
    assert expected == names(collect([path.parent]))
    assert expected == names(collect([path]))
    assert expected == names(collect([path.with_name(expected[0][1]), path]))


def test_an_incomplete_model_does_not_hide_the_others(usb):
    usb("m-00001-of-00002.gguf")
    found = collect([usb("n.gguf").parent])
    assert [["m-00001-of-00002.gguf"], ["n.gguf"]] == names(found)
    assert "1 are missing: 'm-00002-of-00002.gguf'" in found.clusters[0].error.reason
    assert found.clusters[1].error is None


def test_a_projector_belongs_to_the_models_of_its_folder(usb):
    usb("p/r/a.gguf")
    usb("p/r/q8/b.gguf")
    usb("p/r/mmproj.gguf", keys=CLIP)
    path = usb("p/other/vision.gguf", keys=CLIP)
    found = collect([path.parents[2]])
    assert [
        ["a.gguf", "mmproj.gguf"],
        ["b.gguf", "mmproj.gguf"],
        ["vision.gguf"],
    ] == names(found)
    assert "is a projector; no model lies beside it" in found.notes[0]


def test_a_path_named_twice_counts_once(usb):
    path = usb("m.gguf")
    again = path.parent / ".." / path.parent.name / path.name
    assert [["m.gguf"]] == names(collect([path, again]))
    assert [["m.gguf"]] == names(collect([path.parent, path.parent]))


def test_links_keep_their_names(usb, tmp_path):
    (tmp_path / "link.gguf").symlink_to(usb("blob"))
    (cluster,) = collect([tmp_path / "link.gguf"]).clusters
    assert (tmp_path / "link.gguf",) == cluster.files


def test_what_holds_no_model_is_told(usb, tmp_path):
    usb(".hidden.gguf")
    usb("readme.txt", b"x")
    with pytest.raises(BadSource, match=r"no \.gguf file lies in that folder"):
        collect([tmp_path / "usb"])
    with pytest.raises(UnreadableFile):
        collect([tmp_path / "nul\0"])

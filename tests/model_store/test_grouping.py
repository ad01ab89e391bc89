"""Which files make one model."""

from pathlib import Path

from model_store.grouping import group_files, tell_missing
from model_store.scan import FoundFile


def files(*relatives, root=0):
    return [
        FoundFile(
            root=root,
            relative=tuple(each.split("/")),
            path=Path(f"/root{root}", each),
            size_bytes=1,
            mtime_ns=1,
            inode=1,
            device=1,
        )
        for each in sorted(relatives)
    ]


def paths(groups):
    return [[str(file.path) for file in group.files] for group in groups]


def test_shards_are_one_model_in_their_order():
    groups = group_files(
        files("p/r/m-00002-of-00002.gguf", "p/r/m-00001-of-00002.gguf", "p/r/n.gguf")
    )
    assert paths(groups) == [
        ["/root0/p/r/m-00001-of-00002.gguf", "/root0/p/r/m-00002-of-00002.gguf"],
        ["/root0/p/r/n.gguf"],
    ]
    assert [group.missing for group in groups] == [(), ()]


def test_shards_of_different_folders_or_counts_do_not_mix():
    groups = group_files(
        files(
            "a/m-00001-of-00002.gguf",
            "b/m-00002-of-00002.gguf",
            "b/m-00002-of-00003.gguf",
        )
    )
    assert [len(group.missing) for group in groups] == [1, 1, 2]


def test_missing_shards_are_named():
    (group,) = group_files(files("m-00002-of-00003.gguf"))
    assert tell_missing(group) == (
        "The model '/root0/m-00002-of-00003.gguf' is split into 3 files, of which 2 "
        "are missing: 'm-00001-of-00003.gguf', 'm-00003-of-00003.gguf'. Put them into "
        "the same folder."
    )


def test_only_some_of_many_missing_shards_are_named():
    (group,) = group_files(files("m-00001-of-00100.gguf"))
    text = tell_missing(group)
    assert "of which 99 are missing" in text
    assert "'m-00009-of-00100.gguf' and 91 more. Put" in text
    assert "m-00010" not in text


def test_the_first_directory_wins():
    groups = group_files(
        files("p/r/m.gguf") + files("p/r/m.gguf", "p/r/n.gguf", root=1)
    )
    assert paths(groups) == [["/root0/p/r/m.gguf"], ["/root1/p/r/n.gguf"]]


def test_a_split_model_is_never_put_together_from_two_directories():
    groups = group_files(
        files("m-00001-of-00002.gguf") + files("m-00002-of-00002.gguf", root=1)
    )
    (group,) = groups
    assert group.missing == ("m-00002-of-00002.gguf",)


def test_folders_name_publisher_and_repository():
    groups = group_files(files("a.gguf", "r/b.gguf", "p/r/c.gguf", "p/r/x/y/d.gguf"))
    named = {group.file_name: (group.publisher, group.repository) for group in groups}
    assert named == {
        "a.gguf": ("", ""),
        "b.gguf": ("", "r"),
        "c.gguf": ("p", "r"),
        "d.gguf": ("p", "r"),
    }


def test_projectors_are_looked_for_beside_the_model_and_in_its_repository():
    groups = group_files(files("a.gguf", "p/r/c.gguf", "p/r/x/y/d.gguf"))
    assert [{str(each) for each in group.folders} for group in groups] == [
        {"/root0"},
        {"/root0/p/r"},
        {"/root0/p/r/x/y", "/root0/p/r"},
    ]


def test_hostile_names_are_printable():
    (group,) = group_files(files("p\x1b/r\n/m\udcff.gguf"))
    assert (group.publisher, group.repository, group.file_name) == (
        "p",
        "r",
        "m\ufffd.gguf",
    )

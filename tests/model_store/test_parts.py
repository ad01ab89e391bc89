"""Parts read like the one file that they were."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_store.errors import UnreadableFile
from model_store.parts import BadParts, Parts, bundle_name, find_parts, part_path

CONTENT = bytes(range(100))


def cut(folder, part_bytes):
    pieces = [CONTENT[i : i + part_bytes] for i in range(0, len(CONTENT), part_bytes)]
    for number, piece in enumerate(pieces, 1):
        part_path(folder / "b.tar", number).write_bytes(piece)
    return find_parts(folder / "b.tar")


@given(
    st.integers(1, 120),
    st.lists(st.tuples(st.integers(0, 110), st.integers(0, 120)), max_size=6),
)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_reads_of_parts_are_those_of_the_whole(tmp_path, part_bytes, reads):
    for old in tmp_path.iterdir():
        old.unlink()
    with Parts(cut(tmp_path, part_bytes)) as parts:
        assert len(CONTENT) == parts.size_bytes
        for position, n_bytes in reads:
            parts.seek(position)
            assert CONTENT[position : position + n_bytes] == parts.read(n_bytes)


def test_missing_numbers_are_named(tmp_path):
    for number in (2, 3, 5, 20):
        part_path(tmp_path / "b.tar", number).write_bytes(b"x")
    with pytest.raises(BadParts) as caught:
        find_parts(tmp_path / "b.tar")
    assert (
        "of its parts b.tar.001, b.tar.004, b.tar.006, b.tar.007, b.tar.008, "
        "b.tar.009, b.tar.010, b.tar.011 and 8 more are missing"
    ) == caught.value.reason


def test_a_shorter_part_in_the_middle_is_named(tmp_path):
    paths = cut(tmp_path, 30)
    paths[1].write_bytes(b"x" * 29)
    with pytest.raises(BadParts) as caught:
        Parts(paths)
    assert (
        "'b.tar.002' has 29 bytes and 'b.tar.001' 30; all parts but the last have one "
        "size, and the last is not larger"
    ) == caught.value.reason


def test_a_part_that_shrinks_meanwhile_is_told(tmp_path):
    paths = cut(tmp_path, 30)
    with Parts(paths) as parts:
        paths[2].write_bytes(b"")
        parts.seek(60)
        with pytest.raises(BadParts) as caught:
            parts.read(5)
    assert (
        "'b.tar.003' ended at byte 0 and had 30 before; it is being changed"
    ) == caught.value.reason


def test_a_place_is_told_by_part_and_byte(tmp_path):
    with Parts(cut(tmp_path, 30)) as parts:
        assert "byte 5 of 'b.tar.003'" == parts.name_at(65)
        assert "byte 9 of 'b.tar.004'" == parts.name_at(1_000)


def test_names(tmp_path):
    assert ("b.tar", "b.tar") == (
        bundle_name(tmp_path / "b.tar.007"),
        bundle_name(tmp_path / "b.tar"),
    )
    with pytest.raises(UnreadableFile):
        find_parts(tmp_path / "none" / "b.tar")
    with pytest.raises(UnreadableFile) as caught:
        Parts((tmp_path,))
    assert "it is not a regular file" == caught.value.reason

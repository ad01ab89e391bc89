"""The headers are tar's; nothing but what is written is read."""

import contextlib
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.tar_header import (
    MAX_MTIME_S,
    BadHeaderError,
    Member,
    pack_header,
    read_member,
)

names = st.text(
    st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=240
).filter(lambda name: not name.endswith("/"))
members = st.builds(
    Member,
    path=names,
    size_bytes=st.one_of(st.integers(0, 2**50), st.sampled_from([8**11 - 1, 8**11])),
    mtime_s=st.integers(0, MAX_MTIME_S),
)


@given(members)
def test_a_header_is_read_as_it_was_written(member):
    assert member == read_member(io.BytesIO(pack_header(member)).read)


@given(members)
def test_tarfile_reads_the_same(member):
    raw = io.BytesIO(pack_header(member) + bytes(1_024))
    with tarfile.open(fileobj=raw) as archive:
        info = archive.next()
    assert (member.path, member.size_bytes, member.mtime_s) == (
        info.name,
        info.size,
        info.mtime,
    )
    assert (True, 0, 0, 0o644) == (info.isreg(), info.uid, info.gid, info.mode)


def flip_each_bit(header):
    for bit in range(len(header) * 8):
        changed = bytearray(header)
        changed[bit // 8] ^= 1 << bit % 8
        yield io.BytesIO(changed).read


def test_a_flipped_bit_anywhere_in_a_header_is_found():
    header = pack_header(Member(path="a/b/c", size_bytes=9**12, mtime_s=1_700_000_000))
    for read in flip_each_bit(header):
        with pytest.raises(BadHeaderError):
            read_member(read)


def test_a_flipped_bit_in_a_long_name_is_found_or_gives_another_name():
    member = Member(path="a/b/" + "c" * 150, size_bytes=7, mtime_s=1_700_000_000)
    for read in flip_each_bit(pack_header(member)):
        with contextlib.suppress(BadHeaderError):
            assert member.path != read_member(read).path


def test_a_cut_header_says_where():
    header = pack_header(Member(path="a", size_bytes=1, mtime_s=1))
    with pytest.raises(BadHeaderError, match="after 511 bytes of its header"):
        read_member(io.BytesIO(header[:511]).read)


def test_zeros_are_the_end():
    assert read_member(io.BytesIO(bytes(512)).read) is None


@pytest.mark.parametrize("n_bytes", [100, 1_025, 2**40])
def test_long_names_have_bounds(n_bytes):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, n_bytes + 1
    raw = info.tobuf(tarfile.GNU_FORMAT) + b"a" * 2**11
    with pytest.raises(BadHeaderError, match=f"a long name of {n_bytes} bytes"):
        read_member(io.BytesIO(raw).read)


def test_a_name_that_is_not_utf8_is_shown():
    info = tarfile.TarInfo("caf\xe9")
    raw = info.tobuf(tarfile.GNU_FORMAT, encoding="latin-1")
    with pytest.raises(BadHeaderError, match="not UTF-8"):
        read_member(io.BytesIO(raw).read)

"""The files of a bundle appear all at once or not at all."""

import hashlib

import pytest

from model_store.bundle_output import CannotWrite, Output, check_output


def test_parts_hold_the_bytes_in_order(tmp_path):
    content = bytes(range(256)) * 10
    with Output(tmp_path / "b", 1_000) as output:
        for start in range(0, len(content), 300):
            output.write(content[start : start + 300])
        assert len(content) == output.position
        assert all(path.name.startswith(".b.") for path in tmp_path.iterdir())
        written = output.publish()
    pieces = [content[:1_000], content[1_000:2_000], content[2_000:]]
    assert pieces == [path.read_bytes() for path in written.paths]
    assert [hashlib.sha256(each).hexdigest() for each in pieces] == [*written.digests]
    names = ["b.001", "b.002", "b.003", "b.sha256"]
    assert names == sorted(path.name for path in tmp_path.iterdir())


def test_what_was_not_published_is_removed(tmp_path):
    with Output(tmp_path / "b", 4) as output:
        output.write(b"0123456789")
    assert [] == list(tmp_path.iterdir())


def test_a_disk_that_is_too_small_is_known_before(tmp_path):
    with pytest.raises(CannotWrite) as caught:
        check_output(tmp_path / "b", 2**60, None)
    assert "1024.0 PiB (1152921504606846976 bytes) are needed, " in caught.value.reason


@pytest.mark.parametrize(
    ("size_bytes", "split_bytes", "expected"),
    [
        (10_240, None, None),
        (2**29, 2**20, (2**20 - 1) // 10_240 * 10_240),
        (2**20, 2**32, None),
    ],
)
def test_parts_are_smaller_than_asked_for(tmp_path, size_bytes, split_bytes, expected):
    assert expected == check_output(tmp_path / "b", size_bytes, split_bytes)

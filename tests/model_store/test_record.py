"""Records, marks and lists of checksums beside a file."""

import hashlib
import os
import subprocess

import msgspec
import pytest

from model_store import record as records
from model_store.errors import BadRecord, BadSums, StoreUnwritable
from model_store.record import (
    Damage,
    Record,
    Source,
    clear_damage,
    damage_path,
    read_damage,
    read_record,
    read_sums,
    record_path,
    write_atomically,
    write_damage,
    write_record,
    write_sums,
)

HEX = hashlib.sha256(b"x").hexdigest()
OTHER = hashlib.sha256(b"y").hexdigest()


def make_record(**changes):
    fields = {
        "file_name": "m.gguf",
        "size_bytes": 1,
        "mtime_ns": 5,
        "sha256": HEX,
        "chunks": (HEX,),
        "admitted_at": "2026-11-22T10:00:00Z",
        "verified_against": "--sha256",
        "source": Source("sideload", "/mnt/usb", file="m.gguf"),
        "licence": "mit",
        "architecture": "llama",
        "quantization": "Q8_0",
        "n_params": 7,
        "template_sha256": None,
        "linked": "copy",
    }
    return Record(**(fields | changes))


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"x")
    return path


def test_a_record_is_read_as_it_was_written(file):
    assert read_record(file) is None
    write_record(file, make_record())
    assert make_record() == read_record(file)
    assert ["m.gguf", "m.gguf.record.json"] == list_names(file.parent)


def test_a_record_can_be_read_by_people_and_other_programs(file):
    write_record(file, make_record())
    text = record_path(file).read_text()
    assert f'\n "sha256": "{HEX}"' in text
    assert "sideload" == msgspec.json.decode(text)["source"]["kind"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "truncated"),
        (b"[" * 100_000, "recursion|Expected"),
        (b"{}", "missing required field `file_name`"),
        (b"\xff", "malformed|invalid"),
    ],
)
def test_a_broken_record_is_told(file, content, reason):
    record_path(file).write_bytes(content)
    with pytest.raises(BadRecord, match=rf"m\.gguf\.record\.json.*({reason})"):
        read_record(file)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 2}, "its version is 2; known is 1"),
        ({"chunks": ()}, "it has 0 chunk digests for 1 bytes; there must be 1"),
        ({"sha256": HEX + "\n"}, "sha256"),
        ({"size_bytes": -1}, "size_bytes"),
        ({"linked": "magic"}, "Invalid enum value 'magic'"),
        ({"chunk_bytes": 0}, "chunk_bytes"),
    ],
)
def test_a_record_with_impossible_values_is_told(file, change, reason):
    fields = msgspec.to_builtins(make_record()) | change
    record_path(file).write_bytes(msgspec.json.encode(fields))
    with pytest.raises(BadRecord, match=reason):
        read_record(file)


def test_a_record_that_is_a_pipe_or_too_long_is_told(file, monkeypatch):
    os.mkfifo(record_path(file))
    with pytest.raises(BadRecord, match="it is not a regular file"):
        read_record(file)
    record_path(file).unlink()
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 100)
    record_path(file).write_bytes(b" " * 101)
    with pytest.raises(BadRecord, match="it has more than 100 bytes"):
        read_record(file)


def test_quarantine_is_a_mark_beside_the_file(file):
    assert read_damage(file) is None
    clear_damage(file)
    damage = Damage("2026-11-22T10:00:00Z", "2 chunks differ", (3, 5))
    write_damage(file, damage)
    assert damage == read_damage(file)
    clear_damage(file)
    assert read_damage(file) is None


def test_a_mark_that_cannot_be_read_is_a_quarantine_all_the_same(file):
    damage_path(file).write_bytes(b"?")
    assert "cannot be understood" in read_damage(file).reason
    damage_path(file).unlink()
    damage_path(file).mkdir()
    assert "Is a directory" in read_damage(file).reason
    with pytest.raises(StoreUnwritable):
        clear_damage(file)


def test_an_unfinished_file_lies_in_the_scratch_folder(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "a").mkdir()
    # A folder cannot be replaced by a file, so the rename fails.
    with pytest.raises(StoreUnwritable, match="a"):
        write_atomically(tmp_path / "a", b"x", scratch=tmp_path / "scratch")
    assert [] == list_names(tmp_path / "scratch")
    write_atomically(tmp_path / "b", b"x", scratch=tmp_path / "scratch")
    assert ["a", "b", "scratch"] == list_names(tmp_path)


def test_sha256sum_accepts_the_list(tmp_path):
    for name in ("b.gguf", "a b.gguf", "c\\d.gguf"):
        (tmp_path / name).write_bytes(b"x")
        write_record(tmp_path / name, make_record())
    write_sums(tmp_path)
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", "SHA256SUMS"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, 3) == (done.returncode, done.stdout.count(": OK"))


def test_the_list_follows_the_records(tmp_path, file):
    write_record(file, make_record())
    gone = tmp_path / "gone.gguf"
    write_record(gone, make_record())
    (tmp_path / "foreign.gguf").write_bytes(b"y")
    (tmp_path / "SHA256SUMS").write_text(
        f"{OTHER}  foreign.gguf\n{OTHER}  m.gguf\n{OTHER}  gone.gguf\n"
    )
    write_sums(tmp_path)
    expected = f"{OTHER}  foreign.gguf\n{HEX}  m.gguf\n"
    assert expected == (tmp_path / "SHA256SUMS").read_text()


def test_a_list_without_lines_is_removed(tmp_path, file):
    write_record(file, make_record())
    write_sums(tmp_path)
    file.unlink()
    write_sums(tmp_path)
    assert ["m.gguf.record.json"] == list_names(tmp_path)


def test_a_list_that_cannot_be_understood_is_put_aside(tmp_path, file):
    write_record(file, make_record())
    (tmp_path / "SHA256SUMS").write_text("hello\n")
    write_sums(tmp_path)
    assert {"m.gguf": HEX} == read_sums(tmp_path / "SHA256SUMS")
    assert "hello\n" == (tmp_path / "SHA256SUMS.unreadable").read_text()


def test_the_same_list_is_not_written_again(tmp_path, file):
    write_record(file, make_record())
    write_sums(tmp_path)
    inode = (tmp_path / "SHA256SUMS").stat().st_ino
    write_sums(tmp_path)
    assert inode == (tmp_path / "SHA256SUMS").stat().st_ino


def test_all_usual_lines_are_understood(tmp_path):
    (tmp_path / "S").write_bytes(
        "\ufeff# made by hand\r\n\r\n"
        f"{HEX}  a.gguf\r\n"
        f"{HEX.upper()} *b c.gguf\n"
        f"{HEX} d.gguf\n"
        f"SHA256 (e (1).gguf) = {OTHER}\n"
        f"\\{HEX}  f\\\\g\\nh.gguf\n"
        f"{HEX}  ./i/j.gguf\n"
        f"{OTHER}\n".encode()
    )
    expected = {
        "a.gguf": HEX,
        "b c.gguf": HEX,
        "d.gguf": HEX,
        "e (1).gguf": OTHER,
        "f\\g\nh.gguf": HEX,
        "i/j.gguf": HEX,
        "": OTHER,
    }
    assert expected == read_sums(tmp_path / "S")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f"{HEX}  a\nhello\n", "line 2 is 'hello', which is no checksum"),
        (f"{HEX[1:]}  a\n", "line 1 is"),
        (f"{HEX}  a\n{OTHER}  ./a\n", "line 2 gives 'a' a second digest"),
    ],
)
def test_other_lines_are_told_by_number(tmp_path, content, reason):
    (tmp_path / "S").write_text(content)
    with pytest.raises(BadSums, match=reason):
        read_sums(tmp_path / "S")


def test_a_list_that_is_too_long_or_missing_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MAX_SUMS_BYTES", 100)
    (tmp_path / "S").write_text("#" * 101)
    with pytest.raises(BadSums, match="it has more than 100 bytes"):
        read_sums(tmp_path / "S")
    with pytest.raises(BadSums, match="No such file"):
        read_sums(tmp_path / "none")

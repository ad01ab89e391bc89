"""Finding files: layouts, links, loops and what cannot be read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model_store import scan
from model_store.scan import scan_directories


def found(*roots):
    return [
        (each.root, "/".join(each.relative)) for each in scan_directories(roots).files
    ]


def test_files_at_any_depth_are_found_in_order(tmp_path, place):
    for relative in ("b.gguf", "pub/repo/a.gguf", "pub/repo/deep/er/c.GGUF"):
        place(relative, b"")
    place("pub/repo/readme.md", b"")
    place("pub/repo/.cache/hidden.gguf", b"")
    place("pub/._a.gguf", b"")
    assert found(tmp_path / "models") == [
        (0, "b.gguf"),
        (0, "pub/repo/a.gguf"),
        (0, "pub/repo/deep/er/c.GGUF"),
    ]


def test_a_file_is_described(tmp_path, place):
    path = place("p/r/a.gguf", b"12345")
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    (file,) = scan_directories([tmp_path / "models"]).files
    assert (file.path, file.size_bytes, file.mtime_ns) == (
        path,
        5,
        1_700_000_000_123_456_789,
    )


def test_links_are_followed_and_loops_end(tmp_path, place):
    real = place("p/r/a.gguf", b"")
    outside = place("o/x.gguf", b"", root="outside")
    models = tmp_path / "models"
    (models / "a-link").symlink_to(outside.parent)
    (models / "loop").symlink_to(models)
    (models / "p" / "back").symlink_to(models / "p")
    (models / "b.gguf").symlink_to(real)
    assert found(models) == [
        (0, "a-link/x.gguf"),
        (0, "b.gguf"),
        (0, "p/r/a.gguf"),
    ]


def test_a_linked_folder_keeps_its_real_place(tmp_path, place):
    place("z/r/a.gguf", b"")
    models = tmp_path / "models"
    (models / "a").symlink_to(models / "z")
    assert found(models) == [(0, "z/r/a.gguf")]


def test_a_directory_inside_another_counts_once(tmp_path, place):
    place("p/r/a.gguf", b"")
    models = tmp_path / "models"
    assert found(models, models / "p") == [(0, "p/r/a.gguf")]
    assert found(models / "p", models) == [(0, "r/a.gguf")]


def test_what_cannot_be_read_is_noted(tmp_path, place):
    place("a.gguf", b"")
    models = tmp_path / "models"
    (models / "gone.gguf").symlink_to(models / "nowhere")
    (models / "self").symlink_to("self")
    os.mkfifo(models / "pipe.gguf")
    result = scan_directories([models, tmp_path / "absent"])
    assert [each.relative for each in result.files] == [("a.gguf",)]
    assert set(result.notes) == {
        f"The file '{models}/self' cannot be read: Too many levels of symbolic links.",
        f"The file '{models}/gone.gguf' cannot be read: No such file or directory.",
        f"'{models}/pipe.gguf' is not a regular file and was left out.",
        f"The folder '{tmp_path}/absent' cannot be read: No such file or directory.",
    }


NO_OTHER_USER = 77
UNREADABLE = """
import os, sys
from pathlib import Path
from model_store.scan import scan_directories
if os.geteuid() == 0:
    try:
        os.seteuid(65534)
    except OSError:
        sys.exit(77)
result = scan_directories([Path(sys.argv[1])])
print([each.relative[-1] for each in result.files], *result.notes)
"""


def test_an_unreadable_folder_does_not_stop_the_scan(tmp_path, place):
    place("open/a.gguf", b"")
    closed = place("closed/b.gguf", b"").parent
    (tmp_path / "models").chmod(0o755)
    closed.chmod(0)
    try:
        done = subprocess.run(
            [sys.executable, "-c", UNREADABLE, "."],
            cwd=tmp_path / "models",
            env={"PYTHONPATH": str(Path(scan.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        closed.chmod(0o755)
    if done.returncode == NO_OTHER_USER:
        pytest.skip("root of a user namespace, where there is no other user")
    assert 0 == done.returncode, done.stderr
    assert done.stdout.strip() == (
        "['a.gguf'] The folder './closed' cannot be read: Permission denied."
    )


def test_names_that_are_no_text_are_found(tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    for name in (b"caf\xe9.gguf", b"new\nline.gguf", b"x" * 250 + b".gguf"):
        with open(os.path.join(os.fsencode(models), name), "wb"):  # noqa: PTH118, PTH123
            pass
    assert len(found(models)) == 3


def test_depth_is_bounded(tmp_path, place):
    deep = "/".join(["d"] * scan.MAX_DEPTH)
    place(f"{deep}/in.gguf", b"")
    place(f"{deep}/d/out.gguf", b"")
    result = scan_directories([tmp_path / "models"])
    assert [each.relative[-1] for each in result.files] == ["in.gguf"]
    (note,) = result.notes
    assert note == (
        f"The folder '{tmp_path}/models/{deep}/d' lies deeper than 16 folders and "
        "was not looked at."
    )


def test_entries_are_bounded(tmp_path, place, monkeypatch):
    monkeypatch.setattr(scan, "MAX_ENTRIES", 3)
    for number in range(4):
        place(f"{number}/a.gguf", b"")
    result = scan_directories([tmp_path / "models"])
    assert result.files == ()
    (note,) = result.notes
    assert note == (
        "The models directories have more than 3 entries; the rest was not looked at."
    )


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_is_written(tmp_path, place, count):
    for number in range(count):
        place(f"p/r/{number}.gguf", b"")
    models = tmp_path / "models"
    before = sorted((str(path), path.stat().st_mtime_ns) for path in models.rglob("*"))
    models.chmod(0o555)
    try:
        scan_directories([models])
    finally:
        models.chmod(0o755)
    after = sorted((str(path), path.stat().st_mtime_ns) for path in models.rglob("*"))
    assert before == after


def test_records_and_marks_beside_a_file_are_seen(tmp_path, place):
    place("p/r/a.gguf", b"")
    place("p/r/a.gguf.record.json", b"")
    place("p/r/b.gguf", b"")
    place("p/r/b.gguf.damaged.json", b"")
    files = scan_directories([tmp_path / "models"]).files
    assert [(True, False), (False, True)] == [
        (each.is_recorded, each.is_quarantined) for each in files
    ]


def test_a_record_whose_file_is_gone_names_the_lost_file(tmp_path, place):
    record = place("p/r/a.gguf.record.json", b"")
    place("p/r/notes.record.json", b"")
    place(".cloister/b.gguf.record.json", b"")
    scan_ = scan_directories([tmp_path / "models"])
    assert ((), (record.with_name("a.gguf"),)) == (scan_.files, scan_.lost)

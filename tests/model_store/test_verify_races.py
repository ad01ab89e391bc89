"""Files that are written, replaced, removed or imported while they are verified."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from model_store.digest import CHUNK_BYTES
from model_store.record import damage_path
from model_store.verify import Verdict, verify_file
from tests.model_store.stored_models import flip_bit, make_bytes, make_shelf

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shelf(tmp_path):
    return make_shelf(tmp_path)


@pytest.fixture
def path(shelf):
    return shelf.put("p/r/m.gguf")


def list_tree(folder):
    """Describe every file below a folder with its bytes and time."""
    return {
        each: (each.stat().st_mtime_ns, each.read_bytes() if each.is_file() else b"")
        for each in sorted(folder.rglob("*"))
    }


def test_a_file_written_while_it_is_read_is_not_judged(shelf, path):
    def touch(_n_bytes):
        os.utime(path, ns=(0, 5))

    check = verify_file(path, store=shelf.store, progress=touch)
    assert (Verdict.CHANGED, True) == (check.verdict, check.is_failure)
    assert not damage_path(path).exists()


def test_a_file_replaced_while_it_is_read_gets_no_mark(shelf, path, tmp_path):
    flip_bit(path, 0)
    (tmp_path / "good.gguf").write_bytes(make_bytes())

    def exchange(_n_bytes):
        if (tmp_path / "good.gguf").exists():
            (tmp_path / "good.gguf").replace(path)

    check = verify_file(path, store=shelf.store, progress=exchange)
    assert (Verdict.CHANGED, "another file took its place, or it was written") == (
        check.verdict,
        check.reason,
    )
    assert not damage_path(path).exists()


def test_a_file_removed_while_it_is_read_is_missing(shelf, path):
    flip_bit(path, 0)

    def remove(_n_bytes):
        path.unlink(missing_ok=True)

    check = verify_file(path, store=shelf.store, progress=remove)
    assert Verdict.MISSING is check.verdict
    assert not damage_path(path).exists()


def test_an_interrupted_check_changes_nothing(shelf, path):
    flip_bit(path, 0)
    before = list_tree(shelf.store.models_dir)

    def interrupt(_n_bytes):
        raise KeyboardInterrupt

    n_threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        verify_file(path, store=shelf.store, progress=interrupt)
    assert before == list_tree(shelf.store.models_dir)
    assert n_threads == threading.active_count()


REMOVE = """
import sys, time
from pathlib import Path
from model_store.catalog import Catalog
from model_store.layout import Store
from model_store.removal import plan_removal, remove_model
store = Store(Path(sys.argv[1]))
catalog = Catalog([store.models_dir]); catalog.refresh()
for model in catalog.entries():
    remove_model(catalog, store, plan_removal(catalog, store, model.id))
"""


def test_removing_in_another_process_while_verifying_leaves_nothing(shelf):
    """Whatever the verifier was at, no mark and no record stays behind."""
    paths = [
        shelf.put(f"p/r{number}/m{number}.gguf", make_bytes(CHUNK_BYTES, number))
        for number in range(6)
    ]
    for path in paths:
        flip_bit(path, 0)
    with subprocess.Popen(
        [sys.executable, "-c", REMOVE, str(shelf.store.home)], cwd=ROOT
    ) as remover:
        verdicts = set()
        while remover.poll() is None:
            verdicts |= {verify_file(p, store=shelf.store).verdict for p in paths}
        assert 0 == remover.returncode
    assert Verdict.DAMAGED in verdicts
    assert verdicts <= {Verdict.DAMAGED, Verdict.MISSING}
    left = [p for p in shelf.store.models_dir.rglob("*") if ".cloister" not in p.parts]
    assert [] == left


IMPORT = """
import sys
from pathlib import Path
from model_store.admission import Incoming, Target, admit
from model_store.layout import Store
from model_store.record import Source
store = Store(Path(sys.argv[1]))
for number in range(8):
    file = Path(sys.argv[2])
    with store.staging() as staging:
        admit(
            store,
            staging,
            [Incoming(path=file, name=f"m{number}.gguf", expected_sha256=None,
                      expected_by=None, how="copy", digest=None)],
            Target("p", f"r{number}"),
            Source(kind="sideload", location=str(file.parent)),
        )
"""


def test_verifying_while_another_process_imports_sees_only_sound_files(
    shelf, forge, tmp_path
):
    source = tmp_path / "m.gguf"
    source.write_bytes(forge().build())
    seen = set()
    with subprocess.Popen(
        [sys.executable, "-c", IMPORT, str(shelf.store.home), str(source)], cwd=ROOT
    ) as importer:
        while importer.poll() is None or len(seen) < 8:
            for path in shelf.store.models_dir.glob("*/*/*.gguf"):
                check = verify_file(path, store=shelf.store)
                assert Verdict.SOUND is check.verdict, check
                seen.add(path.name)
            if importer.poll() not in {None, 0}:
                break
        assert 0 == importer.returncode
    assert {f"m{number}.gguf" for number in range(8)} == seen
    assert [] == list(shelf.store.models_dir.rglob("*.damaged.json"))

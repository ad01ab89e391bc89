"""The store's folders and locks, between threads and processes."""

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from model_store import layout
from model_store.errors import StoreBusy, StoreUnwritable
from model_store.layout import Store, sync_folder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "home")


def list_areas(store):
    return sorted(p.name for p in (store.models_dir / ".cloister/incoming").iterdir())


def test_create_makes_a_home_that_only_its_owner_may_enter(store):
    store.create()
    store.create()
    assert store.models_dir.is_dir()
    assert 0o700 == stat.S_IMODE(store.home.stat().st_mode)


def test_a_store_that_is_only_named_makes_nothing(store):
    assert not store.home.exists()


def test_a_file_in_the_place_of_the_home_is_told(tmp_path):
    (tmp_path / "home").write_text("x")
    with pytest.raises(StoreUnwritable, match=r"cannot be written at .*home"):
        Store(tmp_path / "home").create()


def test_an_area_is_fresh_on_the_same_file_system_and_gone_afterwards(store):
    with store.staging() as first, store.staging() as second:
        assert first != second
        assert [] == list(first.iterdir())
        assert first.stat().st_dev == store.models_dir.stat().st_dev
        (first / "part").write_bytes(b"x")
    assert [] == list_areas(store)


def test_an_area_is_removed_after_an_error_too(store):
    with pytest.raises(FileNotFoundError), store.staging() as area:
        (area / "part" / "none").write_bytes(b"x")
    assert [] == list_areas(store)


def test_a_living_owners_area_is_left_alone(store):
    with store.staging() as area:
        (area / "part").write_bytes(b"x")
        store.create()
        assert (area / "part").exists()


def test_a_killed_owners_area_is_removed_by_the_next(store):
    code = (
        "import sys, time; from pathlib import Path; "
        "from model_store.layout import Store\n"
        "with Store(Path(sys.argv[1])).staging() as area:\n"
        "    (area / 'part').write_bytes(b'x'); print(area, flush=True)\n"
        "    time.sleep(60)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(store.home)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with owner:
        area = Path(owner.stdout.readline().strip())
        store.create()
        assert (area / "part").exists()
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert (area / "part").exists()
        with store.staging():
            assert not area.exists()
    assert [] == list_areas(store)


def test_the_lock_is_held_by_one_at_a_time(store):
    inside, seen = threading.Event(), []

    def change():
        with store.exclusive():
            seen.append(inside.is_set())

    with store.exclusive():
        other = threading.Thread(target=change)
        other.start()
        other.join(0.3)
        assert other.is_alive()
        inside.set()
    other.join(10)
    assert [True] == seen


def test_a_lock_that_stays_held_ends_in_an_error(store, monkeypatch):
    monkeypatch.setattr(layout, "LOCK_WAIT_S", 0.2)
    with (
        store.exclusive(),
        pytest.raises(
            StoreBusy,
            match=r"is busy: another process has been changing it for 0\.2 s\. Wait",
        ),
        Store(store.home).exclusive(),
    ):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_told(tmp_path):
    (tmp_path / "home").mkdir(mode=0o500)
    with pytest.raises(StoreUnwritable, match="Permission denied"):
        Store(tmp_path / "home").create()


def test_syncing_a_folder_that_is_gone_is_told(tmp_path):
    sync_folder(tmp_path)
    with pytest.raises(StoreUnwritable, match="No such file"):
        sync_folder(tmp_path / "none")

"""`scripts.wheel_cache`: wheels appear whole, once, under their key."""

import select
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.wheel_cache import (
    InstallError,
    drop_wheel,
    find_cache,
    find_wheel,
    hold_lock,
    store_wheel,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "a-1-any.whl"
    path.write_bytes(b"first")
    return path


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"CLOISTER_WHEEL_CACHE": "/w", "XDG_CACHE_HOME": "/x"}, "/w"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/cloister/wheels"),
        ({}, str(Path.home() / ".cache/cloister/wheels")),
    ],
)
def test_the_cache_is_where_the_environment_says(env, expected):
    assert expected == str(find_cache(env))


def test_a_stored_wheel_is_found_under_its_key_alone(tmp_path, wheel):
    cache = tmp_path / "cache"
    stored = store_wheel(cache, "k1", wheel)
    assert cache / "k1" / wheel.name == stored
    assert b"first" == stored.read_bytes()
    assert stored == find_wheel(cache, "k1")
    assert find_wheel(cache, "k2") is None
    assert ["k1"] == [path.name for path in cache.iterdir()]


def test_the_wheel_that_was_there_first_stays(tmp_path, wheel):
    store_wheel(tmp_path / "cache", "k", wheel)
    wheel.write_bytes(b"second")
    assert b"first" == store_wheel(tmp_path / "cache", "k", wheel).read_bytes()


def test_a_dropped_wheel_is_gone_and_can_come_back(tmp_path, wheel):
    store_wheel(tmp_path, "k", wheel)
    drop_wheel(tmp_path, "k")
    assert find_wheel(tmp_path, "k") is None
    wheel.write_bytes(b"second")
    assert b"second" == store_wheel(tmp_path, "k", wheel).read_bytes()


def test_a_place_that_is_taken_by_something_else_is_an_error(tmp_path, wheel):
    (tmp_path / "k").write_text("a file", encoding="utf-8")
    with pytest.raises(InstallError, match=r"could not be stored in .*/k\. Remove"):
        store_wheel(tmp_path, "k", wheel)
    assert [] == list(tmp_path.glob(".new-*"))


def test_a_second_install_waits_and_says_so(tmp_path):
    lock = tmp_path / "deep" / ".lock"
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from scripts.wheel_cache import hold_lock\n"
        "with hold_lock(Path(sys.argv[1])): print('in', flush=True)"
    )
    with hold_lock(lock):
        other = subprocess.Popen(
            [sys.executable, "-c", code, lock],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert "waiting for it" in other.stdout.readline()
        # Silent while the lock is held: it neither went in nor gave up.
        assert ([], [], []) == select.select([other.stdout], [], [], 0.5)
    with other:
        assert "in\n" == other.stdout.readline()
    assert 0 == other.returncode

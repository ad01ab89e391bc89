"""Whether a model may be loaded, by what is known of its files."""

import asyncio
import os
import shutil
import threading

import pytest

from model_store import layout
from model_store import verify as verify_module
from model_store.catalog import Catalog
from model_store.layout import Store
from model_store.record import Damage, damage_path, read_record, write_damage
from server.core.errors import ModelLoadFailed
from server.engine.guard import POLICIES, LoadGuard
from tests.engine.conftest import ask, collect, open_pool, text_of
from tests.model_store.stored_models import flip_bit, write_own_record


@pytest.fixture
def home(tmp_path, models_dir):
    """Give a home with one recorded model in its store."""
    path = tmp_path / "home" / "models" / "acme" / "tiny" / "tiny-llama.gguf"
    path.parent.mkdir(parents=True)
    shutil.copy(models_dir / "acme" / "tiny" / "tiny-llama.gguf", path)
    write_own_record(path)
    return tmp_path / "home"


@pytest.fixture
def path(home):
    return home / "models" / "acme" / "tiny" / "tiny-llama.gguf"


def find(folder):
    catalog = Catalog([folder])
    catalog.refresh()
    return catalog.find("tiny-llama")


def make_guard(policy, home):
    return LoadGuard(policy, Store(home))


def refusal(guard, model):
    with pytest.raises(ModelLoadFailed) as caught:
        guard.check(model)
    assert "model" == caught.value.param
    return caught.value.message


@pytest.mark.parametrize("policy", POLICIES)
def test_a_sound_model_and_one_without_record_pass(policy, home, models_dir):
    guard = make_guard(policy, home)
    guard.check(find(home / "models"))
    guard.check(find(models_dir))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_quarantined_model_never_passes(policy, home, path):
    """Its mark may be newer than the catalog's last look."""
    model = find(home / "models")
    write_damage(path, Damage("2026-11-22T10:00:00Z", "rotten", (0,)))
    text = refusal(make_guard(policy, home), model)
    assert "is quarantined since 2026-11-22T10:00:00Z and is not served" in text
    assert "`cloister verify tiny-llama`" in text


def test_a_changed_time_is_refused_until_the_bytes_were_compared(home, path):
    guard, model = make_guard("quick", home), find(home / "models")
    os.utime(path, ns=(0, 5))
    assert (
        f"The file '{path}' is not as it was admitted: it was written to after it was "
        "admitted. Compare its bytes by `cloister verify tiny-llama`; it is served "
        "again if they are the same."
    ) == refusal(guard, model)
    verify_module.verify_file(path, store=Store(home))
    guard.check(model)


def test_a_changed_size_is_refused(home, path):
    guard, model = make_guard("start", home), find(home / "models")
    with path.open("ab") as file:
        file.write(b"x")
    assert "but its record says" in refusal(guard, model)


def test_quick_does_not_see_a_flipped_bit_and_load_does(home, path):
    facts = path.stat()
    flip_bit(path, facts.st_size - 1)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    model = find(home / "models")
    make_guard("quick", home).check(model)
    text = refusal(make_guard("load", home), model)
    assert f"The file '{path}' is damaged: its SHA-256 is " in text
    assert f"(bytes 0-{facts.st_size - 1})" in text
    assert "`cloister repair tiny-llama --from PATH`" in text
    assert damage_path(path).exists()
    assert "is quarantined" in refusal(make_guard("quick", home), model)


def test_off_asks_nothing_but_the_quarantine(home, path):
    os.utime(path, ns=(0, 5))
    make_guard("off", home).check(find(home / "models"))


def test_a_file_that_is_gone_is_refused(home, path):
    model = find(home / "models")
    path.unlink()
    text = refusal(make_guard("quick", home), model)
    assert f"The file '{path}' cannot be checked before loading: it is gone" in text


def test_a_foreign_copy_that_lost_its_time_is_read_once(home, path, tmp_path):
    """Nothing can be noted beside it, so it is remembered."""
    other = tmp_path / "usb"
    shutil.copytree(home / "models", other, copy_function=shutil.copyfile)
    copy = other / path.relative_to(home / "models")
    os.utime(copy, ns=(0, 5))
    guard, model, told = make_guard("quick", home), find(other), []
    guard.check(model, told.append)
    assert copy.stat().st_size == sum(told)
    guard.check(model, told.append)
    assert copy.stat().st_size == sum(told)
    flip_bit(copy, 0)
    assert "is damaged" in refusal(guard, model)
    assert "is damaged" in refusal(guard, model)
    assert not damage_path(copy).exists()
    assert 5 != read_record(copy).mtime_ns


def test_verifying_all_tells_each_model_in_a_line(home, path, models_dir):
    guard, lines = make_guard("start", home), []
    assert guard.verify_all([find(home / "models"), find(models_dir)], lines.append)
    size = f"{path.stat().st_size / 1024:.1f} KiB"
    assert lines[0].startswith("Verifying 2 models (")
    assert lines[1].startswith(f"  tiny-llama: sound ({size} in ")
    assert ["  tiny-llama: not verified, there is nothing to compare with"] == lines[2:]


def test_verifying_all_finds_damage_in_any_folder(home, path, tmp_path):
    """In the store it is marked; elsewhere it is remembered and not served."""
    other = tmp_path / "usb"
    shutil.copytree(home / "models", other)
    copy = other / path.relative_to(home / "models")
    models = [find(home / "models"), find(other)]
    for damaged in (path, copy):
        facts = damaged.stat()
        flip_bit(damaged, 0)
        os.utime(damaged, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    guard, lines = make_guard("start", home), []
    assert not guard.verify_all(models, lines.append)
    assert 3 == len(lines)
    for line in lines[1:]:
        assert line.startswith("  tiny-llama: NOT SERVED. The file '")
    assert (True, False) == (damage_path(path).exists(), damage_path(copy).exists())
    assert "is quarantined" in refusal(guard, models[0])
    assert "is damaged" in refusal(guard, models[1])


def test_a_busy_store_refuses_what_it_cannot_mark(home, path, monkeypatch):
    monkeypatch.setattr(layout, "LOCK_WAIT_S", 0.05)
    flip_bit(path, 0)
    lines = []
    with Store(home).exclusive():
        text = refusal(make_guard("load", home), find(home / "models"))
        models = [find(home / "models")]
        assert not make_guard("start", home).verify_all(models, lines.append)
    assert "is busy: another process has been changing it for 0.05 s" in text
    assert lines[1].startswith("  tiny-llama: NOT SERVED. The store '")


async def test_a_refused_model_starts_no_process(home, path):
    os.utime(path, ns=(0, 5))
    model = find(home / "models")
    async with open_pool(admit=make_guard("quick", home).admit) as pool:
        with pytest.raises(ModelLoadFailed, match="not as it was admitted"):
            async with pool.lease(model):
                pass
        assert {} == pool.processes()
        verify_module.verify_file(path, store=Store(home))
        async with pool.lease(model) as instance:
            assert text_of(await collect(instance.process.generate(ask("a"))))


async def test_reading_leaves_the_loop_free_and_ends_with_the_task(home, path):
    """A server that stops must not wait for 40 GB to be read."""
    guard, model = make_guard("load", home), find(home / "models")
    started, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def check(model, progress):
        started.set()
        go_on.wait(10)
        try:
            LoadGuard.check(guard, model, progress)
        finally:
            ended.set()

    guard.check = check
    task = asyncio.create_task(guard.admit(model))
    await asyncio.to_thread(started.wait, 10)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    flip_bit(path, 0)
    go_on.set()
    await asyncio.to_thread(ended.wait, 10)
    # The reading was given up at its first byte, so it found nothing.
    assert not damage_path(path).exists()


def test_every_policy_is_a_setting():
    assert {"quick", "load", "start", "off"} == set(POLICIES)

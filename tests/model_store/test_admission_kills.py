"""kill -9 at random moments, and several processes at once.

CLOISTER_TEST_LONG=1 kills a hundred imports instead of a handful.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model_store.catalog import Catalog
from model_store.errors import StoreError
from model_store.gguf import read_header
from model_store.layout import Store
from model_store.record import read_record, record_path
from model_store.sideload import Wish, import_model, plan_sideload

ROOT = Path(__file__).resolve().parents[2]
IS_LONG = os.environ.get("CLOISTER_TEST_LONG") == "1"
N_KILLS = 100 if IS_LONG else 5
F32_BYTES = 4
IMPORT = """
import sys; from pathlib import Path
from model_store.errors import StoreError
from model_store.layout import Store
from model_store.sideload import Wish, import_model, plan_sideload
store = Store(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for planned in plan_sideload(store, [Path(sys.argv[3])], Wish(mode=sys.argv[2])).models:
    print("there" if import_model(store, planned).was_there else "new", flush=True)
"""


@pytest.fixture
def folder(place, forge):
    """Return a folder with a split model of 24 MB."""
    n_bytes = 8_000_000 - 8_000_000 % (32 * F32_BYTES)
    for number in range(3):
        tensor = forge.Tensor(
            name=f"t{number}",
            dimensions=(32, n_bytes // (32 * F32_BYTES)),
            data=random.Random(number).randbytes(n_bytes),  # noqa: S311 - test data
        )
        keys = {"split.no": (4, number), "split.count": (4, 3)}
        name = f"m-0000{number + 1}-of-00003.gguf"
        path = place(name, root="usb", keys=keys, tensors=(tensor,))
    return path.parent


def start(store, folder, mode="copy"):
    process = subprocess.Popen(
        [sys.executable, "-c", IMPORT, str(store.home), mode, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert "ready\n" == process.stdout.readline()
    return process


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def end(process):
    with process:
        return process.communicate()[0].split()


def check_consistent(store):
    """Check what a reader may rely on at every instant; count the models."""
    catalog = Catalog([store.models_dir])
    catalog.refresh()
    assert () == catalog.broken()
    for path in store.models_dir.rglob("*.gguf"):
        if ".cloister" in path.parts:
            continue
        read_header(path)
        record = read_record(path)
        facts = path.stat()
        assert (facts.st_size, facts.st_mtime_ns) == (
            record.size_bytes,
            record.mtime_ns,
        )
    for sums in store.models_dir.glob("*/*/SHA256SUMS"):
        subprocess.run(
            ["sha256sum", "-c", "--strict", "--quiet", sums.name],
            cwd=sums.parent,
            check=True,
        )
    return len(catalog.models())


def finish(store, folder, contents, mode="copy"):
    """Import again; afterwards everything is there and nothing else."""
    again = Wish(mode=mode)
    results = [
        import_model(store, each)
        for each in plan_sideload(store, [folder], again).models
    ]
    assert 1 == check_consistent(store)
    stored = store.models_dir / "local/m"
    assert contents == {p.name: p.read_bytes() for p in stored.glob("*.gguf")}
    assert 7 == len(list(stored.iterdir()))
    assert [] == list((store.models_dir / ".cloister/incoming").iterdir())
    assert all(record_path(path).exists() for each in results for path in each.paths)


@pytest.mark.timeout(600 if IS_LONG else 60)
def test_a_kill_at_any_moment_leaves_a_consistent_store(tmp_path, folder):
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    process = start(Store(tmp_path / "timed"), folder)
    begin = time.monotonic()
    go(process)
    assert ["new"] == end(process)
    whole_s = time.monotonic() - begin
    moments = random.Random()  # noqa: S311 - no secret
    seed = moments.getrandbits(32)
    moments.seed(seed)
    n_killed = 0
    for number in range(N_KILLS):
        store = Store(tmp_path / f"home{number}")
        process = start(store, folder)
        go(process)
        time.sleep(moments.uniform(0, whole_s))
        process.send_signal(signal.SIGKILL)
        end(process)
        n_killed += process.returncode == -signal.SIGKILL
        assert check_consistent(store) in {0, 1}, f"seed {seed}, kill {number}"
        finish(store, folder, contents)
        assert contents == {path.name: path.read_bytes() for path in folder.iterdir()}
        subprocess.run(["rm", "-rf", str(store.home)], check=True)
    assert n_killed > N_KILLS // 2


@pytest.mark.timeout(600 if IS_LONG else 60)
def test_a_killed_move_loses_nothing(tmp_path, folder):
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    moments = random.Random()  # noqa: S311 - no secret
    for number in range(N_KILLS // 2):
        store = Store(tmp_path / f"home{number}")
        process = start(store, folder, "move")
        go(process)
        time.sleep(moments.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        end(process)
        check_consistent(store)
        places = [folder, store.models_dir / "local/m"]
        found = {
            path.name: path.read_bytes()
            for place in places
            for path in place.glob("*.gguf")
        }
        assert contents == found
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        subprocess.run(["rm", "-rf", str(store.home)], check=True)


def test_two_processes_with_one_model_store_it_once(tmp_path, folder):
    store = Store(tmp_path / "home")
    processes = [start(store, folder) for _ in range(2)]
    for process in processes:
        go(process)
    results = [end(process) for process in processes]
    assert [["new"], ["there"]] == sorted(results)
    assert 1 == check_consistent(store)


def test_two_processes_with_two_models_store_both(tmp_path, folder, place):
    store = Store(tmp_path / "home")
    other = place("n.gguf", root="other").parent
    processes = [start(store, each) for each in (folder, other)]
    for process in processes:
        go(process)
    assert [["new"], ["new"]] == [end(process) for process in processes]
    assert 2 == check_consistent(store)


def test_another_program_that_writes_the_source_is_noticed(tmp_path, folder):
    """A real writer in another process, while the import reads."""
    code = (
        "import sys, time\n"
        "with open(sys.argv[1], 'r+b') as file:\n"
        "    for number in range(10_000):\n"
        "        file.seek(1000); file.write(b'%05d' % number); file.flush()\n"
        "        time.sleep(0.0005)\n"
    )
    store = Store(tmp_path / "home")
    path = folder / "m-00001-of-00003.gguf"
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as writer:
        time.sleep(0.3)
        (planned,) = plan_sideload(store, [folder], Wish()).models
        with pytest.raises(StoreError) as caught:
            import_model(store, planned)
        writer.kill()
    assert "file_changed" == caught.value.code
    assert 0 == check_consistent(store)

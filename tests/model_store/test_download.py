"""From a hub into the store, with a real server and real files."""

import contextlib
import hashlib

import pytest

from model_store.choice import Memory
from model_store.digest import hash_file
from model_store.download import download, plan_download
from model_store.errors import DiskFull
from model_store.fetch import Hub
from model_store.hub_errors import (
    BrokenUpstream,
    DownloadRunning,
    HubUnreachable,
    WrongBytes,
)
from model_store.layout import Store
from model_store.partial import hold_partial, locate_partial
from model_store.patience import Patience
from model_store.record import read_record, record_path
from model_store.remote import Access, parse_wanted
from tests.hub_server import COMMIT, Fault, HubServer

NAME = "acme/tiny-GGUF"
FILE = "tiny-Q4_K_M.gguf"
HASTY = Patience(attempts=2, first_wait_s=0.01, most_wait_s=1.0, timeout_s=5.0)
MEMORY = Memory(16 * 2**30)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def model(forge):
    """Return the content of a model of about 200 KB."""
    tensor = forge.Tensor(dimensions=(32, 1_600), data=bytes(range(256)) * 800)
    return forge(tensors=(tensor,)).build()


@pytest.fixture
def server(model):
    with contextlib.closing(HubServer()) as hub:
        hub.add(NAME, {FILE: model, "tiny-Q8_0.gguf": model + bytes(32)})
        yield hub


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "home")


@pytest.fixture
def watched():
    return []


@pytest.fixture
def get(server, store, watched):
    """Return a function that downloads as `cloister get` does."""

    @contextlib.contextmanager
    def watch(label, n_bytes):
        done = []
        yield done.append
        watched.append((label, n_bytes, sum(done)))

    def run(wanted=NAME):
        words = parse_wanted(wanted)
        with Hub(Access(endpoint=server.endpoint), patience=HASTY) as hub:
            repository = hub.look_up(words.repository, words.revision)
            plan = plan_download(repository, store, words, MEMORY)
            return download(hub, store, plan, watch)

    return run


def partials(store):
    return sorted((store.models_dir / ".cloister" / "partial").iterdir())


def test_a_model_arrives_with_its_record(get, server, store, model, watched):
    admitted = get()
    path = store.models_dir / NAME / FILE
    assert ((path,), False) == (admitted.paths, admitted.was_there)
    assert model == path.read_bytes()
    record = read_record(path)
    assert hash_file(path).chunks == record.chunks
    assert ("hub", NAME, COMMIT, FILE, server.endpoint) == (
        record.source.kind,
        record.source.location,
        record.source.revision,
        record.source.file,
        record.source.endpoint,
    )
    assert ("hub", "apache-2.0", "llama") == (
        record.verified_against,
        record.licence,
        record.architecture,
    )
    size = len(model)
    assert [(f"Fetching {FILE}", size, size), (f"Checking {FILE}", size, size)] == (
        watched
    )
    assert [] == partials(store)


def test_what_is_there_is_not_fetched_again(get, server):
    get()
    before = server.sent_bytes()
    assert get().was_there
    assert before == server.sent_bytes()


def test_a_stored_file_that_was_changed_is_not_taken_for_the_same(get, store, model):
    get()
    path = store.models_dir / NAME / FILE
    path.unlink()
    path.write_bytes(model[:-1] + b"x")
    with contextlib.suppress(Exception):
        assert not get().was_there
    assert record_path(path).exists()


def test_all_parts_and_the_projector_come_together(get, server, store, forge):
    shards = {
        f"Q4_K_M/big-Q4_K_M-0000{n}-of-00002.gguf": forge(
            keys={
                "split.no": (2, n - 1),
                "split.count": (2, 2),
            }
        ).build()
        for n in (1, 2)
    }
    projector = forge(keys={"general.architecture": (8, "clip")}).build()
    server.add("acme/big-GGUF", shards | {"mmproj-F16.gguf": projector})
    admitted = get("acme/big-GGUF")
    names = [
        "big-Q4_K_M-00001-of-00002.gguf",
        "big-Q4_K_M-00002-of-00002.gguf",
        "mmproj-F16.gguf",
    ]
    assert names == [path.name for path in admitted.paths]
    assert [*shards, "mmproj-F16.gguf"] == [
        read_record(path).source.file for path in admitted.paths
    ]
    assert 1 == len({path.parent for path in admitted.paths})


def test_wrong_bytes_are_thrown_away_and_fetched_once_more(get, server, store, model):
    server.faults = [Fault(flip=1_000)]
    get()
    assert model == (store.models_dir / NAME / FILE).read_bytes()
    assert 2 * len(model) == server.sent_bytes()


def test_wrong_bytes_twice_are_an_error_with_both_digests(get, server, store, model):
    server.faults, server.last_fault_stays = [Fault(flip=1_000)], True
    wrong = bytearray(model)
    wrong[1_000] ^= 1
    expected = hashlib.sha256(model).hexdigest()
    got = hashlib.sha256(wrong).hexdigest()
    text = f"expected SHA-256 {expected}, got SHA-256 {got}"
    with pytest.raises(WrongBytes, match=text):
        get()
    assert [] == partials(store)
    assert [] == list(store.models_dir.rglob("*.gguf"))


def test_a_begun_file_with_wrong_bytes_is_begun_again(get, server, store, model):
    get("acme/tiny-GGUF:Q8_0")  # makes the folders
    words = parse_wanted(NAME)
    with Hub(Access(endpoint=server.endpoint)) as hub:
        repository = hub.look_up(words.repository)
    partial = locate_partial(store, repository, repository.files[0])
    partial.write_bytes(b"something else")
    get()
    assert model == (store.models_dir / NAME / FILE).read_bytes()


def test_a_broken_download_is_kept_and_continued(get, server, store, model):
    server.faults = [Fault(cut=150_000), Fault(cut=0), Fault(cut=0)]
    with pytest.raises(HubUnreachable):
        get()
    (kept, _lock) = sorted(partials(store), key=lambda path: path.suffix != ".part")
    assert model[:150_000] == kept.read_bytes()
    assert get().paths[0].read_bytes() == model
    assert len(model) == server.sent_bytes()


def test_a_file_in_git_itself_is_compared_with_gits_digest(get, server, model):
    server.repositories[NAME].in_git = (FILE,)
    assert "hub" == get().records[0].verified_against
    server.add("acme/liar-GGUF", {FILE: model + bytes(32)}, in_git=(FILE,))
    server.faults, server.last_fault_stays = [Fault(flip=60_000)], True
    with pytest.raises(WrongBytes, match=r"expected git blob [0-9a-f]{40}, got git"):
        get("acme/liar-GGUF")


def test_a_file_that_is_no_model_on_the_hub_is_not_kept(get, server, store):
    server.add("acme/junk-GGUF", {FILE: b"not a model at all" * 100})
    with pytest.raises(BrokenUpstream, match="not a usable GGUF file"):
        get("acme/junk-GGUF")
    assert [] == partials(store)


def test_two_downloads_of_one_file_do_not_mix(get, server, store):
    get("acme/tiny-GGUF:Q8_0")
    with Hub(Access(endpoint=server.endpoint)) as hub:
        repository = hub.look_up(NAME)
    partial = locate_partial(store, repository, repository.files[0])
    with (
        hold_partial(partial, FILE),
        pytest.raises(DownloadRunning, match="Another process is fetching"),
    ):
        get()
    assert not get().was_there


def test_a_disk_that_is_too_small_is_said_before_the_first_byte(
    get, server, monkeypatch
):
    class Usage:
        free = 1_000

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with pytest.raises(DiskFull, match="1000 bytes are free"):
        get()
    assert 0 == server.sent_bytes()

"""The connection to a hub, against a real server on loopback."""

import contextlib
import hashlib
import os
import subprocess
import sys

import httpx2
import pytest

from model_store.fetch import MAX_ANSWER_BYTES, Hub
from model_store.hub_errors import (
    HubBusy,
    HubFailed,
    HubRefused,
    HubUnreachable,
    NotOnHub,
    WrongBytes,
)
from model_store.patience import Patience
from model_store.remote import Access, RemoteFile
from tests.hub_server import COMMIT, Fault, HubServer

NAME = "acme/tiny-GGUF"
FILE = "tiny-Q4_K_M.gguf"
CONTENT = bytes(range(256)) * 1_500  # 384,000 bytes
TOKEN = "hf_secret"
HASTY = Patience(attempts=4, first_wait_s=0.01, most_wait_s=3.0, timeout_s=5.0)
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server():
    with contextlib.closing(HubServer()) as hub:
        hub.add(NAME, {FILE: CONTENT, "README.md": b"# Tiny"})
        yield hub


@pytest.fixture
def connect(server):
    """Return a function that opens a hub; it is closed at the end."""
    with contextlib.ExitStack() as stack:

        def open_hub(token=None, endpoint=None, patience=HASTY, tell=None, **more):
            access = Access(endpoint=endpoint or server.endpoint, token=token, **more)
            return stack.enter_context(Hub(access, patience=patience, tell=tell))

        yield open_hub


def fetch_all(hub, target, name=NAME, path=FILE):
    repository = hub.look_up(name)
    file = next(each for each in repository.files if each.path == path)
    hub.fetch(repository, file, target)
    return target.read_bytes()


def test_a_repository_is_pinned_to_its_commit_and_described(connect):
    repository = connect().look_up(NAME)
    assert (NAME, COMMIT, "apache-2.0", False) == (
        repository.id,
        repository.commit,
        repository.licence,
        repository.is_gated,
    )
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert (RemoteFile(FILE, len(CONTENT), sha256),) == repository.files


def test_bytes_are_asked_for_by_commit_not_by_branch(server, connect, tmp_path):
    assert fetch_all(connect(), tmp_path / "part") == CONTENT
    resolved = [each.path for each in server.seen if "/resolve/" in each.path]
    assert [f"/{NAME}/resolve/{COMMIT}/{FILE}"] == resolved


def test_a_revision_that_moves_meanwhile_does_not_mix_files(server, connect, tmp_path):
    hub = connect()
    repository = hub.look_up(NAME)
    entry = server.repositories[NAME]
    entry.older[COMMIT], entry.files = entry.files, {FILE: bytes(len(CONTENT))}
    entry.commit = "b" * 40
    hub.fetch(repository, repository.files[0], tmp_path / "part")
    assert CONTENT == (tmp_path / "part").read_bytes()


@pytest.mark.parametrize("cut", [0, 1, 65_535, 65_536, 200_000, len(CONTENT) - 1])
def test_a_cut_connection_is_taken_up_where_it_ended(server, connect, tmp_path, cut):
    server.faults = [Fault(cut=cut)]
    assert fetch_all(connect(), tmp_path / "part") == CONTENT
    first, second = [each for each in server.seen if each.server == "store"]
    assert f"bytes=0-{len(CONTENT) - 1}" == first.headers["range"]
    assert f"bytes={cut}-{len(CONTENT) - 1}" == second.headers["range"]


def test_many_cuts_are_survived_as_long_as_bytes_come(server, connect, tmp_path):
    server.faults = [Fault(cut=30_000)] * 12
    told = []
    assert fetch_all(connect(tell=told.append), tmp_path / "part") == CONTENT
    assert 12 == len(told)
    assert told[0].endswith("trying again in 0.01 s")


def test_a_connection_that_brings_nothing_is_given_up(server, connect, tmp_path):
    server.faults, server.last_fault_stays = [Fault(cut=0)], True
    with pytest.raises(HubUnreachable, match="cannot be reached"):
        fetch_all(connect(), tmp_path / "part")
    assert HASTY.attempts == len(
        [each for each in server.downloads() if each.server == "store"]
    )


def test_a_begun_file_is_continued(server, connect, tmp_path):
    (tmp_path / "part").write_bytes(CONTENT[:300_000])
    assert fetch_all(connect(), tmp_path / "part") == CONTENT
    assert 84_000 == sum(e.sent for e in server.seen if e.server == "store")


def test_a_whole_file_is_not_asked_for(server, connect, tmp_path):
    (tmp_path / "part").write_bytes(CONTENT)
    fetch_all(connect(), tmp_path / "part")
    assert [] == server.downloads()


def test_a_server_without_ranges_does_not_spoil_a_begun_file(server, connect, tmp_path):
    server.faults, server.last_fault_stays = [Fault(ignores_range=True)], True
    (tmp_path / "part").write_bytes(CONTENT[:100_000])
    hub = connect()
    assert fetch_all(hub, tmp_path / "part") == CONTENT
    repository = hub.look_up(NAME)
    piece = hub.read_range(repository, repository.files[0], 1_000, 1_300)
    assert CONTENT[1_000:1_300] == piece


def test_a_range_is_read_through_a_cut(server, connect):
    hub = connect()
    repository = hub.look_up(NAME)
    server.faults = [Fault(cut=10)]
    assert CONTENT[5:5_000] == hub.read_range(repository, repository.files[0], 5, 5_000)


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        (Fault(claims_bytes=99), WrongBytes, "announced 384000 bytes .* now it has 99"),
        (
            Fault(claims_bytes=400_000, ignores_range=True),
            WrongBytes,
            "announced 384000 bytes .* now it has 400000",
        ),
        (Fault(extra=b"more"), WrongBytes, "sends more than the 384000 bytes"),
        (Fault(status=416), WrongBytes, "does not have as many bytes"),
        (
            Fault(content_range="bytes 7-9/384000"),
            HubFailed,
            "from 0 on were asked for, and 'bytes 7-9/384000' came",
        ),
        (Fault(content_type="text/html"), HubFailed, "came a page for a browser"),
        (
            Fault(headers={"Content-Encoding": "gzip"}),
            WrongBytes,
            "packed answers although none were asked for",
        ),
        (Fault(status=418), NotOnHub, "answered 418 .* not understood"),
    ],
)
def test_a_server_that_lies_is_caught_before_its_bytes_count(
    server, connect, tmp_path, fault, error, text
):
    server.faults, server.last_fault_stays = [fault], True
    with pytest.raises(error, match=text):
        fetch_all(connect(), tmp_path / "part")


def test_too_many_requests_are_waited_out_as_long_as_asked(server, connect, tmp_path):
    server.faults = [Fault(status=429, headers={"Retry-After": "1"})]
    told = []
    assert fetch_all(connect(tell=told.append), tmp_path / "part") == CONTENT
    text = f"the hub answered 429 for '{NAME}/{FILE}': too many requests"
    assert [f"{text}; trying again in 1 s"] == told


def test_too_many_requests_for_ever_end(server, connect):
    server.api_faults, server.last_fault_stays = [Fault(status=429)], True
    with pytest.raises(
        HubBusy, match=r"429 .* Wait some minutes\. Run the same command"
    ):
        connect().look_up(NAME)
    assert HASTY.attempts == len(server.seen)


def test_a_pause_of_hours_is_not_waited(server, connect, tmp_path):
    server.faults = [Fault(status=429, headers={"Retry-After": "7200"})]
    with pytest.raises(HubBusy, match="Wait 7200 s"):
        fetch_all(connect(), tmp_path / "part")


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_hub_with_problems_is_asked_again(server, connect, tmp_path, status):
    server.faults = [Fault(status=status)] * 2
    server.api_faults = [Fault(status=status)]
    assert fetch_all(connect(), tmp_path / "part") == CONTENT


def test_a_hub_with_lasting_problems_is_named(server, connect):
    server.api_faults, server.last_fault_stays = [Fault(status=503)], True
    with pytest.raises(HubFailed, match="answered 503 for 'acme/tiny-GGUF'"):
        connect().look_up(NAME)


def test_the_token_goes_to_the_hub_and_never_further(server, connect, tmp_path):
    server.repositories[NAME].token = TOKEN
    assert fetch_all(connect(token=TOKEN), tmp_path / "part") == CONTENT
    tokens = {(each.server, each.token) for each in server.seen}
    assert {("hub", f"Bearer {TOKEN}"), ("store", None)} == tokens


def test_a_list_that_leads_elsewhere_gets_no_token(server, connect):
    with contextlib.closing(HubServer()) as other:
        other.add(NAME, {FILE: CONTENT})
        server.api_faults = [
            Fault(
                status=307, headers={"Location": f"{other.endpoint}/api/models/{NAME}"}
            )
        ]
        connect(token=TOKEN).look_up(NAME)
        assert [None] == [each.token for each in other.seen]


@pytest.mark.parametrize(
    "elsewhere",
    ["https://127.0.0.1:{port}/", "http://127.0.0.1:1/", "http://localhost:{port}/"],
)
def test_no_request_of_the_session_carries_the_token_elsewhere(
    server, connect, elsewhere
):
    # Whoever makes it: huggingface_hub follows addresses that answers name.
    hub = connect(token=TOKEN)
    for url, kept in ((server.endpoint, True), (elsewhere, False)):
        request = httpx2.Request(
            "GET", url.format(port=server.port), headers={"Authorization": TOKEN}
        )
        hub._guard_request(request)
        assert kept == ("Authorization" in request.headers)


def test_nothing_but_the_asked_requests_is_sent(server, connect, tmp_path):
    fetch_all(connect(), tmp_path / "part")
    assert [
        f"/api/models/{NAME}",
        f"/{NAME}/resolve/{COMMIT}/{FILE}",
        f"/{NAME}/{COMMIT}/{FILE}",
    ] == [each.path.partition("?")[0] for each in server.seen]
    assert {"cloister"} == {each.headers["user-agent"] for each in server.seen}


@pytest.mark.parametrize("is_gated", [True, False])
def test_a_repository_behind_a_token_says_what_to_do(
    server, connect, tmp_path, is_gated
):
    server.repositories[NAME].token = TOKEN
    server.repositories[NAME].gated = is_gated
    page = f"{server.endpoint}/{NAME}"
    with pytest.raises(HubRefused, match=rf"\(401\).* open {page} in a browser"):
        fetch_all(connect(), tmp_path / "part")
    with pytest.raises(HubRefused, match="does not accept the token in HF_TOKEN"):
        fetch_all(connect(token="wrong"), tmp_path / "part")
    server.repositories[NAME].terms_accepted = False
    with pytest.raises(HubRefused, match=r"no access to .* \(403\)") as caught:
        fetch_all(connect(token=TOKEN), tmp_path / "part")
    assert TOKEN not in str(caught.value)


def test_what_is_not_there_is_named(server, connect, tmp_path):
    hub = connect(token=TOKEN)
    with pytest.raises(NotOnHub, match="The hub has no 'acme/nothing'"):
        hub.look_up("acme/nothing")
    with pytest.raises(NotOnHub, match="no such revision"):
        hub.look_up(NAME, "v9")
    repository = hub.look_up(NAME)
    ghost = RemoteFile("ghost.gguf", 10, "0" * 64)
    with pytest.raises(NotOnHub, match="does not have the file"):
        hub.fetch(repository, ghost, tmp_path / "part")


def test_a_mirror_below_a_path_is_used_with_its_path(tmp_path, connect):
    with contextlib.closing(HubServer(prefix="/artifactory/hf", redirects=False)) as m:
        m.add(NAME, {FILE: CONTENT})
        hub = connect(endpoint=m.endpoint)
        assert fetch_all(hub, tmp_path / "part") == CONTENT
        assert all(each.path.startswith("/artifactory/hf/") for each in m.seen)


def test_a_mirror_that_lists_no_sizes_is_asked_for_each_file(server, connect, tmp_path):
    server.repositories[NAME].lists_sizes = False
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert (RemoteFile(FILE, len(CONTENT), sha256),) == connect().look_up(NAME).files
    assert "HEAD" in {each.method for each in server.seen}


def test_a_small_file_in_git_itself_has_gits_digest(server, connect):
    server.repositories[NAME].in_git = (FILE,)
    (file,) = connect().look_up(NAME).files
    assert (None, 40) == (file.sha256, len(file.git_blob))


@pytest.mark.parametrize(
    "body",
    [b"<html>Log in</html>", b"[]", b'{"id": "a/b"}', b'{"siblings": 5}', b"{" * 9_999],
)
def test_what_is_no_hub_is_recognised(server, connect, body):
    server.api_faults, server.last_fault_stays = [Fault(extra=body)], True
    with pytest.raises(HubFailed, match="does not speak the API of a hub"):
        connect().look_up(NAME)


def test_an_endless_list_is_not_read_to_its_end(server, connect):
    server.api_faults = [Fault(extra=b" " * (MAX_ANSWER_BYTES + 1))]
    with pytest.raises(WrongBytes, match="more than 33554432 bytes"):
        connect().look_up(NAME)


def test_only_a_hub_loads_huggingface_hub_and_leaves_the_variables_alone(server):
    code = f"""
import os, sys
from model_store import download, fetch, remote
assert "huggingface_hub" not in sys.modules
before = dict(os.environ)
with fetch.Hub(remote.Access(endpoint={server.endpoint!r})) as hub:
    hub.look_up({NAME!r})
    import huggingface_hub.constants as constants
    assert constants.HF_HUB_DISABLE_TELEMETRY and constants.HF_HUB_DISABLE_XET
    assert constants.HF_HUB_OFFLINE is False
assert before == dict(os.environ)
"""
    environ = os.environ | {"HF_HUB_ETAG_TIMEOUT": "soon", "HF_DEBUG": "1"}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environ)

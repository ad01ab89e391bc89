"""The order of the checks, what is left out after a failure, and what is told."""

import hashlib

import pytest

from model_store import builtin
from server.app import create_app
from server.selftest.recorded import write_recorded
from server.selftest.report import Status
from server.selftest.run import Options, list_names, run_selftest
from tests.e2e.server_process import free_port
from tests.live_server import live_server
from tests.selftest.recorded_engine import RecordedEngine, make_recorded

CONTENT = b"stands for a model"
RECORDED = make_recorded(hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def folder(tmp_path):
    """A folder as the package's own, of a model that only the fake engine has."""
    (tmp_path / builtin.MODEL_NAME).write_bytes(CONTENT)
    (tmp_path / builtin.DIGEST_NAME).write_text(RECORDED.sha256)
    write_recorded(tmp_path / builtin.EXPECTED_NAME, RECORDED)
    return tmp_path


def run(folder, url):
    told = []
    report = run_selftest(Options(url=url, directory=folder, timeout_s=10), told.append)
    assert list(report.rows) == told
    return report


@pytest.fixture
def ask(folder):
    """Test a server whose engine answers as recorded, or not."""

    def ask(**engine):
        with live_server(create_app(engine=RecordedEngine(RECORDED, **engine))) as port:
            return run(folder, f"http://127.0.0.1:{port}")

    return ask


def statuses(report):
    return {row.name: row.status for row in report.rows}


def test_a_good_server_passes_all_checks_in_their_order(ask, folder):
    report = ask()
    assert report.is_ok
    names = list_names(Options(url="http://127.0.0.1:1"))
    assert names == tuple(row.name for row in report.rows)
    assert "model file" == names[0]
    assert "prompt too long" == names[-1]
    assert sum(row.elapsed_s for row in report.rows) <= report.elapsed_s


def test_a_server_of_its_own_is_started_and_stopped():
    names = list_names(Options())
    assert ("server start", "server stop") == (names[2], names[-1])
    without = [name for name in names if not name.startswith("server ")]
    assert without == list(list_names(Options(url="http://127.0.0.1:1")))


def test_the_seal_is_checked_where_it_is_asked_for():
    plain, sealed = list_names(Options()), list_names(Options(is_sealed=True))
    assert ("offline seal", "seal of processes", "server stop") == sealed[-3:]
    assert set(plain) == set(sealed) - {"offline seal", "seal of processes"}
    running = list_names(Options(url="http://127.0.0.1:1", is_sealed=True))
    assert ("prompt too long", "offline seal") == running[-2:]


def test_one_wrong_answer_fails_the_checks_that_see_it_and_no_other(ask):
    report = ask(texts={"calls": "No."})
    failed = [n for n, s in statuses(report).items() if s is not Status.OK]
    assert [
        *(f"greedy, {n} at once" for n in (1, 2, 4, 8)),
        "tool call",
        "streamed tool call",
    ] == failed
    assert not report.is_ok


def test_a_server_without_the_model_is_not_asked_further(ask):
    report = ask(models=())
    rows = {row.name: row for row in report.rows}
    assert Status.OK is rows["health"].status
    assert Status.FAILED is rows["model listed"].status
    later = report.rows[report.rows.index(rows["model listed"]) + 1 :]
    assert {Status.NOT_RUN} == {row.status for row in later}
    assert {"because 'model listed' failed"} == {row.detail for row in later}


def test_a_server_that_is_not_there_fails_the_first_question(folder):
    report = run(folder, f"http://127.0.0.1:{free_port()}")
    rows = {row.name: row for row in report.rows}
    assert Status.FAILED is rows["health"].status
    assert "ConnectError" in rows["health"].actual
    assert Status.NOT_RUN is rows["chat"].status


def test_an_answer_of_another_shape_is_a_failure(folder):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = {
            "/health": b'{"status":"ok"}',
            "/v1/models": b'{"data":[{"id":"novice"}]}',
        }.get(scope["path"], b'{"choices":[]}')
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    with live_server(app) as port:
        report = run(folder, f"http://127.0.0.1:{port}")
    rows = {row.name: row for row in report.rows}
    assert Status.FAILED is rows["model load"].status
    assert "an answer of the documented shape" == rows["model load"].expected
    assert "IndexError" in rows["model load"].actual


def test_a_damaged_model_is_told_with_both_digests_and_not_loaded(folder):
    (folder / builtin.MODEL_NAME).write_bytes(b"damaged")
    report = run(folder, "http://127.0.0.1:1")
    first, *others = report.rows
    assert Status.FAILED is first.status
    assert RECORDED.sha256 in first.actual
    assert hashlib.sha256(b"damaged").hexdigest() in first.actual
    assert {Status.NOT_RUN} == {row.status for row in others}


def test_answers_of_another_model_are_told_with_both_digests(folder):
    write_recorded(folder / builtin.EXPECTED_NAME, make_recorded("cd" * 32))
    report = run(folder, "http://127.0.0.1:1")
    row = report.rows[1]
    assert f"answers of the file with SHA-256 {RECORDED.sha256}" == row.expected
    assert f"answers of the one with SHA-256 {'cd' * 32}" == row.actual
    assert "python -m scripts.novice.record" in row.advice
    assert Status.NOT_RUN is report.rows[2].status


def test_missing_answers_are_told(folder):
    (folder / builtin.EXPECTED_NAME).unlink()
    row = run(folder, "http://127.0.0.1:1").rows[1]
    assert Status.FAILED is row.status
    assert "cannot be read: No such file" in row.actual

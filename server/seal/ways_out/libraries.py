"""Ways out by what Python and its packages offer for networks."""

import ftplib
import http.client
import logging
import logging.handlers
import multiprocessing.connection
import smtplib
import socket
import urllib.request
from typing import Final

import httpx2
from huggingface_hub import HfApi, constants

from server.seal.ways_out.way import TRY_S, Ground, Way


def _http_client(ground: Ground) -> None:
    connection = http.client.HTTPConnection(*ground.host, timeout=TRY_S)
    connection.request("GET", f"/{ground.aim.word}")
    connection.getresponse().read()


def _urllib(ground: Ground) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(ground.url, timeout=TRY_S) as answer:
        answer.read()


def _httpx(ground: Ground) -> None:
    with httpx2.Client(trust_env=False, timeout=TRY_S, verify=False) as client:
        client.get(ground.url)


def _hugging_face(ground: Ground) -> None:
    endpoint = f"http://127.0.0.1:{ground.aim.port}"
    constants.HF_HUB_OFFLINE = False
    api = HfApi(endpoint=endpoint, token=False)
    api.model_info(f"cloister/{ground.aim.word}", timeout=TRY_S)


def _ftp(ground: Ground) -> None:
    with ftplib.FTP(timeout=TRY_S) as client:  # noqa: S321 - it shall not work
        client.connect(*ground.host)


def _smtp(ground: Ground) -> None:
    # With a name of its own it looks up none.
    smtplib.SMTP(*ground.host, local_hostname="localhost", timeout=TRY_S).close()


class _LoudSysLogHandler(logging.handlers.SysLogHandler):
    """Raises what the other would swallow."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - theirs
        """Raise the error that is being handled."""
        del record
        raise  # noqa: PLE0704 - called where one is handled


def _syslog(ground: Ground) -> None:
    handler = _LoudSysLogHandler(address=ground.aim.path)
    # The constructor keeps silent about a socket that it could not have.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        probe.connect(ground.aim.path)
    handler.emit(logging.makeLogRecord({"msg": ground.aim.word}))
    handler.close()


def _multiprocessing(ground: Ground) -> None:
    with multiprocessing.connection.Client(ground.aim.path, "AF_UNIX") as client:
        client.send_bytes(ground.word)


WAYS: Final = (
    Way(name="http.client", tries="http.client", go=_http_client, listens="tcp"),
    Way(name="urllib", tries="urllib.request", go=_urllib, listens="tcp"),
    Way(name="httpx2", tries="httpx2", go=_httpx, listens="tcp"),
    Way(
        name="huggingface_hub",
        tries="a request of huggingface_hub, its own switch turned off",
        go=_hugging_face,
        listens="tcp",
    ),
    Way(name="ftplib", tries="ftplib", go=_ftp, listens="tcp"),
    Way(name="smtplib", tries="smtplib", go=_smtp, listens="tcp"),
    Way(
        name="syslog",
        tries="a log handler to a local syslog",
        go=_syslog,
        listens="unix-datagram",
    ),
    Way(
        name="multiprocessing",
        tries="a connection of multiprocessing",
        go=_multiprocessing,
        listens="unix",
    ),
)

"""A hub on loopback that speaks what huggingface_hub asks, and can misbehave.

`HubServer` answers like the real one: /api/models/{repo}[/revision/{rev}] with
sizes and LFS digests, /{repo}/resolve/{rev}/{path} for GET and HEAD with its
X- headers, redirects to a second server on another port that sends the bytes.
Each request for bytes takes the next of `faults`; every request is in `seen`.
"""

import hashlib
import json
import re
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

MAIN = "main"
COMMIT = "a" * 40


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request for bytes; None everywhere: nothing.

    `cut` ends the connection after so many bytes of the body, `flip` changes
    the byte at this offset of the file, `status` answers with that instead.
    """

    cut: int | None = None
    flip: int | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    ignores_range: bool = False
    claims_bytes: int | None = None
    extra: bytes = b""
    content_range: str | None = None
    content_type: str = "application/octet-stream"
    pause_s: float = 0.0
    block: int = 2**16


@dataclass
class Repository:
    files: dict[str, bytes]
    commit: str = COMMIT
    licence: str | None = "apache-2.0"
    gated: bool = False
    token: str | None = None
    terms_accepted: bool = True
    lists_sizes: bool = True
    in_git: tuple[str, ...] = ()
    older: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def at(self, revision):
        if revision in (MAIN, self.commit):
            return self.files
        return self.older.get(revision)


@dataclass(frozen=True)
class Seen:
    """One request, and how many bytes of a body were sent for it."""

    server: str
    method: str
    path: str
    headers: dict[str, str]
    sent: int = 0

    @property
    def token(self):
        return self.headers.get("authorization")


class HubServer:
    def __init__(self, *, prefix="", redirects=True):
        self.prefix = prefix
        self.redirects = redirects
        self.repositories = {}
        self.faults = []
        self.api_faults = []
        self._seen = []
        self._n_busy = 0
        self.last_fault_stays = False
        self._lock = threading.Condition()
        self._servers = []
        self.port = self._start("hub")
        self.store_port = self._start("store")

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    @property
    def seen(self):
        """List the requests so far, when none is being answered any more."""
        with self._lock:
            self._lock.wait_for(lambda: not self._n_busy, timeout=10)
            return list(self._seen)

    def add(self, name, files, **parts):
        self.repositories[name] = Repository(files, **parts)
        return self.repositories[name]

    def downloads(self):
        """List the requests that bytes were asked by."""
        return [
            each
            for each in self.seen
            if each.method == "GET"
            and (each.server == "store" or "/resolve/" in each.path)
            and each.sent >= 0
        ]

    def sent_bytes(self):
        return sum(each.sent for each in self.downloads())

    def begin(self):
        with self._lock:
            self._n_busy += 1

    def end(self, seen):
        with self._lock:
            self._seen.append(seen)
            self._n_busy -= 1
            self._lock.notify_all()

    def take(self, faults):
        with self._lock:
            if not faults:
                return None
            return (
                faults[0]
                if self.last_fault_stays and len(faults) == 1
                else faults.pop(0)
            )

    def encrypt(self, key, certificate):
        """Answer by TLS from now on; the store of bytes does not."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server = self._servers[0]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # a client may hang up

    def close(self):
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _start(self, role):
        handler = type("Handler", (_Handler,), {"hub": self, "role": role})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        self._servers.append(server)
        return server.server_address[1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer
    role: str

    def log_message(self, *args):
        """Keep stderr for the tests."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path).removeprefix(self.hub.prefix)
        self.sent = -1
        self.hub.begin()
        try:
            self._route(path)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        self.hub.end(
            Seen(
                server=self.role,
                method=self.command,
                path=self.path,
                headers={k.lower(): v for k, v in self.headers.items()},
                sent=self.sent,
            )
        )

    def _route(self, path):
        if self.role == "store":
            return self._send_bytes(path)
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path)
        if api:
            return self._send_info(api[1], unquote(api[2] or MAIN))
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if file:
            return self._send_file(*file.groups())
        return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _find(self, name):
        """Find a repository the caller may see; None if an error was sent."""
        repository = self.hub.repositories.get(name)
        if repository is None:
            # Strangers are not told whether it is private or not there.
            status = 404 if self.headers.get("Authorization") else 401
            self._send(status, b"{}", {"X-Error-Code": "RepoNotFound"})
            return None
        return repository

    def _is_refused(self, repository):
        if repository.token is None:
            return False
        token = self.headers.get("Authorization")
        gated = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}
        if token is None:
            self._send(401, b"{}", gated)
        elif token != f"Bearer {repository.token}":
            message = "Invalid credentials in Authorization header"
            self._send(401, b"{}", {"X-Error-Message": message})
        elif not repository.terms_accepted:
            self._send(403, b"{}", gated)
        else:
            return False
        return True

    def _send_info(self, name, revision):
        fault = self.hub.take(self.hub.api_faults)
        if fault is not None:
            return self._send(
                fault.status or 200, fault.extra, fault.headers, fault.content_type
            )
        repository = self._find(name)
        if repository is None:
            return None
        # Gated repositories show their list; private ones are refused here.
        if not repository.gated and self._is_refused(repository):
            return None
        files = repository.at(revision)
        if files is None:
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        info = {
            "id": name,
            "sha": repository.commit if revision == MAIN else revision,
            "gated": "auto" if repository.gated else False,
            "cardData": {"license": repository.licence} if repository.licence else {},
            "siblings": [
                self._describe(repository, path, content)
                for path, content in files.items()
            ],
        }
        return self._send(200, json.dumps(info).encode(), {}, "application/json")

    def _describe(self, repository, path, content):
        sibling = {"rfilename": path}
        if not repository.lists_sizes:
            return sibling
        sibling["size"] = len(content)
        sibling["blobId"] = git_blob(content)
        if path not in repository.in_git:
            sha256 = hashlib.sha256(content).hexdigest()
            sibling["lfs"] = {
                "sha256": sha256,
                "size": len(content),
                "pointerSize": 134,
            }
        return sibling

    def _send_file(self, name, revision, path):
        repository = self._find(name)
        if repository is None or self._is_refused(repository):
            return None
        content = (repository.at(revision) or {}).get(path)
        if content is None:
            return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        in_git = path in repository.in_git
        digest = git_blob(content) if in_git else hashlib.sha256(content).hexdigest()
        headers = {
            "X-Repo-Commit": repository.commit,
            "X-Linked-Size": str(len(content)),
            "X-Linked-Etag": f'"{digest}"',
        }
        if not self.hub.redirects:
            return self._send_content(content, headers)
        where = f"http://127.0.0.1:{self.hub.store_port}/{name}/{revision}/{path}"
        return self._send(302, b"moved", headers | {"Location": where})

    def _send_bytes(self, path):
        owner, name, revision, rest = path.lstrip("/").split("/", 3)
        repository = self.hub.repositories[f"{owner}/{name}"]
        return self._send_content(repository.at(revision)[rest], {})

    def _send_content(self, content, headers):
        if self.command == "HEAD":
            self._start_answer(200, headers | {"Content-Length": str(len(content))})
            return
        fault = self.hub.take(self.hub.faults) or Fault()
        if fault.status is not None:
            self._send(fault.status, fault.extra, fault.headers)
            return
        if fault.flip is not None:
            content = bytearray(content)
            content[fault.flip] ^= 1
        start, stop, size = 0, len(content), len(content)
        status = 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and not fault.ignores_range:
            status = 206
            start = int(asked[1])
            stop = min(stop, int(asked[2]) + 1) if asked[2] else stop
            size = fault.claims_bytes or size
            headers["Content-Range"] = (
                fault.content_range or f"bytes {start}-{stop - 1}/{size}"
            )
        body = bytes(content[start:stop]) + fault.extra
        length = fault.claims_bytes if status == 200 else None
        if fault.extra:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(length or len(body))
        self._start_answer(
            status, headers | fault.headers | {"Content-Type": fault.content_type}
        )
        self._send_body(body, fault, is_chunked=bool(fault.extra))

    def _send_body(self, body, fault, is_chunked):
        if fault.cut is not None:
            body = body[: fault.cut]
        self.sent = 0
        for at in range(0, len(body), fault.block):
            block = body[at : at + fault.block]
            if is_chunked:
                self.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
            else:
                self.wfile.write(block)
            self.wfile.flush()
            self.sent += len(block)
            if fault.pause_s:
                time.sleep(fault.pause_s)
        if is_chunked:
            self.wfile.write(b"0\r\n\r\n")
        if fault.cut is not None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, status, body, headers, content_type="text/plain"):
        self._start_answer(
            status,
            {"Content-Length": str(len(body)), "Content-Type": content_type} | headers,
        )
        if self.command != "HEAD":
            self.wfile.write(body)

    def _start_answer(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def git_blob(content):
    head = b"blob %d\0" % len(content)
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest()

"""Ask the server in this container whether it accepts requests: exit code 0 if so.

It reads the same variables as `cloister serve`; the image has no curl to do this.
"""

import os
import socket
import ssl
import sys
from collections.abc import Mapping

TIMEOUT_S = 4.0
_REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_ACCEPTED = b"HTTP/1.1 200 "


def connect(environment: Mapping[str, str]) -> socket.socket:
    """Connect to where the server listens, which is never another machine.

    Raises:
        OSError: Nobody answers there.
    """
    if path := environment.get("CLOISTER_UNIX_SOCKET"):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(TIMEOUT_S)
        connection.connect(path)
        return connection
    port = int(environment.get("CLOISTER_PORT") or 1234)
    connection = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
    if environment.get("CLOISTER_TLS_CERT"):
        # Whose certificate it is does not matter within one container.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(connection)
    return connection


def main(environment: Mapping[str, str]) -> int:
    """Ask once.

    Returns:
        0 if the server accepts requests, 1 if not; the reason is on stderr.
    """
    try:
        with connect(environment) as connection:
            connection.sendall(_REQUEST)
            answer = connection.recv(4096)
    except OSError as error:
        print(f"the server does not answer: {error}", file=sys.stderr)
        return 1
    if not answer.startswith(_ACCEPTED):
        print(f"the server answers {answer[:40]!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))

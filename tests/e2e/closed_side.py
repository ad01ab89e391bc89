"""What an operator does on the closed side; run in a namespace with nothing but lo.

Usage: closed_side.py BUNDLE PUBLIC_KEY. Its home is CLOISTER_HOME. It prints one
JSON document; what fails ends it with a text.
"""

import http.client
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

START_TIMEOUT_S = 60.0
ROUTES = Path("/proc/net/dev")


def cloister(*args):
    """Run a command that must succeed, and return what it printed."""
    command = [sys.executable, "-m", "server", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, args))}: {done.stdout}{done.stderr}")
    return done.stdout


def ask(port, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def chat():
    """Serve offline, ask once, stop."""
    options = ["--offline", "--no-builtin", "--port", "0", "--threads", "1"]
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "server", "serve", *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        port = None
        while port is None and time.monotonic() < deadline:
            match = re.search(r"127\.0\.0\.1:(\d+)", server.stdout.readline())
            port = None if match is None else int(match[1])
        while time.monotonic() < deadline:
            try:
                health = ask(port, "GET", "/health")
                break
            except OSError:
                time.sleep(0.1)
        listed = [each["id"] for each in ask(port, "GET", "/v1/models")["data"]]
        message = {"role": "user", "content": "Who are you?"}
        body = {"model": listed[0], "messages": [message], "temperature": 0}
        answer = ask(port, "POST", "/v1/chat/completions", body)
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(START_TIMEOUT_S)
    return {"health": health, "listed": listed, "answer": answer, "exit": code}


def main():
    bundle, key = sys.argv[1:]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    names = [line.split(":")[0].strip() for line in ROUTES.read_text().splitlines()[2:]]
    cloister("bundle", "key", "trust", key)
    verified = json.loads(cloister("bundle", "verify", bundle, "--json"))
    imported = json.loads(cloister("bundle", "import", bundle, "--json"))
    checked = json.loads(cloister("verify", "--all", "--json"))
    told = {
        "interfaces": names,
        "verified": verified,
        "imported": imported,
        "checked": checked,
        **chat(),
    }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()

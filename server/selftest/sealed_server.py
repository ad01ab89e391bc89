"""A sealed server of its own, started, made to answer, and looked at."""

from http import HTTPStatus
from typing import Any

from model_store import builtin
from server.seal.process_view import list_children, view_process
from server.seal.report import ProcessView
from server.selftest.child import ServerProcess
from server.selftest.client import LoopbackClient
from server.selftest.report import CheckFailed

START_S = 60.0


def view_server(pid: int) -> tuple[ProcessView, ...]:
    """Look at a running server and its workers.

    Raises:
        OSError: It is gone, or another user's.
    """
    children = [view_process(child, "worker") for child in list_children(pid)]
    return (view_process(pid, "server"), *children)


def view_new_server() -> tuple[tuple[ProcessView, ...], tuple[str, ...]]:
    """Start a sealed server, let the built-in model answer, and look at it.

    Returns:
        Its processes, and what was not as it should be.
    """
    try:
        with ServerProcess() as process:
            url = process.start("--offline", timeout_s=START_S)
            with LoopbackClient(url, timeout_s=START_S) as client:
                problems = _ask(client)
            views = view_server(process.pid)
            process.stop()
    except (CheckFailed, OSError) as error:
        return (), (f"the sealed server: {error}",)
    if builtin.is_present() and len(views) < 2:  # noqa: PLR2004 - itself, a worker
        problems = (*problems, "the sealed server has no worker")
    return views, problems


def _ask(client: LoopbackClient) -> tuple[str, ...]:
    problems = []
    health: Any = client.get("/health").body
    if not isinstance(health, dict) or health.get("seal") != "kernel":
        problems.append(f"the sealed server does not say so: {health}")
    if builtin.is_present():
        reply = client.post(
            "/v1/chat/completions",
            {
                "model": builtin.MODEL_ID,
                "messages": [{"role": "user", "content": "Who are you?"}],
                "max_tokens": 8,
            },
        )
        if reply.status != HTTPStatus.OK:
            problems.append(f"the sealed server does not answer: {reply.show()}")
    return tuple(problems)

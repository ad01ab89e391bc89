"""The self-test from beginning to end: which checks there are, and their order.

A vital check is one without which the later ones would say nothing: when it
fails, those are told as not run. All others run whatever came before.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import Struct

from model_store import builtin
from model_store.errors import StoreError
from server import __version__
from server.selftest.checks import BATCH_SIZES, Checks
from server.selftest.child import ServerProcess
from server.selftest.client import LoopbackClient
from server.selftest.comparison import INSTALL_AGAIN
from server.selftest.recorded import BadRecording, Recorded, read_recorded
from server.selftest.report import CheckFailed, Report, Row, Status

_DIGEST_SHOWN: Final = 16
_FILE: Final = "model file"
_ANSWERS: Final = "recorded answers"
_START: Final = "server start"
_SEAL: Final = "offline seal"
_FILTERS: Final = "seal of processes"
_STOP: Final = "server stop"

Tell = Callable[[Row], None]


class Options(Struct, frozen=True):
    """What to test.

    `url` is a running server, as `parse_loopback_url` returns it; None means
    to start one. `is_sealed` wants the offline seal on it. `timeout_s` is the
    longest wait for the server's start and for an answer. `key` is a bearer
    token. `directory` has the built-in model's files.
    """

    url: str | None = None
    is_sealed: bool = False
    key: str | None = None
    timeout_s: float = 60.0
    directory: Path = builtin.DIRECTORY


class _Step(Struct, frozen=True):
    """A check of the running server."""

    name: str
    run: Callable[[Checks], str]
    is_vital: bool = False


_STEPS: Final = (
    _Step("health", Checks.health, is_vital=True),
    _Step("model listed", Checks.is_listed, is_vital=True),
    _Step("model load", Checks.load, is_vital=True),
    *(
        _Step(f"greedy, {n} at once", partial(Checks.greedy, n_at_once=n))
        for n in BATCH_SIZES
    ),
    _Step("chat", Checks.chat),
    _Step("streamed chat", Checks.streamed_chat),
    _Step("tool call", Checks.tool_call),
    _Step("streamed tool call", Checks.streamed_tool_call),
    _Step("JSON schema", Checks.json_schema),
    _Step("thinking", partial(Checks.thinking, kind="thinking")),
    _Step("no thinking", partial(Checks.thinking, kind="no_thinking")),
    _Step("embeddings", Checks.embeddings),
    _Step("prefix cache", Checks.prefix_cache),
    _Step("prompt too long", Checks.too_long),
)


def list_names(options: Options) -> tuple[str, ...]:
    """List the names of all rows, in their order."""
    own = options.url is None
    return (
        _FILE,
        _ANSWERS,
        *((_START,) if own else ()),
        *(step.name for step in _list_steps(options)),
        *((_FILTERS,) if own and options.is_sealed else ()),
        *((_STOP,) if own else ()),
    )


def _list_steps(options: Options) -> tuple[_Step, ...]:
    return (*_STEPS, _Step(_SEAL, Checks.seal)) if options.is_sealed else _STEPS


def run_selftest(options: Options, tell: Tell) -> Report:
    """Run all checks.

    Args:
        options: What to test.
        tell: Called with each row as soon as it is known, in the order of
            `list_names`.
    """
    begun_s = time.monotonic()
    test = _SelfTest(options, tell)
    test.run()
    return Report(
        version=__version__,
        url=test.url,
        elapsed_s=time.monotonic() - begun_s,
        rows=tuple(test.rows),
    )


class _SelfTest:
    """One run; not to be used twice."""

    def __init__(self, options: Options, tell: Tell) -> None:
        self._options = options
        self._tell = tell
        self._failed_vital = ""
        self._sha256 = ""
        self._recorded: Recorded | None = None
        self.url = options.url
        self.rows: list[Row] = []

    def run(self) -> None:
        """Run all checks; each of them adds a row."""
        self._check(_FILE, self._check_file, is_vital=True)
        self._check(_ANSWERS, self._check_answers, is_vital=True)
        with self._own_server() as child:
            if child is not None:
                self._check(_START, partial(self._start, child), is_vital=True)
            self._check_server()
            if child is not None:
                if self._options.is_sealed:
                    self._check(_FILTERS, child.check_filters)
                self._check(_STOP, child.stop, after=_START)

    def _check_file(self) -> str:
        try:
            digest = builtin.check_digest(self._options.directory)
        except StoreError as error:
            raise CheckFailed(
                expected=f"{builtin.MODEL_NAME} as released",
                actual=error.message,
                advice="Copy the package to this machine again and install it.",
            ) from error
        self._sha256 = digest.sha256
        return f"{builtin.MODEL_NAME}, SHA-256 {digest.sha256[:_DIGEST_SHOWN]}…"

    def _check_answers(self) -> str:
        path = self._options.directory / builtin.EXPECTED_NAME
        try:
            recorded = read_recorded(path)
        except BadRecording as error:
            raise CheckFailed(
                expected=f"the recorded answers of {builtin.MODEL_NAME}",
                actual=str(error),
                advice="Copy the package to this machine again and install it.",
            ) from error
        if recorded.sha256 != self._sha256:
            raise CheckFailed(
                expected=f"answers of the file with SHA-256 {self._sha256}",
                actual=f"answers of the one with SHA-256 {recorded.sha256}",
                advice="Model and answers are of different releases: install one "
                "release alone, or record again: python -m scripts.novice.record",
            )
        self._recorded = recorded
        return f"{len(recorded.answers)} answers of this very file"

    @contextmanager
    def _own_server(self) -> Iterator[ServerProcess | None]:
        with nullcontext() if self._options.url else ServerProcess() as child:
            yield child

    def _start(self, child: ServerProcess) -> str:
        flags = ("--offline",) if self._options.is_sealed else ()
        self.url = child.start(*flags, timeout_s=self._options.timeout_s)
        return f"{self.url}, for this test alone"

    def _check_server(self) -> None:
        options, steps = self._options, _list_steps(self._options)
        if self._recorded is None or self.url is None:
            for step in steps:
                self._skip(step.name)
            return
        with LoopbackClient(
            self.url, timeout_s=options.timeout_s, key=options.key
        ) as client:
            checks = Checks(client, builtin.MODEL_ID, self._recorded)
            for step in steps:
                self._check(
                    step.name, partial(step.run, checks), is_vital=step.is_vital
                )

    def _check(
        self,
        name: str,
        check: Callable[[], str],
        *,
        is_vital: bool = False,
        after: str | None = None,
    ) -> None:
        """Run a check and add its row.

        Args:
            name: Of the row.
            check: Returns the detail of a check that is passed.
            is_vital: Whether nothing can be checked after its failure.
            after: The one check whose failure hinders this; None means any
                that is vital.
        """
        passed = {row.name for row in self.rows if row.status is Status.OK}
        if after not in passed if after else self._failed_vital:
            self._skip(name)
            return
        begun_s = time.monotonic()
        detail, failure = "", None
        try:
            detail = check()
        except CheckFailed as error:
            failure = error
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            failure = _misshapen(error)
        elapsed_s = time.monotonic() - begun_s
        if failure is None:
            self._add(Row(name, Status.OK, elapsed_s, detail=detail))
            return
        if is_vital:
            self._failed_vital = name
        self._add(
            Row(
                name,
                Status.FAILED,
                elapsed_s,
                expected=failure.expected,
                actual=failure.actual,
                advice=failure.advice,
            )
        )

    def _skip(self, name: str) -> None:
        reason = f"because '{self._failed_vital}' failed"
        self._add(Row(name, Status.NOT_RUN, 0.0, detail=reason))

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        self._tell(row)


def _misshapen(error: Exception) -> CheckFailed:
    return CheckFailed(
        expected="an answer of the documented shape",
        actual=f"one that lacks something: {type(error).__name__} {error}",
        advice=INSTALL_AGAIN,
    )

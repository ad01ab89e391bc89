"""A time limit for Python code that runs in any thread.

A signal reaches the main thread only, so a timer thread raises an exception
inside the running thread instead (`PyThreadState_SetAsyncExc`). It lands
between two bytecodes at any place, hence three rules:

* It is raised under a lock, and never after the end was noted under the same
  lock; the end also takes back one that has not landed yet. So nothing can
  land once `run_limited` has returned.
* It may land inside the bookkeeping itself, so the end is noted again until
  that was not interrupted.
* It may land where Python drops exceptions, in a destructor or the callback of
  a weak reference. So it is raised again until the end is noted. It is no
  `Exception`, so that no `except Exception` on the way swallows it.

What it cannot interrupt is one long call into C; such calls must be bounded
by the size of what they are given.
"""

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_AGAIN_S = 0.5
"""How long after a strike the next one comes, if the code still runs."""


class _Expired(BaseException):
    """Raised inside the thread whose time is over."""


class _Watchdog:
    """Raises `_Expired` in the thread that made it, until it is stopped."""

    def __init__(self, limit_s: float) -> None:
        # Reentrant: the exception may land between taking the lock and the
        # body of the `with`, and then this thread takes it a second time.
        self._lock = threading.RLock()
        self._is_over = False
        self._thread_id = threading.get_ident()
        self._timer = self._make_timer(limit_s)

    def start(self) -> None:
        self._timer.start()

    def stop(self) -> None:
        with self._lock:
            self._is_over = True
            _set_async_exception(self._thread_id, None)
        self._timer.cancel()

    def _expire(self) -> None:
        with self._lock:
            if not self._is_over:
                _set_async_exception(self._thread_id, _Expired)
                self._timer = self._make_timer(_AGAIN_S)
                self._timer.start()

    def _make_timer(self, after_s: float) -> threading.Timer:
        timer = threading.Timer(after_s, self._expire)
        timer.daemon = True
        return timer


def run_limited(action: Callable[[], T], limit_s: float) -> T:
    """Call `action` in this thread and end it after `limit_s` seconds.

    Raises:
        TimeoutError: The time was over; `action` was left at some place.
    """
    watchdog = _Watchdog(limit_s)
    try:
        try:
            watchdog.start()
            return action()
        finally:
            watchdog.stop()
    except _Expired:
        _stop(watchdog)
        msg = f"not finished after {limit_s:g} s"
        raise TimeoutError(msg) from None


def _stop(watchdog: _Watchdog) -> None:
    """Note the end, whatever lands meanwhile."""
    while True:
        try:
            watchdog.stop()
        except _Expired:
            continue
        return


def _set_async_exception(thread_id: int, kind: type[BaseException] | None) -> None:
    """Let a thread raise `kind` soon; None takes back what has not landed.

    Source: CPython C API, `PyThreadState_SetAsyncExc(unsigned long,
    PyObject *)`; a null pointer clears the pending exception. It must be
    called with the interpreter lock held, which `ctypes.pythonapi` does.
    """
    raised = ctypes.py_object() if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), raised)

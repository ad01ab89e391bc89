"""A time limit ends Python code, and never strikes after it returned."""

import contextlib
import threading
import time

import pytest

from server.text.deadline import _Watchdog, run_limited


def spin(seconds: float) -> str:
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        pass
    return "done"


def test_code_within_its_time_returns_its_value() -> None:
    assert run_limited(lambda: spin(0.01), 5.0) == "done"


def test_an_endless_loop_ends_in_a_timeout_that_names_the_limit() -> None:
    with pytest.raises(TimeoutError, match=r"^not finished after 0\.05 s$"):
        run_limited(lambda: spin(60), 0.05)


def test_catching_exception_does_not_save_the_loop() -> None:
    def swallow() -> None:
        while True:
            with contextlib.suppress(Exception):
                spin(60)

    with pytest.raises(TimeoutError):
        run_limited(swallow, 0.05)


def test_a_strike_that_is_lost_is_followed_by_another() -> None:
    """As in a destructor, where Python drops whatever is raised."""

    def lose_the_first() -> None:
        with contextlib.suppress(BaseException):
            spin(60)
        spin(60)

    with pytest.raises(TimeoutError, match=r"^not finished after 0\.05 s$"):
        run_limited(lose_the_first, 0.05)
    assert spin(0.8) == "done"  # and none comes after the end


def test_an_error_of_the_code_passes() -> None:
    with pytest.raises(ZeroDivisionError):
        run_limited(lambda: 1 // 0, 5.0)


def test_it_works_in_a_thread_and_leaves_other_threads_alone() -> None:
    outcomes: list[str] = []

    def work() -> None:
        try:
            run_limited(lambda: spin(60), 0.05)
        except TimeoutError:
            outcomes.append("timeout")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert spin(0.1) == "done"
    for thread in threads:
        thread.join()
    assert outcomes == ["timeout"] * 3


def test_nothing_strikes_after_the_return_however_close_the_race() -> None:
    n_done = n_late = 0
    for _ in range(300):
        try:
            run_limited(lambda: spin(0.002), 0.002)
            n_done += 1
        except TimeoutError:
            n_late += 1
        spin(0.0005)
    assert n_done + n_late == 300
    assert threading.active_count() < 20


def test_a_watchdog_that_was_stopped_does_not_strike() -> None:
    watchdog = _Watchdog(60)
    watchdog.stop()
    watchdog._expire()
    assert spin(0.01) == "done"


def test_a_strike_that_has_not_landed_is_taken_back() -> None:
    made: list[_Watchdog] = []
    is_made, may_go = threading.Event(), threading.Lock()
    outcomes: list[str] = []

    def work() -> None:
        try:
            made.append(_Watchdog(60))
            is_made.set()
            with may_go:
                outcomes.append(spin(0.01))
        except BaseException as error:  # noqa: BLE001 what must not come
            outcomes.append(repr(error))

    with may_go:
        thread = threading.Thread(target=work)
        thread.start()
        is_made.wait()
        time.sleep(0.05)  # let the thread block in C, where nothing can land
        made[0]._expire()
        made[0].stop()
    thread.join()
    assert outcomes == ["done"]

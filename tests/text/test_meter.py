"""The meter refuses by size, before anything is made."""

import threading

import pytest

from server.text.meter import (
    Meter,
    RefusedError,
    check_format_spec,
    check_power,
    check_width,
    measure,
)


@pytest.fixture
def meter() -> Meter:
    made = Meter()
    made.begin(1000)
    return made


def test_the_limit_is_reached_exactly_and_named(meter: Meter) -> None:
    meter.charge(1000)
    with pytest.raises(RefusedError, match=r"^it makes more than 1000 characters"):
        meter.charge(1)


def test_a_text_shared_a_thousand_times_counts_a_thousand_times(meter: Meter) -> None:
    with pytest.raises(RefusedError):
        meter.charge_text_of([[["x" * 10] * 10] * 10])


def test_a_mapping_counts_keys_and_values(meter: Meter) -> None:
    meter.charge_text_of({"k" * 300: "v" * 300})
    with pytest.raises(RefusedError):
        meter.charge_text_of({"k" * 300: "v" * 300})


def test_an_object_is_no_text(meter: Meter) -> None:
    with pytest.raises(RefusedError, match=r"^it uses a Meter as text$"):
        meter.charge_text_of([meter])


@pytest.mark.parametrize(
    ("left", "right"),
    [("x", 10**9), (10**9, "x"), ([1], 10**9), (10**9, (1,)), (2**4000, 2**4000)],
)
def test_products_are_refused_before_they_are_made(meter, left, right) -> None:
    with pytest.raises(RefusedError):
        meter.charge_product(left, right)


def test_small_products_pass(meter: Meter) -> None:
    for left, right in (("x", 9), (9, "x"), ("x", -(10**9)), (3, 4), (1.5, 1e300)):
        meter.charge_product(left, right)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("%1000000000d", 1),
        ("%(a)1000000000d", {"a": 1}),
        ("%((a))1000000000d", {"(a)": 1}),
        ("%.1000000000f", 1.0),
        ("%*d", (10**9, 1)),
        ("%-*d", (-(10**9), 1)),
        ("%" + "9" * 5000 + "d", 1),
        ("%(a)s" * 100, {"a": "x" * 100}),
        ("%s", "x" * 2000),
    ],
)
def test_percent_bombs_are_refused(meter, text, values) -> None:
    with pytest.raises(RefusedError):
        meter.charge_percent(text, values)


def test_plain_percent_passes(meter: Meter) -> None:
    meter.charge_percent("%s costs 20000 euros, %5.2f %%", ("it", 1.0))


def test_powers_and_widths_are_bounded() -> None:
    check_power(2, 2048)
    check_power(2, -5)
    check_power(2.0, 10**10)
    check_width(10_000)
    check_format_spec(">0010000")
    for refused in (
        lambda: check_power(10, 10**10),
        lambda: check_width(10_001),
        lambda: check_format_spec(">10001"),
        lambda: check_format_spec("9" * 5000),
    ):
        with pytest.raises(RefusedError):
            refused()


def test_measure_counts_the_outside_only() -> None:
    assert [measure(v) for v in ("abc", b"ab", ["abc"] * 2, (), 7)] == [3, 2, 16, 0, 0]


def test_each_thread_has_its_own_count(meter: Meter) -> None:
    meter.charge(900)
    failures: list[str] = []

    def work() -> None:
        meter.begin(500)
        try:
            meter.charge(500)
        except RefusedError as error:
            failures.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    meter.charge(100)
    assert failures == []

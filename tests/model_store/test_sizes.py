"""Numbers of bytes as people read them."""

import pytest

from model_store.sizes import format_bytes, tell_bytes


@pytest.mark.parametrize(
    ("n_bytes", "expected"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1024 * 1024 - 1, "1.0 MiB"),
        (1_288_490_189, "1.2 GiB"),
        (2**60, "1024.0 PiB"),
    ],
)
def test_a_size_is_written_in_the_unit_that_fits(n_bytes, expected):
    assert expected == format_bytes(n_bytes)


def test_an_error_text_has_the_exact_number_too():
    assert "1.0 KiB (1025 bytes)" == tell_bytes(1025)
    assert "7 bytes" == tell_bytes(7)

from starlette.responses import Response

from server.dialects.openai.warning_header import HEADER, MAX_CHARS, warn


def shown(*warnings):
    return warn(Response(), warnings).headers.getlist(HEADER)


def test_each_warning_is_a_header_of_its_own_and_stands_once():
    assert [] == shown()
    assert ["a b.", "c."] == shown("a b.", "c.", "a b.")


def test_nothing_breaks_out_of_a_header():
    assert [r"a\r\nset-cookie: x \xe9\u20ac"] == shown("a\r\nset-cookie: x é€")


def test_a_long_warning_is_cut_and_the_rest_of_many_is_counted():
    (long,) = shown("x" * 1000)
    assert (MAX_CHARS, "...") == (len(long), long[-3:])
    many = shown(*(str(number) for number in range(20)))
    assert ["6", "7", "There are 12 more warnings."] == many[-3:]

"""What a hostile template tries, and what an honest one may rely on."""

import json
import tracemalloc

import pytest
from jinja2.exceptions import SecurityError, UndefinedError

from server.text.controls import ControlTexts
from server.text.meter import RefusedError
from server.text.sandbox import ChatEnvironment, TemplateRaisedError

LIMIT_CHARS = 1_000_000


def render(source: str, **variables) -> str:
    environment = ChatEnvironment(ControlTexts(frozenset({"<s>"})))
    environment.begin(sentinel="\ufdd0", limit_chars=LIMIT_CHARS)
    template = environment.compile_bounded(source)
    return "".join(template.generate(variables))


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''['__class__']['__mro__'] }}",
        "{{ ''|attr('__class__')|attr('mro') }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ raise_exception.__globals__.os }}",
        "{{ namespace.__init__.__globals__.os }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ '{a.__class__.__mro__}'.format_map({'a': ''}) }}",
        "{{ ('{0.__class__}'|safe).format('') }}",
        "{{ (messages|map('attr', '__class__')|list)[0].__mro__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ messages.clear() }}",
        "{{ messages[0].update(role=1) }}",
        "{{ (1).to_bytes(1000000000, 'big') }}",
        "{{ 'x'.encode('utf-7') }}",
        "{{ ('&lt;'|safe).unescape() }}",
    ],
)
def test_escapes_are_refused(source: str) -> None:
    with pytest.raises((SecurityError, UndefinedError)):
        render(source, messages=[{"role": "user"}])


def double(expression: str) -> str:
    """Write a template that grows a variable sixty times."""
    return (
        "{% macro m(a) %}{{ a }}{{ a }}{% endmacro %}{% set y = 'x' * 30000 %}"
        "{% set n = namespace(x=['x']) %}{% for i in range(60) %}"
        "{% set n.x = EXPRESSION %}{% endfor %}"
    ).replace("EXPRESSION", expression)


GROWING_LIST = (
    "{% set q = [] %}{% for i in range(99999) %}{% for j in range(9) %}"
    "{% set _ = q.append(i) %}{% endfor %}{% endfor %}"
)


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 10**9 }}",
        "{{ 10**9 * 'x' }}",
        "{{ [1] * 10**9 }}",
        "{{ 10**(10**10) }}",
        "{{ 'x'|center(1000000000) }}",
        "{{ 'x'.center(1000000000) }}",
        "{{ 'x'.ljust(width) }}",
        "{{ 'x'.zfill(width) }}",
        "{{ '\t'.expandtabs(width) }}",
        "{{ ('\t' * 500000).expandtabs(9) }}",
        "{{ 'x'|indent(width) }}",
        "{{ ('x\n' * 1000)|indent(9000, first=true) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%1000000000d'|format(1) }}",
        "{{ '%*d' % (width, 1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, width) }}",
        "{{ range(1000)|join('x' * 10000) }}",
        "{{ ('x' * 10000).join(['y'] * 1000) }}",
        "{{ ('a' * 10000).replace('a', 'b' * 10000) }}",
        "{{ ('a' * 10000)|replace('a', 'b' * 10000) }}",
        "{{ [1]|batch(width, 'x')|list }}",
        "{{ [1]|slice(width)|list }}",
        "{{ 1|round(width, 'ceil') }}",
        "{{ [1]|tojson(indent=width) }}",
        "{{ [1]|tojson(separators=('x' * 100, ':')) }}",
        double("n.x + n.x"),
        double("n.x ~ n.x"),
        double("[n.x, n.x]") + "{{ n.x }}",
        double("[n.x, n.x]") + "{{ n.x|tojson }}",
        double("[n.x, n.x]") + "{{ n.x|string }}",
        double("[n.x, n.x]") + "{{ '%s' % (n.x,) }}",
        double("[n.x, n.x]") + "{{ '{}'.format(n.x) }}",
        double("[n.x, n.x]") + "{{ raise_exception(n.x) }}",
        double("m(n.x)"),
        double("n.x + [y[1:]]"),
        GROWING_LIST,
        "{{ namespace(a=1) }}",
    ],
)
def test_bombs_are_refused_by_size(source: str) -> None:
    with pytest.raises(RefusedError):
        render(source, width=10**9)


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 10**9 }}",
        "{{ 10**9 * 'x' }}",
        "{{ [1] * 10**8 }}",
        "{{ 'x'.center(1000000000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ ('a' * 100000).replace('a', 'b' * 10000) }}",
    ],
)
def test_what_one_call_would_make_is_refused_before_it_is_made(source: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError):
            render(source)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 16 * 2**20


def test_range_is_limited() -> None:
    with pytest.raises(OverflowError):
        render("{{ range(1000000)|list }}")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ 'a' ~ 1 ~ none }}", "a1None"),
        ("{{ messages[1:]|length }} {{ 'abc'[::-1] }}", "1 cba"),
        ("{{ 'a-b'.replace('-', '+') }} {{ 'a-b'|replace('-', '') }}", "a+b ab"),
        ("{{ 'aaa'.replace('a', 'b', 1) }}", "baa"),
        ("{{ 'aaa'|replace('a', 'b', 2) }}", "bba"),
        ("{{ '%s-%03d' % ('a', 7) }} {{ '%s'|format('b') }}", "a-007 b"),
        ("{{ '%(a)s'|format(a='k') }}", "k"),
        ("{{ '{}/{b:>3}'.format(1, b=2) }}", "1/  2"),
        ("{{ '{a}'.format_map({'a': 1}) }}", "1"),
        ("{{ ['a', 'b']|join('/') }} {{ '-'.join(['a', 'b']) }}", "a/b a-b"),
        ("{{ messages|join(',', attribute='role') }}", "user,system"),
        ("{{ messages|map(attribute='role')|list|tojson }}", '["user", "system"]'),
        ("{{ messages|selectattr('role', 'equalto', 'user')|list|length }}", "1"),
        ("{{ 'a\nb'|indent(2) }} {{ 'a'|center(3) }}|", "a\n  b  a |"),
        ("{{ 'a\tb'.expandtabs(2) }} {{ 'a'.rjust(3) }}", "a b   a"),
        ("{{ [1, 2, 3]|batch(2)|list }}", "[[1, 2], [3]]"),
        (
            "{{ 2.345|round(1) }} {{ 7 % 4 }} {{ 2 ** 8 }} {{ 3 * 'ab' }}",
            "2.3 3 256 ababab",
        ),
        ("{{ none|string }} {{ 'x'|string }} {{ [1]|string }}", "None x [1]"),
        (
            (
                "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}"
                "{{ i }}{% endfor %}"
            ),
            "01",
        ),
        ("{% generation %}{{ 'x' }}{% set y = 1 %}{% endgeneration %}{{ y }}", "x"),
        ("{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m(1) ~ m(2) }}", "[1][2]"),
        ("  {% if true %}\nx\n  {% endif %}\ny", "x\ny"),
        ("{{ undefined_thing }}{{ messages[0].nothing }}", ""),
        ("{% set q = [] %}{% set _ = q.append(1) %}{{ q.pop(0) }}{{ q }}", "1[]"),
        ("{{ messages[0].items()|list|length }}", "1"),
        (
            (
                "{% for m in messages %}{{ loop.index }}{{ m['role'].upper() }}"
                "{% endfor %}"
            ),
            "1USER2SYSTEM",
        ),
    ],
)
def test_what_honest_templates_use_works(source: str, expected: str) -> None:
    messages = [{"role": "user"}, {"role": "system"}]
    assert render(source, messages=messages) == expected


@pytest.mark.parametrize(
    "options", ["", "indent=2", "separators=(',', ':')", "sort_keys=true"]
)
def test_tojson_writes_what_json_dumps_writes(options: str) -> None:
    value = {"z": "<é & 'quote'>", "a": [1, None, True, {"b": 0.5}]}
    names = {"true": True}
    expected = json.dumps(
        value,
        ensure_ascii=False,
        **eval(f"dict({options})", names),  # noqa: S307 a literal above
    )
    assert render(f"{{{{ value|tojson({options}) }}}}", value=value) == expected


def test_tojson_in_ascii_escapes_all_but_the_sentinel() -> None:
    source = "{{ value|tojson(ensure_ascii=true) }}"
    assert render(source, value="é😀\ufdd0<") == '"\\u00e9\\ud83d\\ude00\ufdd0<"'
    assert render(source, value="a") == '"a"'


def test_a_list_as_text_keeps_the_sentinel() -> None:
    source = "{{ x }}{{ x|string }}{{ '' ~ x }}{{ [x]|join }}"
    source += "{{ '%s' % (x,) }}{{ '%s'|format(x) }}{{ '{}'.format(x) }}"
    assert render(source, x=["<\ufdd0s>"]) == "['<\ufdd0s>']" * 7


def test_replace_makes_no_control_text() -> None:
    source = "{{ x.replace('-', '') }}{{ x|replace('-', '') }}<s>"
    assert render(source, x="<-s>") == "<\ufdd0s><\ufdd0s><s>"


def test_raise_exception_carries_the_templates_text() -> None:
    with pytest.raises(TemplateRaisedError, match=r"^no such role: x$"):
        render("{{ raise_exception('no such role: ' + role) }}", role="x")


def test_an_object_cannot_be_positional_and_named_in_format() -> None:
    with pytest.raises(TypeError, match="positional or keyword"):
        render("{{ '%s'|format(1, a=2) }}")


def test_other_files_cannot_be_reached() -> None:
    for tag in ("include 'x'", "import 'x' as y", "extends 'x'"):
        with pytest.raises(TypeError, match="no loader"):
            render(f"{{% {tag} %}}")

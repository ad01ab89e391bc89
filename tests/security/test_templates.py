"""Chat templates of hostile models, by the classes of known sandbox escapes.

Each template is rendered as a model's own would be. It passes if nothing of
Python's inside comes out: either the render ends in `TemplateError`, or its text
shows none of the marks. `{{ ''.__class__ }}` for instance is just empty.
"""

import re
import threading
from datetime import UTC, datetime

import pytest

from server.core.requests import ChatPrompt, Message, Text
from server.text.template import ChatTemplate, TemplateError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PROMPT = ChatPrompt((Message("user", (Text("hi"),)),))
MARKS = re.compile(
    r"<class|<function|<module|<frame|<code|<built-in|<bound|<generator|<jinja2|"
    r"environ\b|root:|/bin/|object at 0x|__builtins__"
)

ESCAPES = {
    "CVE-2024-34359 and CVE-2026-5760, classes to subprocess": (
        "{% for c in ().__class__.__base__.__subclasses__() %}"
        "{% if 'Popen' in c.__name__ %}{{ c('id', shell=True) }}{% endif %}{% endfor %}"
    ),
    "subclasses by item": "{{ ''['__class__']['__mro__'][1]['__subclasses__']() }}",
    "globals of a function": "{{ raise_exception.__globals__ }}",
    "globals of a method": "{{ raise_exception.__func__.__globals__ }}",
    "code of a function": "{{ raise_exception.__func__.__code__.co_consts }}",
    "owner of a method": "{{ raise_exception.__self__ }}",
    "environment by a method": "{{ raise_exception.__self__.globals }}",
    "strftime_now": "{{ strftime_now.__globals__ }}{{ strftime_now.__self__ }}",
    "closure": "{{ strftime_now.__closure__[0].cell_contents }}",
    "cycler": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "joiner": "{{ joiner.__init__.__globals__ }}",
    "namespace": "{{ namespace.__init__.__globals__ }}",
    "lipsum": "{{ lipsum.__globals__ }}",
    "dict.mro": "{{ dict.mro() }}",
    "dict.__subclasses__": "{{ dict.__subclasses__() }}",
    "dict.__base__": "{{ dict.__base__.__subclasses__() }}",
    "self": "{{ self._TemplateReference__context.environment }}",
    "self.__init__": "{{ self.__init__.__globals__ }}",
    "context": "{{ context }}{{ environment }}{{ resolve }}",
    "loop": "{% for x in [1] %}{{ loop._recurse }}{{ loop.__init__.__globals__ }}"
    "{% endfor %}",
    "caller": "{% macro m() %}{{ caller.__init__.__globals__ }}{% endmacro %}"
    "{% call m() %}{% endcall %}",
    "macro": "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}"
    "{{ m._environment }}",
    "macro by item": "{% macro m() %}{% endmacro %}{{ m['_func']['__globals__'] }}",
    "varargs": "{% macro m() %}{{ varargs.__class__.__base__.__subclasses__() }}"
    "{% endmacro %}{{ m(1) }}",
    "CVE-2016-10745 str.format": "{{ '{0.__class__.__mro__}'.format('') }}",
    "CVE-2019-10906 str.format_map": (
        "{{ '{a.__class__.__mro__}'.format_map({'a': ''}) }}"
    ),
    "CVE-2024-56326 format kept in a variable": (
        "{% set f = '{0.__class__.__mro__}'.format %}{{ f('') }}"
    ),
    "CVE-2024-56326 format by a list": "{{ ['{0.__class__.__mro__}'.format][0]('') }}",
    "CVE-2024-56326 format by a namespace": (
        "{% set n = namespace(f='{0.__class__.__mro__}'.format) %}{{ n.f('') }}"
    ),
    "CVE-2024-56326 format by a macro": (
        "{% macro m(f) %}{{ f('') }}{% endmacro %}"
        "{{ m('{0.__class__.__mro__}'.format) }}"
    ),
    "CVE-2025-27516 format by attr": (
        "{{ ('{0.__class__.__mro__}'|attr('format'))('') }}"
    ),
    "CVE-2025-27516 format_map by attr": (
        "{{ ('{a.__class__.__mro__}'|attr('format_map'))({'a': ''}) }}"
    ),
    "CVE-2025-27516 attr by map": (
        "{{ (['{0.__class__.__mro__}']|map('attr', 'format')|first)('') }}"
    ),
    "format by item": "{{ '{0.__class__.__mro__}'['format']('') }}",
    "nested format": "{{ '{0:{1.__class__.__mro__}}'.format(1, '') }}",
    "format of a marked text": "{{ ('{0.__class__.__mro__}'|safe).format('') }}",
    "percent": "{{ '%(a)s' % {'a': raise_exception} }}{{ '%r' % (range,) }}",
    "CVE-2024-22195 and CVE-2024-34064 xmlattr": "{{ {'a b': 1}|xmlattr }}",
    "attr chain": "{{ ''|attr('__class__')|attr('__mro__')|attr('__getitem__')(1) }}",
    "attr in hex": "{{ ''|attr('\\x5f\\x5fclass\\x5f\\x5f')|attr('mro')() }}",
    "attr put together": "{{ ''|attr('_' * 2 ~ 'class' ~ '_' * 2)|attr('mro')() }}",
    "map attribute": "{{ messages|map(attribute='__class__.__mro__')|list }}",
    "selectattr": "{{ messages|selectattr('__class__')|list|length // 0 }}",
    "groupby": "{{ messages|groupby('__class__') }}",
    "sort": "{{ [messages, messages]|sort(attribute='__class__.__mro__') }}",
    "sum": "{{ messages|sum(attribute='__class__', start='') }}",
    "join attribute": "{{ messages|join(attribute='__class__') }}",
    "unique attribute": "{{ messages|unique(attribute='__class__')|list|first // 0 }}",
    "max attribute": "{{ [1, 2]|max(attribute='__class__.__mro__') }}",
    "generator frame": "{{ (messages|map('upper')).gi_frame.f_globals }}",
    "generator frame, back": "{{ (messages|select).gi_frame.f_back.f_builtins }}",
    "generator code": "{{ (messages|reject).gi_code.co_consts }}",
    "generator by attr": "{{ (messages|map('upper'))|attr('gi_frame') }}",
    "items": "{{ {}.items.__self__.__class__ }}{{ {}.keys().__self__ }}",
    "namespace overwritten": (
        "{% set n = namespace() %}{% set n.__class__ = dict %}{{ n.__class__.mro() }}"
    ),
    "namespace with dunders": "{{ namespace(__class__=dict).__class__.mro() }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}{{ os }}",
    "from import": "{% from 'os' import system %}",
    "extends": "{% extends '/etc/passwd' %}",
    "do": "{% do messages.__class__ %}",
    "debug": "{% debug %}",
    "exception": "{{ raise_exception('x').__traceback__.tb_frame }}",
    "mutation of a list": "{{ messages.__setitem__(0, 1) }}",
    "mutation of a mapping": "{{ messages[0].__setitem__('role', 1) }}",
    "reduce": "{{ messages.__reduce_ex__(2) }}",
    "getattribute": "{{ messages.__getattribute__('__class__') }}",
    "class by string method": "{{ ''.join.__self__.__class__.__base__ }}",
    "bytes": "{{ b''.__class__ }}",
    "number": "{{ (1).__class__.__base__.__subclasses__() }}",
    "unicode identifier": "{{ ''.__ｃlass__.__mro__ }}",  # noqa: RUF001
}

BOMBS = {
    "loops in loops": "{% for a in range(99999) %}{% for b in range(99999) %}"
    "{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
    "loop over a cycler": "{% set c = cycler(1) %}{% for a in range(99999) %}"
    "{% for b in range(99999) %}{% set x = c.next() %}{% endfor %}{% endfor %}",
    "recursion": "{% macro m(x) %}{{ m(x + 1) }}{% endmacro %}{{ m(0) }}",
    "recursive loop": "{% for x in [[1]] recursive %}{{ loop([x]) }}{% endfor %}",
    "list that grows while it is read": (
        "{% set q = [1] %}{% for x in q %}{% set _ = q.append(x) %}{% endfor %}"
    ),
    "giant output": "{% for a in range(99999) %}{{ 'x' * 99999 }}{% endfor %}",
    "giant string": "{{ 'x' * 10**12 }}",
    "giant power": "{{ 9 ** (9 ** 9) }}",
    "giant shift": "{{ '%' ~ 10**10 ~ 'd' % 1 }}{{ ('%' ~ 10**10 ~ 'd') % 1 }}",
    "giant range": "{{ range(10**12)|list }}",
    "doubling": "{% set n = namespace(x='x') %}{% for i in range(99) %}"
    "{% set n.x = n.x ~ n.x %}{% endfor %}",
    "deep nesting": "{% set n = namespace(x=[]) %}{% for i in range(99999) %}"
    "{% set n.x = [n.x] %}{% endfor %}{{ n.x }}{{ n.x|tojson }}",
    "replace": "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
}


def render(source: str, limit_s: float = 10.0) -> str:
    template = ChatTemplate(
        source, bos="<s>", eos="</s>", control_texts=frozenset({"<s>"}), limit_s=limit_s
    )
    return "".join(s.text for s in template.render(PROMPT, now=NOW))


def test_the_marks_would_be_seen():
    for leak in (str(str.__mro__), str(render), str(object()), str(re), "root:x:0:0"):
        assert MARKS.search(leak)


def test_an_honest_template_is_rendered():
    assert "user: hi" == render(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"
    )


@pytest.mark.parametrize("name", ESCAPES)
def test_nothing_of_pythons_inside_comes_out(name):
    try:
        text = render(ESCAPES[name])
    except TemplateError as error:
        text = error.message
        assert "chat template" in text
    assert MARKS.search(text) is None, text
    assert len(text) < 2000


@pytest.mark.parametrize("name", BOMBS)
def test_a_template_that_would_not_end_or_fill_the_memory_ends_in_an_error(name):
    with pytest.raises(TemplateError):
        render(BOMBS[name], limit_s=0.5)
    assert threading.active_count() < 20

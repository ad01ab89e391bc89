"""Where a model file's Jinja program runs.

A chat template is a program by an unknown author. Jinja's immutable sandbox
keeps it from Python's internals and from changing what it is given; this
module bounds what it can cost.

Python code can be interrupted (`server.text.deadline`), a call into C cannot,
and a few characters of template can ask for gigabytes: `"x" * 10**10`,
`"%9999999d" % 1`, a list that holds a list that holds the same text a
thousand times. So one meter counts all text and list space that a render
makes, also what is thrown away again, and everything that makes more than it
is given is charged *before* it happens:

* the operators `+ * ** %`, the joining operator `~`, and slices;
* methods of strings, and filters, by what each of them can make of its
  arguments; filters of no use to a chat template do not exist here;
* whatever turns a nested value into text: it is walked through first.

A comparison of deeply shared lists can still take long inside C; it holds up
the worker of the model that brought it and nobody else.
"""

# ruff: noqa: ANN401, FBT002 values of a foreign program can be anything, and
# filters take what Jinja's own take, by position too

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, Final

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

from server.text.controls import ControlTexts
from server.text.meter import (
    LIST_ITEM_CHARS,
    Meter,
    RefusedError,
    check_format_spec,
    check_power,
    check_width,
)

MAX_INDENT_CHARS: Final = 64

# fmt: off
_FILTERS: Final = (
    "abs", "attr", "capitalize", "count", "d", "default", "dictsort", "e", "escape",
    "first", "float", "groupby", "int", "items", "last", "length", "list", "lower",
    "map", "max", "min", "reject", "rejectattr", "reverse", "safe", "select",
    "selectattr", "sort", "sum", "title", "trim", "unique", "upper", "wordcount",
)
# fmt: on
_GLOBALS: Final = ("range", "dict", "cycler", "joiner", "namespace")
_HIDDEN_METHODS: Final = frozenset(
    {"encode", "translate", "maketrans", "unescape", "striptags", "escape"}
)
_PADDING_METHODS: Final = frozenset({"center", "ljust", "rjust", "zfill"})


class TemplateRaisedError(Exception):
    """The template called `raise_exception`; the text is its own."""


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """Compiles and runs chat templates within bounds.

    Args:
        controls: Guards against control texts that `replace` would make.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, controls: ControlTexts) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            finalize=_finalize,
            cache_size=0,
            extensions=[GenerationTag, "jinja2.ext.loopcontrols"],
        )
        self._controls = controls
        self.meter = Meter()
        self._local = threading.local()
        self.globals = {
            name: value for name, value in self.globals.items() if name in _GLOBALS
        }
        self.globals["raise_exception"] = self._raise_exception
        self.filters = {name: self._meter(FILTERS[name]) for name in _FILTERS}
        self.filters.update(
            {
                "batch": self._meter(_limit_numbers(FILTERS["batch"])),
                "slice": self._meter(_limit_numbers(FILTERS["slice"])),
                "round": _limit_numbers(FILTERS["round"]),
                "truncate": self._meter(FILTERS["truncate"]),
                "center": self._center,
                "format": self._format,
                "indent": self._indent,
                "join": self._join,
                "replace": self._replace,
                "string": self._to_string,
                "tojson": self._to_json,
                "_concat": self._concat_values,
                "_slice": self._take_slice,
            }
        )

    def begin(self, *, sentinel: str, limit_chars: int) -> None:
        """Start the meter of this thread for one compilation or render."""
        self._local.sentinel = sentinel
        self.meter.begin(limit_chars)

    def compile_bounded(self, source: str) -> Any:
        """Compile a template so that all its costs are metered.

        Returns:
            A `jinja2.Template`.
        """
        tree = _CostRewriter(self).visit(self.parse(source))
        return self.from_string(tree)

    def concat(self, parts: Iterable[str]) -> str:
        """Join the output of a block or macro."""
        kept = []
        for part in parts:
            self.meter.charge(len(part))
            kept.append(part)
        return "".join(kept)

    def to_text(self, value: Any) -> str:
        """Write a value as `str` does, but for the sentinels in it.

        `str` of a list escapes them, and the prompt could not be cut there.
        """
        return self._restore_sentinels(str(value))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Hide numbers' methods, codecs, unescaping; let lists grow and shrink."""
        if isinstance(obj, int | float | bytes):
            return False
        if isinstance(obj, str) and attr in _HIDDEN_METHODS:
            return False
        # All lists were made for this render alone, and Kimi's template queues.
        if type(obj) is list and attr in {"append", "pop"}:
            return True
        return super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Carry out an operator after a look at what it would make."""
        if operator == "*":
            self.meter.charge_product(left, right)
        elif operator == "**":
            check_power(left, right)
        elif operator == "%" and isinstance(left, str):
            self.meter.charge_percent(left, right)
        result = super().call_binop(context, operator, left, right)
        if operator == "%" and type(result) is str:
            result = self.to_text(result)
        self.meter.charge_result(result)
        return result

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function or method; those of strings are metered."""
        owner = getattr(obj, "__self__", None)
        self.meter.charge(LIST_ITEM_CHARS)
        if isinstance(owner, str):
            name = obj.__name__
            if name == "join":
                args = (self.meter.charge_items(args[0], owner), *args[1:])
            elif name == "replace" and type(owner) is str:
                return self._replace(owner, *args)
            else:
                self._check_method(name, owner, args)
        result = super().call(context, obj, *args, **kwargs)
        self.meter.charge_result(result)
        return result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Replace `str.format` and `format_map` by metered ones."""
        if super().wrap_str_format(value) is None:
            return None
        text, is_map = value.__self__, value.__name__ == "format_map"
        if isinstance(text, Markup):
            return _refuse_markup_format

        def format_text(*args: Any, **kwargs: Any) -> str:
            if is_map:
                args, kwargs = (), dict(*args)
            for item in (*args, *kwargs.values()):
                for _ in range(text.count("{")):
                    self.meter.charge_text_of(item)
            return self.to_text(_BoundedFormatter(self).vformat(text, args, kwargs))

        return format_text

    def _meter(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)  # with it what Jinja is to pass as first argument
        def metered(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            self.meter.charge_result(result)
            return result

        return metered

    def _raise_exception(self, message: Any = "") -> None:
        self.meter.charge_text_of(message)
        raise TemplateRaisedError(str(message))

    def _check_method(self, name: str, owner: str, args: tuple[Any, ...]) -> None:
        if name in _PADDING_METHODS and args and isinstance(args[0], int):
            check_width(args[0])
        elif name == "expandtabs":
            width = args[0] if args and isinstance(args[0], int) else 8
            check_width(width)
            self.meter.charge(owner.count("\t") * max(width, 0))

    def _center(self, value: Any, width: int = 80) -> str:
        check_width(width)
        return str(value).center(width)

    def _format(self, value: Any, *args: Any, **kwargs: Any) -> str:
        if args and kwargs:
            raise TypeError("format takes positional or keyword arguments, not both")
        values = kwargs or args
        self.meter.charge_percent(str(value), values)
        return self.to_text(str(value) % values)

    def _indent(
        self, s: Any, width: int | str = 4, first: Any = False, blank: Any = False
    ) -> Any:
        check_width(len(width) if isinstance(width, str) else width)
        n_chars = len(width) if isinstance(width, str) else width
        self.meter.charge(len(s) + (s.count("\n") + 1) * max(n_chars, 0))
        return FILTERS["indent"](s, width, first, blank)

    def _join(
        self, value: Iterable[Any], d: str = "", attribute: str | int | None = None
    ) -> str:
        if attribute is not None:
            value = (self.getitem(item, attribute) for item in value)
        return str(d).join(map(self.to_text, self.meter.charge_items(value, str(d))))

    def _replace(self, s: Any, old: Any, new: Any, count: int | None = None) -> str:
        text, old, new = str(s), str(old), str(new)
        limit = -1 if count is None else count
        n_found = text.count(old)
        self.meter.charge(len(text) + n_found * len(new))
        return self._controls.replace(text, old, new, limit, self._local.sentinel)

    def _to_string(self, value: Any) -> Any:
        self.meter.charge_text_of(value)
        return value if isinstance(value, str) else self.to_text(value)

    def _to_json(
        self,
        value: Any,
        ensure_ascii: Any = False,
        indent: int | str | None = None,
        separators: Sequence[str] | None = None,
        sort_keys: Any = False,
    ) -> str:
        n_indent = len(indent) if isinstance(indent, str) else indent or 0
        if max(n_indent, *map(len, separators or [""])) > MAX_INDENT_CHARS:
            raise RefusedError(
                f"it indents JSON by more than {MAX_INDENT_CHARS} characters"
            )
        self.meter.charge_text_of(value)
        text = json.dumps(
            value,
            ensure_ascii=bool(ensure_ascii),
            indent=indent,
            separators=(separators[0], separators[1]) if separators else None,
            sort_keys=bool(sort_keys),
        )
        self.meter.charge(len(text))
        return self._restore_sentinels(text)

    def _restore_sentinels(self, text: str) -> str:
        # The sentinel is chosen so that no string of the client holds it in
        # this notation either.
        sentinel = self._local.sentinel
        return text.replace(ascii(sentinel)[1:-1], sentinel) if sentinel else text

    def _concat_values(self, values: Sequence[Any]) -> str:
        return "".join(map(self.to_text, self.meter.charge_items(values)))

    def _take_slice(self, value: Any, start: Any, stop: Any, step: Any) -> Any:
        result = value[slice(start, stop, step)]
        self.meter.charge_result(result)
        return result


class GenerationTag(Extension):
    """Accepts `{% generation %}`, which marks text for training, as a scope."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        """Return the statements between the tags."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _CostRewriter(NodeTransformer):
    """Turns `~` and slices, which Jinja runs directly, into metered filters."""

    def __init__(self, environment: ChatEnvironment) -> None:
        self._environment = environment

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        values = nodes.List(node.nodes, lineno=node.lineno)
        return self._make_filter(values, "_concat", [])

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        bounds = (node.arg.start, node.arg.stop, node.arg.step)
        none = nodes.Const(None, lineno=node.lineno)
        args = [bound if bound is not None else none for bound in bounds]
        return self._make_filter(node.node, "_slice", args)

    def _make_filter(
        self, value: nodes.Expr, name: str, args: list[nodes.Expr]
    ) -> nodes.Node:
        made = nodes.Filter(value, name, args, [], None, None, lineno=value.lineno)
        made.set_environment(self._environment)
        return made


class _BoundedFormatter(SandboxedFormatter):
    """Refuses `{:9999999999}`, also where the width is a value itself."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        check_format_spec(format_spec)
        return super().format_field(value, format_spec)


@pass_context
def _finalize(context: Context, value: Any) -> Any:
    """Meter what `{{ }}` is about to turn into text.

    It takes the context, though only to find the environment, because Jinja
    then leaves expressions of constants to the render.
    """
    environment = context.environment
    if isinstance(environment, ChatEnvironment):
        environment.meter.charge_text_of(value)
        if isinstance(value, list | tuple | dict):
            return environment.to_text(value)
    return value


def _limit_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def limited(*args: Any, **kwargs: Any) -> Any:
        for value in (*args[1:], *kwargs.values()):
            if isinstance(value, int):
                check_width(value)
        return function(*args, **kwargs)

    return limited


def _refuse_markup_format(*_args: Any, **_kwargs: Any) -> str:
    raise SecurityError("format of a text marked as safe is not allowed")

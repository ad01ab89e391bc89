"""What an answer must look like, written as one grammar.

A request can ask for a form in two ways, and a model can think before either:

    thought?  ( calls | answer_begin answer answer_end )

`response_format` and its like constrain the answer, `tool_choice` the calls.
Where one of them is demanded the grammar is eager: it holds from the first
token on, with the thought as part of it. Where the model decides by itself
whether it calls a tool, the grammar is lazy: it describes one section of calls
from its first mark on, and is entered when that mark has been generated.

With tools of the model's choice and a form for the answer the grammar is eager
and has both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from msgspec.structs import replace

from server.core.errors import InvalidRequest
from server.core.requests import (
    ChatPrompt,
    Constraint,
    Generate,
    Grammar,
    JsonSchema,
    OneOf,
    Regex,
    Tool,
    ToolChoice,
)
from server.text.format import CallSyntax, ChatFormat
from server.text.gbnf_lark import translate_gbnf
from server.text.grammar_calls import CallableTool, CallWriter
from server.text.grammar_lark import Lark, choice, quote, sequence
from server.text.schema import ANY_OBJECT, relax, relax_arguments
from server.text.schema_fallback import Check, settle
from server.text.schema_pattern import UnsupportedPattern, translate_whole

MAX_OPTIONS = 2_000
"""Texts in a choice."""

MAX_GRAMMAR_CHARS = 256 * 1024
"""Length of a client's own grammar."""

MAX_TOOLS = 512
"""Tools in a request."""


@dataclass(frozen=True, slots=True)
class GrammarPlan:
    """A grammar, and when it holds.

    Args:
        grammar: As llguidance reads it.
        lazy: It is entered when a call begins.
        warnings: What of the request it does not enforce.
        param: The request's field that an error in it names.
    """

    grammar: str
    lazy: bool
    warnings: tuple[str, ...] = ()
    param: str | None = None


def write_grammar(
    request: Generate,
    format: ChatFormat | None,  # noqa: A002 - the word for it everywhere
    *,
    thinking: str,
    control: Mapping[str, int],
    ends: frozenset[int] = frozenset(),
    check: Check | None = None,
) -> GrammarPlan | None:
    """Write the grammar of a request; None where nothing is asked for.

    Args:
        request: What the client wants.
        format: The model's; None for plain text.
        thinking: "open" where the prompt ends inside a thought, "optional"
            where the model may begin with one, else "none".
        control: Texts of control tokens and their ids.
        ends: Tokens that end generation. A mark at the very end that is one of
            them is left to the model's ending.
        check: Tells why a grammar does not compile, None where it does; asked
            for each schema alone. Without it nobody asks.

    Raises:
        InvalidRequest: The request asks for what cannot be; `param` names it.
    """
    control = {text: token for text, token in control.items() if text}
    tools, choice_made = _list_tools(request)
    wants_calls = bool(tools) and choice_made.mode != "none"
    if format is None or not wants_calls:
        if request.constraint is None:
            return None
        writer = _PlanWriter(format, thinking, control, ends, check, loose=False)
        return writer.write(request.constraint, (), choice_made)
    lazy = request.constraint is None and choice_made.mode == "auto"
    writer = _PlanWriter(format, thinking, control, ends, check, loose=lazy)
    return writer.write(request.constraint, tools, choice_made)


def _list_tools(
    request: Generate,
) -> tuple[tuple[tuple[int, Tool], ...], ToolChoice]:
    """List the tools that may be called, with their places in the request."""
    prompt = request.prompt
    if not isinstance(prompt, ChatPrompt):
        return (), ToolChoice(mode="none")
    made = prompt.tool_choice
    if len(prompt.tools) > MAX_TOOLS:
        raise InvalidRequest(
            f"The request has {len(prompt.tools)} tools, but at most {MAX_TOOLS} are "
            "allowed. Send fewer.",
            param="tools",
        )
    known = {tool.name for tool in prompt.tools}
    for name in made.names or ():
        if name not in known:
            raise InvalidRequest(
                f"The tool choice names '{name}', which is none of the tools. "
                "Name one that is.",
                param="tool_choice",
            )
    allowed = tuple(
        (number, tool)
        for number, tool in enumerate(prompt.tools)
        if made.names is None or tool.name in made.names
    )
    return allowed, made


class _PlanWriter:
    """Writes one plan."""

    def __init__(
        self,
        chat: ChatFormat | None,
        thinking: str,
        control: Mapping[str, int],
        ends: frozenset[int],
        check: Check | None,
        *,
        loose: bool,
    ) -> None:
        self._chat = chat
        self._thinking = thinking
        self._control = control
        self._ends = ends
        self._check = check
        self._lark = Lark(control, loose=loose)
        self._warnings: list[str] = []

    def write(
        self,
        constraint: Constraint | None,
        tools: tuple[tuple[int, Tool], ...],
        made: ToolChoice,
    ) -> GrammarPlan:
        """Write the plan."""
        lazy = self._lark.loose
        bodies = []
        param = "tools" if tools else None
        if tools and self._chat is not None:
            bodies.append(self._write_calls(self._chat, tools, made, lazy=lazy))
        if constraint is not None and not (tools and made.mode == "required"):
            param = param or _param_of(constraint)
            bodies.append(self._write_answer(constraint))
        body = choice(bodies)
        start = body if lazy else sequence(self._write_thought(), body)
        return GrammarPlan(self._lark.write(start), lazy, tuple(self._warnings), param)

    def _write_calls(
        self,
        chat: ChatFormat,
        tools: tuple[tuple[int, Tool], ...],
        made: ToolChoice,
        *,
        lazy: bool,
    ) -> str:
        callables = tuple(self._make_callable(number, tool) for number, tool in tools)
        syntax = chat.calls
        for mark in (syntax.section_end, syntax.call_end):
            if mark and self._control.get(mark.strip()) in self._ends:
                syntax = _without_end(syntax, mark)
        writer = CallWriter(self._lark, syntax)
        body = writer.write_section(
            callables, parallel=made.parallel, only_one=lazy or not made.parallel
        )
        self._warnings += writer.warnings
        if chat.channels and not lazy:
            preamble = self._write_message("commentary")
            return sequence(f"({preamble})?", body)
        return body

    def _make_callable(self, number: int, tool: Tool) -> CallableTool:
        """Rewrite a tool's schema; a bad one alone becomes any object."""
        param = f"tools[{number}].function.parameters"
        try:
            relaxed = relax_arguments(tool.parameters, strict=tool.strict, param=param)
            schema, warnings = settle(
                relaxed, self._check, strict=tool.strict, param=param
            )
        except InvalidRequest as error:
            if tool.strict:
                raise
            schema, warnings = (
                ANY_OBJECT,
                (f"Its arguments may be any object. {error.message}",),
            )
        self._warnings += [f"Tool '{tool.name}': {warning}" for warning in warnings]
        plain = schema if isinstance(schema, dict) else ANY_OBJECT
        return CallableTool(tool.name, plain, tool.strict, param)

    def _write_answer(self, constraint: Constraint) -> str:
        body = self._lark.add_rule("answer", self._write_constraint(constraint))
        chat = self._chat
        if chat is None or not chat.answer_begin:
            return body
        end = "" if self._is_end(chat.answer_end) else self._lark.mark(chat.answer_end)
        marked = sequence(self._lark.mark(chat.answer_begin), body, end)
        is_control = any(text in chat.answer_begin for text in self._control)
        # A mark that is plain text may be left out.
        return marked if is_control else f"({marked} | {body})"

    def _write_constraint(self, constraint: Constraint) -> str:
        match constraint:
            case JsonSchema():
                return self._write_schema(constraint)
            case Regex():
                return self._write_regex(constraint)
            case OneOf():
                return self._write_options(constraint)
            case Grammar():
                text = _read_grammar(constraint, self._control)
                return self._lark.add_grammar(text)
            case _:
                assert_never(constraint)

    def _write_schema(self, constraint: JsonSchema) -> str:
        param = "response_format"
        relaxed = relax(constraint.schema, strict=constraint.strict, param=param)
        schema, warnings = settle(
            relaxed, self._check, strict=constraint.strict, param=param
        )
        self._warnings += warnings
        return self._lark.json(schema)

    def _write_regex(self, constraint: Regex) -> str:
        try:
            parts = translate_whole(constraint.pattern)
        except UnsupportedPattern as error:
            raise InvalidRequest(
                f"The regular expression cannot be enforced: {error}. Change it.",
                param="regex",
            ) from error
        return self._lark.add_terminal("regex", " & ".join(f"/{p}/" for p in parts))

    def _write_options(self, constraint: OneOf) -> str:
        options = list(dict.fromkeys(constraint.options))
        if not 1 <= len(options) <= MAX_OPTIONS:
            raise InvalidRequest(
                f"The choice has {len(options)} texts; it needs at least 1 and at most "
                f"{MAX_OPTIONS}.",
                param="choice",
            )
        # One lexeme, since an option may be the beginning of another.
        return self._lark.add_terminal("choice", " | ".join(map(quote, options)))

    def _write_thought(self) -> str:
        chat = self._chat
        if chat is None or chat.reasoning is None or self._thinking == "none":
            return ""
        rest = self._lark.text_until(chat.reasoning.end)
        if self._thinking == "open":
            return rest
        begin = self._lark.mark(chat.reasoning.begin)
        return f"({sequence(begin, rest)})?"

    def _write_message(self, channel: str) -> str:
        """Stand for a message on one of harmony's channels before another one."""
        begin = self._lark.mark(f"<|channel|>{channel}<|message|>")
        rest = self._lark.text_until("<|end|><|start|>assistant")
        return sequence(begin, rest)

    def _is_end(self, mark: str) -> bool:
        return bool(mark) and self._control.get(mark.strip()) in self._ends


def _without_end(syntax: CallSyntax, mark: str) -> CallSyntax:
    name = "section_end" if syntax.section_end == mark else "call_end"
    return replace(syntax, **{name: ""})


def _param_of(constraint: Constraint) -> str:
    match constraint:
        case JsonSchema():
            return "response_format"
        case Regex():
            return "regex"
        case OneOf():
            return "choice"
        case Grammar():
            return "grammar"
        case _:
            assert_never(constraint)


def _read_grammar(constraint: Grammar, control: Mapping[str, int]) -> str:
    if len(constraint.text) > MAX_GRAMMAR_CHARS:
        raise InvalidRequest(
            f"The grammar has {len(constraint.text)} characters, but at most "
            f"{MAX_GRAMMAR_CHARS} are allowed. Make it smaller.",
            param="grammar",
        )
    if constraint.syntax == "lark":
        return constraint.text
    return translate_gbnf(constraint.text, control)

"""How a model writes what is not plain answer: thoughts and tool calls.

A `ChatFormat` is found once for each model (`server.text.analysis`) and read by
three: the parser of what was generated, the grammar of calls that are
demanded, and the loop, which waits for triggers. It is pure data.

Marks hold the exact text of the template, with its white space: a grammar
writes them so. A parser ignores white space at the edges of a mark, since
models are less exact than templates.

    section_begin  call  (separator call)*  section_end

and a call is, by `arguments`:

    JSON_CALL    call_begin {"name": NAME, "arguments": {…}} call_end
    JSON         call_begin NAME name_end {…} call_end
    TAGGED       call_begin NAME name_end
                 (key_begin KEY key_end VALUE value_end)*  call_end
    QUOTED       call_begin NAME name_end {KEY:VALUE,…} call_end, text values
                 between two `quote` marks and keys bare
    PYTHON       call_begin NAME(KEY=VALUE, …) call_end
"""

from enum import StrEnum

from msgspec import Struct


class ArgumentStyle(StrEnum):
    """What stands between the marks of a call."""

    JSON_CALL = "json_call"
    JSON = "json"
    TAGGED = "tagged"
    QUOTED = "quoted"
    PYTHON = "python"


class CallSyntax(Struct, frozen=True, omit_defaults=True):
    """How calls are written; see the head of the file.

    Args:
        arguments: The style.
        section_begin: Stands once before the first call; "" for nothing.
        section_end: Stands once after the last call.
        separator: Stands between two calls.
        call_begin: Stands before each call.
        call_end: Stands after each call.
        is_array: JSON_CALL and PYTHON: the calls are the items of one list,
            with brackets and commas of its own; also for a single call.
        name_key: JSON_CALL: the key of the name; "" where the name itself is
            the key and the arguments are its value.
        arguments_key: JSON_CALL: the key of the arguments.
        id_key: JSON_CALL: the key of the call's id; "" where there is none.
        is_id_first: JSON_CALL: the id stands before the name, not at the end.
        wrapper_key: JSON_CALL: the key inside of which name and arguments
            stand ("function"); "" where they stand at the top.
        name_end: Stands between the name and the arguments, or the id.
        id_end: Styles with marks: stands after an id that follows `name_end`;
            "" where no id is written.
        id_holds_name: The name is written as an id, "functions.NAME:INDEX".
        key_begin, key_end, value_end: TAGGED: around each argument.
        quote: QUOTED: the mark on both sides of a text.
        is_parallel: Whether the template can write several calls in a turn.
        args_as_text: JSON_CALL: arguments are a JSON text inside a string.
    """

    arguments: ArgumentStyle
    section_begin: str = ""
    section_end: str = ""
    separator: str = ""
    call_begin: str = ""
    call_end: str = ""
    is_array: bool = False
    name_key: str = "name"
    arguments_key: str = "arguments"
    id_key: str = ""
    wrapper_key: str = ""
    name_end: str = ""
    id_end: str = ""
    id_holds_name: bool = False
    key_begin: str = ""
    key_end: str = ""
    value_end: str = ""
    quote: str = ""
    is_parallel: bool = True
    args_as_text: bool = False
    is_id_first: bool = False

    @property
    def trigger(self) -> str:
        """The text that says that a call begins, without outer white space.

        "" where a call begins without any mark: then an answer is one if its
        first character is the bracket of a JSON_CALL.
        """
        return (self.section_begin.strip() or self.call_begin.strip()).strip()


class ReasoningSyntax(Struct, frozen=True, omit_defaults=True):
    """How a thought is written: between two marks before the answer.

    `can_disable` tells whether `enable_thinking` (or the template's own word
    in `switch`) changes the prompt; `switch` "" where there is none.
    """

    begin: str
    end: str
    can_disable: bool = False
    switch: str = ""


class ChatFormat(Struct, frozen=True, omit_defaults=True):
    """The format of one model.

    Args:
        reasoning: None where the template knows no thoughts.
        calls: How calls are written; always set, since a model whose template
            knows no tools is told a format by `server.text.fallback`.
        answer_begin, answer_end: Marks around the plain answer; mostly "".
        channels: OpenAI's harmony: thoughts, answer and calls are messages on
            channels, and `reasoning` and `calls` only describe it.
        turn_begins: How the model's own turn begins, after a question and after
            a result: what the prompt ends with, but for a thought it opens.
        source: "analysis", "override NAME" or "fallback".
    """

    reasoning: ReasoningSyntax | None
    calls: CallSyntax
    answer_begin: str = ""
    answer_end: str = ""
    channels: bool = False
    turn_begins: tuple[str, ...] = ()
    source: str = "analysis"

    @property
    def knows_tools(self) -> bool:
        """Whether the template itself can show tools and calls."""
        return self.source != "fallback"

"""Messages on channels: OpenAI's harmony, as gpt-oss writes it.

    <|channel|>analysis<|message|>THOUGHT<|end|>
    <|start|>assistant<|channel|>commentary<|message|>ANSWER<|end|>
    <|start|>assistant<|channel|>commentary to=functions.NAME
        <|constrain|>json<|message|>{…}<|call|>
    <|start|>assistant<|channel|>final<|message|>ANSWER<|return|>

The prompt ends with `<|start|>assistant`, so an output begins inside a header.
What a message is, its header says: with a recipient that is a function, a
call; on the channel analysis a thought; else answer. The recipient may stand
before or after the channel. A message ends with any of its three end marks, or
where the next begins. An output that does not begin like a header is answer; a
header that never gets to its message is dropped, and so are end marks.

Arguments are the object at the start of a call's body. A body that is none is
answer, a body without text an object without members.

Source: https://cookbook.openai.com/articles/openai-harmony
"""

import re
from collections.abc import Callable
from enum import Enum, auto

from server.core.requests import Tool
from server.text.format import ChatFormat
from server.text.json_stream import copy_brackets
from server.text.parser_calls import CallSink, draw_id
from server.text.parser_cursor import Cursor, Steps
from server.text.parser_events import Answer, ParserEvent, Thought, ThoughtBegan
from server.text.parser_marks import SPACE, MarkScanner

_START = "<|start|>"
_CHANNEL = "<|channel|>"
_CONSTRAIN = "<|constrain|>"
_MESSAGE = "<|message|>"
_ENDS = ("<|end|>", "<|call|>", "<|return|>")
_MAX_HEADER_CHARACTERS = 512
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")
_NAME_OF_CHANNEL = re.compile(r"<\|channel\|>\s*(\w*)")


class _Body(Enum):
    """What the text that comes now is."""

    HEADER = auto()
    ANSWER = auto()
    THOUGHT = auto()
    CALL = auto()
    ARGUMENTS = auto()
    AFTER_CALL = auto()


class ChannelParser:
    """Reads one continuation of a chat in harmony's format.

    Args:
        syntax: Its `calls` tell the text in which a call is constrained.
        tools: The tools the model may call; none makes no calls.
        inside_thought: The prompt ends in an open message of analysis.
        draw: Makes ids for calls.
    """

    def __init__(
        self,
        syntax: ChatFormat,
        tools: tuple[Tool, ...],
        *,
        inside_thought: bool = False,
        draw: Callable[[], str] = draw_id,
    ) -> None:
        self._cursor = Cursor()
        self._sink = CallSink(self._cursor, tools, draw, self._on_begin)
        self._calls = syntax.calls
        self._scanner = MarkScanner((_START, _CHANNEL, _CONSTRAIN, _MESSAGE, *_ENDS))
        self._body = _Body.THOUGHT if inside_thought else _Body.HEADER
        self._header = ""
        self._is_first = not inside_thought
        self._name = ""
        self._steps: Steps[bool] | None = None
        self._events: list[ParserEvent] = []
        self._n_read = 0
        self._space = ""
        self._certain: tuple[str, int] | None = None
        self.call_text: str | None = None

    @property
    def is_thinking(self) -> bool:
        """Whether a thought is open."""
        return self._body is _Body.THOUGHT

    def feed(self, text: str) -> list[ParserEvent]:
        """Take more text and return what is certain now."""
        self.call_text = None
        at = 0
        while at < len(text):
            shown, mark, end = self._scanner.scan(text, at)
            self._n_read += end - at
            rest = len(mark or self._scanner.held)
            if shown:
                self._take_text(self._n_read - rest - len(shown), shown)
            if mark:
                self._meet(mark)
            at = end
        if self._certain is not None:
            n_more = self._n_read - self._certain[1]
            self.call_text = self._certain[0] + text[len(text) - n_more :]
            self._certain = None
        return self._take()

    def finish(self) -> list[ParserEvent]:
        """Return the rest, when no text follows."""
        self.call_text = None
        if self._body is _Body.HEADER:
            self._header += self._scanner.held
            self._scanner.reset()
            if self._is_first and self._header.strip():
                self._give_header()
        else:
            held = self._scanner.held
            if held and self._body in (_Body.ANSWER, _Body.THOUGHT):
                self._take_text(self._n_read - len(held), held)
            self._close()
        return self._take()

    def _take(self) -> list[ParserEvent]:
        self._collect()
        events, self._events = self._events, []
        return events

    def _collect(self) -> None:
        self._events += self._sink.take()

    def _on_begin(self) -> None:
        """Nothing is held back here: a call is certain before it begins."""

    def _meet(self, mark: str) -> None:
        if self._body is _Body.HEADER:
            self._meet_in_header(mark)
        elif mark in _ENDS:
            self._close()
        elif mark in (_START, _CHANNEL):
            self._close()
            self._header = mark
        else:
            self._take_text(self._n_read - len(mark), mark)

    def _meet_in_header(self, mark: str) -> None:
        if mark == _MESSAGE:
            self._open()
        elif mark == _START or mark in _ENDS:
            self._header = ""
            self._is_first = False
        else:
            self._header += mark

    def _open(self) -> None:
        """Begin the message that the header announces."""
        header, self._header = self._header, ""
        self._is_first = False
        found = _RECIPIENT.search(header)
        recipient = found[1] if found else ""
        channel = _NAME_OF_CHANNEL.search(header)
        name = recipient.removeprefix("functions.")
        is_function = name != recipient or name in self._sink.names
        if self._sink.names and name and is_function:
            self._body = _Body.CALL
            self._name = name
            calls = self._calls
            begin = (calls.section_begin + calls.call_begin).lstrip()
            self._certain = (begin + name + calls.name_end, self._n_read)
        elif channel and channel[1] == "analysis":
            self._body = _Body.THOUGHT
            self._events.append(ThoughtBegan())
        else:
            self._body = _Body.ANSWER

    def _close(self) -> None:
        """End the message that is open."""
        if self._body is _Body.CALL:
            self._sink.begin(self._name)
            self._sink.write("{}")
            self._sink.finish()
        elif self._body is _Body.ARGUMENTS:
            self._sink.finish()
        self._collect()
        self._steps = None
        self._space = ""
        self._body = _Body.HEADER

    def _take_text(self, begin: int, text: str) -> None:
        if self._body is _Body.HEADER:
            self._take_header(text)
        elif self._body is _Body.THOUGHT:
            self._events.append(Thought(begin, text))
        elif self._body is _Body.ANSWER:
            self._events.append(Answer(begin, text))
        else:
            self._take_body(begin, text)

    def _take_header(self, text: str) -> None:
        self._header += text
        is_strange = self._is_first and not _begins_header(self._header)
        if is_strange or len(self._header) > _MAX_HEADER_CHARACTERS:
            self._give_header()

    def _give_header(self) -> None:
        """Report as answer what is no header."""
        header, self._header = self._header, ""
        begin = self._n_read - len(self._scanner.held) - len(header)
        self._body = _Body.ANSWER
        self._is_first = False
        self._events.append(Answer(begin, header))

    def _take_body(self, begin: int, text: str) -> None:
        """Read the body of a call: white space, an object, and what follows."""
        for index, character in enumerate(text):
            if self._body is _Body.ARGUMENTS and self._steps is not None:
                if self._cursor.advance(self._steps, character):
                    self._sink.finish()
                    self._steps = None
                    self._body = _Body.AFTER_CALL
            elif character in SPACE:
                self._space += character
            elif self._body is _Body.CALL and character == "{":
                self._begin_arguments()
            else:
                self._collect()
                space, self._space = self._space, ""
                self._body = _Body.ANSWER
                rest = Answer(begin + index - len(space), space + text[index:])
                self._events.append(rest)
                return

    def _begin_arguments(self) -> None:
        self._space = ""
        self._sink.begin(self._name)
        self._cursor.character = "{"
        self._steps = copy_brackets(self._cursor, self._sink.write)
        next(self._steps)
        self._body = _Body.ARGUMENTS


def _begins_header(text: str) -> bool:
    """Tell whether text can be the beginning of a header after its role."""
    text = text.lstrip()
    return any(
        text.startswith(word) or word.startswith(text)
        for word in ("to=", _START, _CHANNEL, _CONSTRAIN, "assistant")
    )

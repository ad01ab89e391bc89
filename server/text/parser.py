"""From the characters a model writes to answer, thoughts and calls.

Parts. A `Parser` is always in one of three states: in the answer, in a thought
or in a section of calls. Answer and thoughts are scanned for marks; a section
is read by a grammar (`parser_section`), which is a generator over characters.
Formats with channels have a parser of their own (`parser_channels`).

Rules.

* What is reported depends on the text alone and never on how it was cut.
* White space at the edges of a mark is nobody's: it is dropped at both ends of
  a thought, after a thought, before a call, and around calls where nothing but
  white space stands there. An answer that no mark came before keeps the white
  space it begins with.
* A thought begins with its mark: at the start, and later on a line of its own
  or where the mark is a control token ("|" in it), since a sentence may speak
  of "<think>". Where the prompt left a thought open, a mark that opens it again
  is dropped. An end mark without a thought, the first of the output, is dropped
  with the white space after it; what came before was reported as the answer and
  stays it. A thought that never ends stays a thought. Calls are not looked for
  in thoughts.
* A call begins with its mark anywhere in the answer; in a format without marks
  with a bracket at the start of the answer or right after another call.
* What looks like a call and is none is answer, as it was written, unless a part
  of it was reported. After that a call ends with what came of its arguments,
  and the rest is answer.
* The end of the output completes a call if only marks are missing; otherwise
  its arguments end where the output does, and are not made to look whole.

Conflicts. The answer yields to marks, and a mark that is complete first wins.
Between a thought and a call the state decides.
"""

from collections.abc import Callable
from enum import Enum, auto

from server.core.requests import Tool
from server.text.format import ArgumentStyle, ChatFormat
from server.text.parser_calls import CallSink, draw_id
from server.text.parser_cursor import (
    MAX_HELD_CHARACTERS,
    Cursor,
    NoCall,
    Steps,
)
from server.text.parser_events import Answer, ParserEvent, Thought, ThoughtBegan
from server.text.parser_marks import SPACE, MarkScanner
from server.text.parser_section import SectionGrammar

MAX_HELD_SPACE = 1024
"""More white space than this is not held back."""


_CONTROL = frozenset("|\uff5c")


class _Edge(Enum):
    """What white space follows."""

    START = auto()
    THOUGHT = auto()
    CALL = auto()
    TEXT = auto()


class Parser:
    """Reads one continuation of a chat.

    Args:
        syntax: The model's format, without channels.
        tools: The tools the model may call; none looks for no calls.
        inside_thought: The prompt ends in an open thought.
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
        self._grammar = SectionGrammar(
            self._cursor, self._sink, syntax.calls, self._on_certain
        )
        self._steps: Steps[None] | None = None
        reasoning = syntax.reasoning
        self._think_begin = reasoning.begin.strip() if reasoning else ""
        self._think_end = reasoning.end.strip() if reasoning else ""
        self._answer_begin = syntax.answer_begin.strip()
        self._answer_end = syntax.answer_end.strip()
        self._section, self._call = self._grammar.triggers if tools else ("", "")
        self._section_mark = syntax.calls.section_begin.lstrip()
        self._brackets = ""
        if tools and self._grammar.is_bare:
            is_python = syntax.calls.arguments is ArgumentStyle.PYTHON
            self._brackets = "[" if is_python else "{["
        thought_marks = (self._think_begin, self._think_end)
        self._thought_scanner = MarkScanner(thought_marks)
        answer_marks = (self._answer_begin, self._answer_end)
        marks = (*thought_marks, *answer_marks, self._section, self._call)
        self._answer_scanner = MarkScanner(marks)
        self._events: list[ParserEvent] = []
        self._n_read = 0
        # What the white space that comes now follows; TEXT gives it through.
        self._edge = _Edge.START if any(marks) or self._brackets else _Edge.TEXT
        self._space: list[str] = []
        self._n_space = 0
        self._line_is_blank = True
        self._has_thought = inside_thought
        self._has_thought_text = False
        self._in_section = False
        self._missing_mark = ""
        self._n_calls_before = 0
        self._certain: tuple[str, int] | None = None
        self._again = ""
        self.is_thinking = inside_thought
        self.call_text: str | None = None
        """Set by a `feed` in which it became certain that a section begins."""

    def feed(self, text: str) -> list[ParserEvent]:
        """Take more text and return what is certain now."""
        self.call_text = None
        whole, waiting = text, [(text, 0)]
        while waiting:
            text, at = waiting.pop()
            while at < len(text):
                at = self._step(text, at)
                if self._again:
                    waiting.append((text, at))
                    text, at, self._again = self._again, 0, ""
        if self._certain is not None:
            n_more = self._n_read - self._certain[1]
            self.call_text = self._certain[0] + whole[len(whole) - n_more :]
            self._certain = None
        return self._take()

    def finish(self) -> list[ParserEvent]:
        """Return the rest, when no text follows."""
        self.call_text = None
        if self._steps is not None:
            self._finish_call()
        elif self.is_thinking:
            held = self._thought_scanner.held
            self._think(self._n_read - len(held), held)
        elif self._answer_scanner.held:
            held = self._answer_scanner.held
            self._answer(self._n_read - len(held), held)
        if self._edge is _Edge.START and not self.is_thinking:
            self._answer(self._n_read, "")
        return self._take()

    def _take(self) -> list[ParserEvent]:
        self._collect()
        events, self._events = self._events, []
        return events

    def _collect(self) -> None:
        self._events += self._sink.take()

    def _step(self, text: str, at: int) -> int:
        """Read on from an index; return the index after what was read."""
        if self._steps is not None:
            return self._step_call(self._steps, text, at)
        if self.is_thinking:
            return self._step_thought(text, at)
        return self._step_answer(text, at)

    # The answer

    def _step_answer(self, text: str, at: int) -> int:
        if self._edge is not _Edge.TEXT and not self._answer_scanner.held:
            end = skip_space(text, at)
            if end > at:
                self._n_read += end - at
                self._keep_space(text[at:end])
                return end
            if text[at] in self._brackets:
                self._start_call("")
                return at
        shown, mark, end = self._answer_scanner.scan(text, at)
        self._n_read += end - at
        rest = len(mark or self._answer_scanner.held)
        begin = self._n_read - rest - len(shown)
        if shown:
            self._answer(begin, shown)
        if mark:
            self._meet(mark)
        return end

    def _keep_space(self, space: str) -> None:
        """Hold white space at an edge; after a thought nobody wants it."""
        if self._edge is _Edge.THOUGHT:
            return
        self._space.append(space)
        self._n_space += len(space)
        if self._n_space > MAX_HELD_SPACE:
            self._answer(self._n_read, "")

    def _drop_space(self) -> None:
        self._space.clear()
        self._n_space = 0

    def _answer(self, begin: int, text: str) -> None:
        """Report answer, with the white space held before it."""
        if self._edge is not _Edge.TEXT:
            begin -= self._n_space
            text = "".join(self._space) + text
            self._drop_space()
            self._edge = _Edge.TEXT
            self._in_section = False
        if not text:
            return
        self._events.append(Answer(begin, text))
        _, line_break, line = text.rpartition("\n")
        is_blank = not line.strip()
        self._line_is_blank = is_blank and (bool(line_break) or self._line_is_blank)

    def _meet(self, mark: str) -> None:
        """Do what a mark in the answer asks for."""
        if mark == self._think_begin and self._may_begin_thought():
            self._open_thought()
        elif mark == self._think_end and not self._has_thought:
            self._close_thought()
        elif mark == self._answer_begin:
            self._drop_space()
            self._edge = _Edge.TEXT
        elif mark == self._answer_end:
            self._drop_space()
            self._edge = _Edge.CALL
        elif mark in (self._section, self._call):
            self._start_call(mark)
        else:
            self._answer(self._n_read - len(mark), mark)

    def _may_begin_thought(self) -> bool:
        is_control = not _CONTROL.isdisjoint(self._think_begin)
        return is_control or self._edge is not _Edge.TEXT or self._line_is_blank

    # Thoughts

    def _open_thought(self) -> None:
        self._drop_space()
        self._events.append(ThoughtBegan())
        self.is_thinking = True
        self._has_thought = True
        self._has_thought_text = False
        self._in_section = False

    def _close_thought(self) -> None:
        self._drop_space()
        self.is_thinking = False
        self._has_thought = True
        self._edge = _Edge.THOUGHT
        self._line_is_blank = True

    def _step_thought(self, text: str, at: int) -> int:
        scanner = self._thought_scanner
        if not self._has_thought_text and not scanner.held:
            end = skip_space(text, at)
            if end > at:
                self._n_read += end - at
                return end
        shown, mark, end = scanner.scan(text, at)
        self._n_read += end - at
        begin = self._n_read - len(mark or scanner.held) - len(shown)
        if shown:
            self._think(begin, shown)
        if mark == self._think_end and mark:
            self._close_thought()
        elif mark and self._has_thought_text:
            self._think(self._n_read - len(mark), mark)
        return end

    def _think(self, begin: int, text: str) -> None:
        """Report a thought, but for the white space at its end."""
        body = text.rstrip(SPACE)
        if body:
            space = "".join(self._space)
            self._events.append(Thought(begin - self._n_space, space + body))
            self._has_thought_text = True
            self._drop_space()
        if len(body) < len(text):
            self._space.append(text[len(body) :])
            self._n_space += len(text) - len(body)
        if self._n_space > MAX_HELD_SPACE:
            begin += len(text) - self._n_space
            self._events.append(Thought(begin, "".join(self._space)))
            self._drop_space()

    # Calls

    def _start_call(self, trigger: str) -> None:
        self._cursor.hold()
        self._cursor.held.extend(trigger)
        self._n_calls_before = self._sink.count
        is_late = trigger and trigger != self._section and not self._in_section
        self._missing_mark = self._section_mark if is_late else ""
        steps = self._grammar.read(trigger, is_known_section=self._in_section)
        next(steps)
        self._steps = steps

    def _on_certain(self) -> None:
        """Remember the text of a section, once, and where in it we are."""
        if not self._in_section:
            self._in_section = True
            text = self._missing_mark + "".join(self._cursor.held)
            self._certain = (text, self._n_read)

    def _on_begin(self) -> None:
        self._on_certain()
        self._drop_space()
        self._edge = _Edge.CALL

    def _step_call(self, steps: Steps[None], text: str, at: int) -> int:
        cursor = self._cursor
        for index in range(at, len(text)):
            self._n_read += 1
            try:
                is_over = cursor.advance(steps, text[index])
            except NoCall as error:
                self._give_back(error.retry)
                return index + 1
            if is_over:
                self._end_section()
                return index + 1
            if len(cursor.held) > MAX_HELD_CHARACTERS:
                self._give_back(0)
                return index + 1
        return len(text)

    def _end_section(self) -> None:
        if self._sink.count == self._n_calls_before:
            self._give_back(0)
            return
        self._again = "".join(self._cursor.returned)
        self._n_read -= len(self._again)
        if self._grammar.has_ended:
            self._in_section = False
        self._leave_section()

    def _leave_section(self) -> None:
        self._collect()
        self._cursor.returned.clear()
        self._cursor.hold()
        self._steps = None

    def _give_back(self, retry: int) -> None:
        """Make answer of what is held, and read its last characters again."""
        cursor = self._cursor
        rest = "".join(cursor.returned)
        if cursor.is_holding:
            text = "".join(cursor.held)
        else:
            text = cursor.character + rest if retry else rest
        n_given = max(len(text) - retry - len(rest), 0)
        self._again = text[n_given:]
        if self._sink.is_open:
            self._sink.cut()
        begin = self._n_read - len(text)
        self._n_read -= len(self._again)
        self._leave_section()
        self._give(begin, text[:n_given])

    def _give(self, begin: int, text: str) -> None:
        """Report text as answer; white space after a call is held again."""
        if self._edge is _Edge.CALL:
            at = skip_space(text, 0)
            self._keep_space(text[:at])
            begin, text = begin + at, text[at:]
        if text:
            self._answer(begin, text)

    def _finish_call(self) -> None:
        if self._sink.is_open:
            self._sink.cut()
            self._leave_section()
            return
        text = "".join(self._cursor.held)
        is_mark = self._grammar.is_end_begun(text)
        self._leave_section()
        if self._sink.count == self._n_calls_before or not is_mark:
            self._give(self._n_read - len(text), text)


def skip_space(text: str, at: int) -> int:
    """Return the index of the first character from `at` that is no space."""
    while at < len(text) and text[at] in SPACE:
        at += 1
    return at

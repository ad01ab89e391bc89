"""A section of calls: marks, names, and what the style puts between them.

    section_begin  call  (separator call)*  section_end

`SectionGrammar.read` begins after the first word of the first mark, which the
parser found, and ends with the last character that belongs to calls. Models
are less exact than templates, so this much is let pass: white space between
the words of a mark; a missing `section_begin` where the call names one of the
tools; a missing separator; a stray closing brace before `call_end`; a list
where one call is usual, and the other way round.
"""

from collections.abc import Callable

from server.text.format import ArgumentStyle, CallSyntax
from server.text.parser_calls import (
    MAX_ID_CHARACTERS,
    MAX_NAME_CHARACTERS,
    CallSink,
    split_id,
)
from server.text.parser_cursor import Cursor, NoCall, Steps
from server.text.parser_json import JsonGrammar
from server.text.parser_literals import LiteralGrammar
from server.text.parser_marks import SPACE, split_words
from server.text.parser_tagged import TaggedGrammar


class SectionGrammar:
    """Reads the calls of one section.

    Args:
        cursor: Where to read.
        sink: What is told of calls.
        syntax: How calls are written.
        on_certain: Is told when the first mark is complete, where that makes
            it certain that a call begins.
    """

    def __init__(
        self,
        cursor: Cursor,
        sink: CallSink,
        syntax: CallSyntax,
        on_certain: Callable[[], None],
    ) -> None:
        self._cursor = cursor
        self._sink = sink
        self._syntax = syntax
        self._on_certain = on_certain
        self._section_begin = split_words(syntax.section_begin)
        self._call_begin = split_words(syntax.call_begin)
        self._call_end = split_words(syntax.call_end)
        self._section_end = split_words(syntax.section_end)
        self._separator = split_words(syntax.separator)
        self.is_bare = not (self._section_begin or self._call_begin)
        self._json = JsonGrammar(cursor, sink, syntax, is_bare=self.is_bare)
        self._literals = LiteralGrammar(cursor, sink, syntax)
        self._tagged = TaggedGrammar(cursor, sink, syntax)
        self._name_ends = self._list_name_ends()
        self._must_know = self.is_bare
        self.has_ended = False
        """Whether the end mark of the last section was read."""

    @property
    def triggers(self) -> tuple[str, str]:
        """First words of the marks of a section and of a call, perhaps ""."""
        section = self._section_begin[0] if self._section_begin else ""
        call = self._call_begin[0] if self._call_begin else ""
        return section, call

    def _list_name_ends(self) -> tuple[str, ...]:
        """Return what may follow a name."""
        syntax = self._syntax
        words = split_words(syntax.name_end)[:1] + split_words(syntax.id_end)[:1]
        if split_words(syntax.name_end):
            return words
        if syntax.arguments is ArgumentStyle.PYTHON:
            return ("(",)
        ends = words + self._call_end[:1] + self._section_end[:1]
        if syntax.arguments is ArgumentStyle.TAGGED:
            ends += split_words(syntax.key_begin)[:1]
        else:
            ends += ("{",)
        return ends + tuple("\r\n" if syntax.name_end else "")

    def read(self, trigger: str, *, is_known_section: bool) -> Steps[None]:
        """Read a section up to its end.

        Args:
            trigger: The word that was found; "" where there are no marks.
            is_known_section: A call came before, in the same section.

        Raises:
            NoCall: What follows the last call, or the trigger, is something
                else.
        """
        section, call = self.triggers
        self.has_ended = False
        self._must_know = self.is_bare
        if trigger and trigger == section:
            yield from self._cursor.read_words(self._section_begin[1:])
            self._on_certain()
            yield from self._read_call_begin()
        elif trigger and trigger == call:
            self._must_know = bool(section) and not is_known_section
            yield from self._cursor.read_words(self._call_begin[1:])
            if not self._must_know:
                self._on_certain()
        self._json.must_know_name = self._must_know
        yield from self._read_call()
        while not (yield from self._read_end()):
            yield from self._read_call()
        self.has_ended = bool(self._section_end)

    def _read_call_begin(self) -> Steps[None]:
        """Read the mark of a call; a list may stand without it."""
        if not self._call_begin:
            return
        if self._syntax.is_array:
            opening = yield from self._cursor.read_visible()
            self._cursor.unread(opening)
            if opening in "[{":
                return
        yield from self._cursor.read_words(self._call_begin)

    def _read_call(self) -> Steps[None]:
        """Read what stands between the marks of a call, and let it go."""
        n_before = self._sink.count
        yield from self._read_body()
        if self._sink.count > n_before:
            self._cursor.hold()

    def _read_body(self) -> Steps[None]:
        style = self._syntax.arguments
        if style is ArgumentStyle.JSON_CALL:
            yield from self._json.read_calls()
        elif style is ArgumentStyle.PYTHON:
            yield from self._read_python()
        else:
            name, call_id = yield from self._read_name()
            if style is ArgumentStyle.JSON:
                yield from self._json.read_named_arguments(name, call_id)
            elif style is ArgumentStyle.TAGGED:
                yield from self._tagged.read_arguments(name, call_id)
            else:
                yield from self._literals.read_object(name, call_id)

    def _read_python(self) -> Steps[None]:
        opening = yield from self._cursor.read_visible()
        is_list = opening == "["
        if not is_list:
            self._cursor.unread(opening)
        while True:
            name, _ = yield from self._read_name()
            yield from self._literals.read_keywords(name)
            if not is_list:
                return
            following = yield from self._cursor.read_visible()
            if following == "]":
                return
            if following != ",":
                raise NoCall
            self._cursor.hold()

    def _read_name(self) -> Steps[tuple[str, str]]:
        """Read a name, and an id where one follows it."""
        limit = MAX_NAME_CHARACTERS + MAX_ID_CHARACTERS
        yield from self._cursor.read_visible()
        self._cursor.unread(self._cursor.character)
        allowed = self._sink.names if self._must_know else None
        text, end = yield from self._cursor.read_until(
            self._name_ends, limit=limit, allowed=allowed
        )
        call_id = ""
        if self._syntax.id_holds_name:
            text, call_id = split_id(text.strip())
        name = self._sink.check_name(text, must_be_known=self._must_know)
        name_end, id_end = (
            split_words(self._syntax.name_end),
            split_words(self._syntax.id_end),
        )
        if name_end and end == name_end[0]:
            yield from self._cursor.read_words(name_end[1:])
            if id_end:
                call_id, _ = yield from self._cursor.read_until(id_end[:1], limit=limit)
                end = id_end[0]
        if id_end and end == id_end[0]:
            yield from self._cursor.read_words(id_end[1:])
        elif end not in name_end[:1] and end not in SPACE and end != "(":
            self._cursor.unread(end)
        return name, call_id.strip()

    def _read_end(self) -> Steps[bool]:
        """Read what stands after a call; tell whether no call follows it."""
        if self._call_end:
            yield from self._read_call_end()
        if not self._section_end:
            return True
        options = self._section_end[:1] + self._separator[:1] + self._call_begin[:1]
        is_json_call = self._syntax.arguments is ArgumentStyle.JSON_CALL
        if is_json_call and not self._call_begin:
            options += ("{", "[")
        found = yield from self._cursor.read_one_of(options)
        if found == self._section_end[0]:
            yield from self._cursor.read_words(self._section_end[1:])
            self._cursor.hold()
            return True
        if self._separator and found == self._separator[0]:
            yield from self._cursor.read_words(self._separator[1:])
            yield from self._read_call_begin()
        elif self._call_begin and found == self._call_begin[0]:
            yield from self._cursor.read_words(self._call_begin[1:])
        else:
            self._cursor.unread(found)
        return False

    def is_end_begun(self, text: str) -> bool:
        """Tell whether text after a call is the beginning of a mark."""
        text = "".join(text.split()).lstrip("}],")
        marks = (self._call_end, self._section_end, self._call_end + self._section_end)
        return any("".join(words).startswith(text) for words in marks)

    def _read_call_end(self) -> Steps[None]:
        """Read the end mark of a call, past a closing brace too many."""
        following = yield from self._cursor.read_visible()
        is_stray = following == "}" and not self._call_end[0].startswith("}")
        if not is_stray:
            self._cursor.unread(following)
        for word in self._call_end:
            yield from self._cursor.read_one_of((word,))
            self._cursor.hold()

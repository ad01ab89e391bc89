"""Calls that are JSON objects, and calls with a JSON object after their name.

Members of a call's object may come in any order: arguments that stand before
the name are held until it is known. Where a format has no marks at all, an
object is a call only if it begins with the members of a call in the order of
the format and names one of the tools; so most JSON that a user asked for is
seen to be none at its first key.

An id that follows the arguments comes too late for clients, who are told of
name and id before the arguments; then the id is drawn here.
"""

from msgspec import Struct

from server.text.format import CallSyntax
from server.text.json_stream import (
    Write,
    copy_brackets,
    copy_embedded,
    read_string,
    skip_value,
)
from server.text.parser_calls import MAX_NAME_CHARACTERS, CallSink
from server.text.parser_cursor import Cursor, NoCall, Steps

_NAME_KEYS = ("name",)
_ARGUMENT_KEYS = ("arguments", "parameters")
_WRAPPER_KEYS = ("function",)
_JSON_CHARACTERS = '{}[]",:+-.'


def choose_end_mark(mark: str) -> str:
    """Return what of an end mark ends an object with open brackets, or ""."""
    words = mark.split()
    if not words or words[0][0] in _JSON_CHARACTERS or words[0][0].isalnum():
        return ""
    return words[0]


class _Object(Struct):
    """What is known of the call whose object is being read."""

    name: str = ""
    id: str = ""
    depth: int = 0
    early: list[str] | None = None
    is_done: bool = False


class JsonGrammar:
    """Reads calls whose arguments are JSON.

    Args:
        cursor: Where to read.
        sink: What is told of calls.
        syntax: With style JSON_CALL or JSON.
        is_bare: The format has no marks.
    """

    def __init__(
        self, cursor: Cursor, sink: CallSink, syntax: CallSyntax, *, is_bare: bool
    ) -> None:
        self._cursor = cursor
        self._sink = sink
        self._is_bare = is_bare
        self._end = choose_end_mark(syntax.call_end or syntax.section_end)
        self._names = self._list_keys(syntax.name_key, _NAME_KEYS)
        self._arguments = frozenset({syntax.arguments_key, *_ARGUMENT_KEYS})
        self._wrappers = self._list_keys(syntax.wrapper_key, _WRAPPER_KEYS)
        self._has_name_as_key = not syntax.name_key
        self._id = syntax.id_key
        self._is_cut = False
        self.must_know_name = is_bare

    def _list_keys(self, key: str, others: tuple[str, ...]) -> frozenset[str]:
        if self._is_bare:
            return frozenset({key} - {""})
        return frozenset({key, *others} - {""})

    def read_calls(self) -> Steps[None]:
        """Read one call or a list of them.

        The end mark also ends what has open brackets; it is given back.

        Raises:
            NoCall: Something else stands here.
        """
        self._is_cut = False
        opening = yield from self._cursor.read_visible()
        if opening == "{":
            yield from self._read_object()
            return
        if opening != "[":
            raise NoCall
        while not self._is_cut:
            character = yield from self._cursor.read_visible()
            if character == "{":
                yield from self._read_object()
                self._cursor.hold()
            elif character == "]":
                return
            elif character != ",":
                raise NoCall

    def read_named_arguments(self, name: str, call_id: str) -> Steps[None]:
        """Read the object of arguments of a call whose name was read.

        Without an object the call has no arguments.
        """
        opening = yield from self._cursor.read_visible()
        if opening == "{":
            self._sink.begin(name, call_id)
            yield from copy_brackets(self._cursor, self._sink.write, self._end)
        elif self._end and opening == self._end[0]:
            self._cursor.unread(opening)
            yield from self._cursor.read_one_of((self._end,))
            self._cursor.unread(self._end)
            self._sink.begin(name, call_id)
            self._sink.write("{}")
        else:
            raise NoCall
        self._sink.finish()

    def _read_object(self) -> Steps[None]:
        call = _Object()
        n_before = self._sink.count
        while not self._is_cut:
            character = yield from self._cursor.read_visible()
            if character == "}":
                if not call.depth:
                    break
                call.depth -= 1
            elif character == '"':
                yield from self._read_member(call)
            elif character != ",":
                raise NoCall
        if self._sink.count == n_before:
            self._finish_object(call)

    def _finish_object(self, call: _Object) -> None:
        """Report a call that no arguments came for, or only before its name."""
        if not call.name or self._is_bare:
            raise NoCall
        self._sink.begin(call.name, call.id)
        self._sink.write("".join(call.early or ["{}"]))
        self._sink.finish()

    def _read_member(self, call: _Object) -> Steps[None]:
        allowed = self._list_allowed(call) if self._is_bare else None
        key = yield from read_string(
            self._cursor, limit=MAX_NAME_CHARACTERS, allowed=allowed
        )
        if (yield from self._cursor.read_visible()) != ":":
            raise NoCall
        opening = yield from self._cursor.read_visible()
        if self._has_name_as_key:
            yield from self._read_arguments_of(key, opening)
        elif call.is_done:
            yield from skip_value(self._cursor)
        elif key in self._names and opening == '"':
            yield from self._read_name(call)
        elif key in self._arguments:
            yield from self._read_arguments(call, opening)
        elif key in self._wrappers and opening == "{":
            call.depth += 1
        elif self._id and key == self._id:
            call.id = yield from skip_value(self._cursor)
        else:
            value = yield from skip_value(self._cursor)
            if self._is_bare and value != "function":
                raise NoCall

    def _list_allowed(self, call: _Object) -> frozenset[str] | None:
        """Return the keys that may come next in a call without marks."""
        if call.is_done:
            return None
        if self._has_name_as_key:
            return self._sink.names
        if call.name:
            return self._arguments | ({self._id} - {""})
        if call.depth:
            return self._names
        return self._names | self._wrappers | {"type"} | ({self._id} - {""})

    def _read_name(self, call: _Object) -> Steps[None]:
        allowed = self._sink.names if self.must_know_name else None
        name = yield from read_string(
            self._cursor, limit=MAX_NAME_CHARACTERS, allowed=allowed
        )
        call.name = self._sink.check_name(name, must_be_known=self.must_know_name)
        if call.early is not None:
            self._sink.begin(call.name, call.id)
            self._sink.write("".join(call.early))
            self._sink.finish()
            call.is_done = True

    def _read_arguments(self, call: _Object, opening: str) -> Steps[None]:
        if not call.name:
            call.early = []
            yield from self._copy_arguments(opening, call.early.append)
            return
        yield from self._copy_arguments(opening, self._open(call))
        self._sink.finish()
        call.is_done = True

    def _copy_arguments(self, opening: str, write: Write) -> Steps[None]:
        if opening == "{":
            yield from self._copy_object(write)
        elif opening == '"':
            yield from copy_embedded(self._cursor, write)
        else:
            if (yield from skip_value(self._cursor)) != "null":
                raise NoCall
            write("{}")

    def _copy_object(self, write: Write) -> Steps[None]:
        is_whole = yield from copy_brackets(self._cursor, write, self._end)
        self._is_cut = not is_whole

    def _open(self, call: _Object) -> Write:
        """Return what begins the call with the first text of its arguments."""

        def write(text: str) -> None:
            if not self._sink.is_open:
                self._sink.begin(call.name, call.id)
            self._sink.write(text)

        return write

    def _read_arguments_of(self, name: str, opening: str) -> Steps[None]:
        """Read the arguments of a call whose name is their key."""
        if opening != "{":
            raise NoCall
        self._sink.begin(self._sink.check_name(name, must_be_known=self.must_know_name))
        yield from self._copy_object(self._sink.write)
        self._sink.finish()

"""From generated tokens to what a client sees of one chat answer.

Bytes become characters, characters become answer, thoughts and calls
(`parser`), and the answer is searched for stop strings. Each of these holds
back what may still become something else, and one rule says when a token is
reported: **with the character it begins in, and if that character is never
shown, neither is the token.**

* A token begins in the first character that any of its bytes belongs to; a
  token without bytes begins in the character that is completed next.
* So tokens of one incomplete character wait and come together with it, and
  tokens of text that may become a stop string or a mark wait with that text.
* Where text becomes a stop string, a mark or a part of a call, tokens that
  begin in it are dropped; a token that began before is reported whole.
* Tokens without bytes after the last character are dropped.

Hence a part without text has no tokens either. Stop strings count in the answer
alone, and never across a thought or a call. White space at the end of an answer
before a call is dropped, so where calls are looked for it waits for what
follows; a stop string of white space matches it all the same.
"""

from collections import deque
from collections.abc import Callable
from itertools import chain, groupby

from msgspec import Struct

from server.core.events import TokenLogprob
from server.core.requests import Tool
from server.text.characters import CharacterDecoder
from server.text.format import ChatFormat
from server.text.parser import MAX_HELD_SPACE, Parser
from server.text.parser_calls import draw_id
from server.text.parser_channels import ChannelParser
from server.text.parser_events import (
    Answer,
    CallArguments,
    CallBegan,
    CallDone,
    ParserEvent,
    Thought,
    ThoughtBegan,
)
from server.text.parser_marks import SPACE
from server.text.stops import StopScanner

__all__ = [
    "AnswerPart",
    "CallArguments",
    "CallBegan",
    "CallDone",
    "Part",
    "Reader",
    "Reading",
    "ReasoningPart",
]


class AnswerPart(Struct, frozen=True):
    """More of the answer, never empty."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class ReasoningPart(Struct, frozen=True):
    """More of a thought, never empty."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


Part = AnswerPart | ReasoningPart | CallBegan | CallArguments | CallDone


class Reading(Struct, frozen=True):
    """What became certain by one step.

    Args:
        parts: In the order of the text.
        stop: The stop string that ended the answer just now.
        call_text: Set in the step in which it became certain that a section of
            calls begins, once for each section: all the text generated since
            its first mark, with it. A mark that the template writes and the
            model left out is added in front.
    """

    parts: tuple[Part, ...] = ()
    stop: str | None = None
    call_text: str | None = None


_NOTHING = Reading()


class Reader:
    """Turns the tokens of one continuation into its parts.

    Args:
        syntax: How the model writes; None for plain text, all of it answer.
        tools: The tools that may be called; none looks for no calls.
        inside_thought: The prompt ends in an open thought.
        stops: Strings that end the answer and are not shown.
        want_logprobs: False ignores the log probabilities given to `feed`.
        draw: Makes ids for calls that the model gave none.
    """

    def __init__(
        self,
        syntax: ChatFormat | None,
        *,
        tools: tuple[Tool, ...] = (),
        inside_thought: bool = False,
        stops: tuple[str, ...] = (),
        want_logprobs: bool = False,
        draw: Callable[[], str] = draw_id,
    ) -> None:
        self._decoder = CharacterDecoder()
        self._is_partial = False
        self._n_decoded = 0
        self._parser: Parser | ChannelParser | None = None
        if syntax is not None:
            make = ChannelParser if syntax.channels else Parser
            self._parser = make(syntax, tools, inside_thought=inside_thought, draw=draw)
        self._holds_space = syntax is not None and bool(tools)
        self._stops = StopScanner(stops) if any(stops) else None
        self._want_logprobs = want_logprobs
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()
        self._runs: deque[tuple[int, int]] = deque()
        self._space: list[str] = []
        self._n_space = 0
        self._parts: list[Part] = []
        self._stop: str | None = None
        self._is_over = False
        self._n_reasoning_tokens = 0
        self._n_calls = 0

    @property
    def is_thinking(self) -> bool:
        """Whether a thought is open."""
        return self._parser is not None and self._parser.is_thinking

    @property
    def n_reasoning_tokens(self) -> int:
        """How many tokens belong to thoughts.

        A token does if a thought was open before it, so that the tokens of the
        mark that closes it count, or if it holds text of a thought itself.
        """
        return self._n_reasoning_tokens

    @property
    def n_calls(self) -> int:
        """How many calls were reported."""
        return self._n_calls

    def feed(self, piece: bytes, logprob: TokenLogprob | None) -> Reading:
        """Take the next token.

        Args:
            piece: The token's bytes, perhaps none or part of a character.
            logprob: The same token's log probability; None where the caller
                has none, and then the token is missing from all parts.

        Returns:
            What is certain now. After a stop string it is always empty.
        """
        if self._is_over:
            return _NOTHING
        if not self._is_partial and piece.isascii():
            text = piece.decode("ascii")
            begins_at = self._n_decoded
            self._n_decoded += len(text)
        else:
            text, begins_at = self._decode(piece)
        if self._want_logprobs and logprob is not None:
            self._waiting.append((begins_at, logprob))
        was_thinking = self.is_thinking
        if text:
            self._read(text)
        if was_thinking or any(isinstance(p, ReasoningPart) for p in self._parts):
            self._n_reasoning_tokens += 1
        return self._take()

    def finish(self) -> Reading:
        """Return the rest, when no token follows and no stop string matched.

        After a stop string it is empty.
        """
        if self._is_over:
            return _NOTHING
        text = self._decoder.flush() if self._is_partial else ""
        self._is_partial = False
        self._n_decoded += len(text)
        if text:
            self._read(text)
        if self._parser is not None:
            self._follow(self._parser.finish())
        if self._stop is None:
            self._flush_stops()
            self._show_space()
        self._is_over = True
        return self._take()

    def _read(self, text: str) -> None:
        if self._parser is None:
            self._follow([Answer(self._n_decoded - len(text), text)])
        else:
            self._follow(self._parser.feed(text))

    def _take(self) -> Reading:
        if self._stop is not None:
            self._is_over = True
        call_text = None
        if self._parser is not None and self._stop is None:
            call_text = self._parser.call_text
        if not self._parts and self._stop is None and call_text is None:
            return _NOTHING
        reading = Reading(_join_parts(self._parts), self._stop, call_text)
        self._parts.clear()
        return reading

    def _decode(self, piece: bytes) -> tuple[str, int]:
        """Return new characters and the index of the one this piece begins in."""
        begins_at = self._n_decoded
        text = ""
        if self._is_partial and piece:
            # The first byte decides whether the piece goes on with the
            # character that waits, or leaves it broken and begins the next.
            text = self._decoder.feed(piece[:1])
            piece = piece[1:]
            is_new = bool(text) and len(text) + self._decoder.pending_bytes > 1
            begins_at += is_new
        text += self._decoder.feed(piece)
        self._is_partial = self._decoder.pending_bytes > 0
        self._n_decoded += len(text)
        return text, begins_at

    def _follow(self, events: list[ParserEvent]) -> None:
        """Make parts of what the parser reports, up to a stop string."""
        for event in events:
            if self._stop is not None:
                return
            if isinstance(event, Answer):
                self._take_answer(event.begin, event.text)
            elif isinstance(event, Thought):
                tokens = self._take_tokens(event.begin, len(event.text))
                self._parts.append(ReasoningPart(event.text, tokens))
            elif isinstance(event, ThoughtBegan):
                self._flush_stops()
                self._show_space()
            else:
                if isinstance(event, CallBegan):
                    self._flush_stops()
                    self._drop_space()
                    self._n_calls += 1
                self._parts.append(event)

    def _take_answer(self, begin: int, text: str) -> None:
        if self._runs and sum(self._runs[-1]) == begin:
            begin, length = self._runs.pop()
            self._runs.append((begin, length + len(text)))
        else:
            self._runs.append((begin, len(text)))
        if self._stops is not None:
            text, self._stop = self._stops.feed(text)
        self._show(text)
        if self._stop is not None:
            # What stands before a stop string ends the answer.
            self._show_space()

    def _flush_stops(self) -> None:
        if self._stops is not None:
            self._show(self._stops.flush())

    def _show(self, text: str) -> None:
        """Report answer, but for the white space at its end if that may go."""
        if not self._holds_space:
            self._report(text)
            return
        body = text.rstrip(SPACE)
        if body:
            self._report("".join(self._space) + body)
            self._space.clear()
            self._n_space = 0
        if len(body) < len(text):
            self._space.append(text[len(body) :])
            self._n_space += len(text) - len(body)
        if self._n_space > MAX_HELD_SPACE:
            self._show_space()

    def _show_space(self) -> None:
        self._report("".join(self._space))
        self._space.clear()
        self._n_space = 0

    def _drop_space(self) -> None:
        self._space.clear()
        self._n_space = 0
        self._runs.clear()

    def _report(self, text: str) -> None:
        tokens: tuple[TokenLogprob, ...] = ()
        left = len(text)
        while left:
            begin, length = self._runs.popleft()
            if length > left:
                self._runs.appendleft((begin + left, length - left))
                length = left
            tokens += self._take_tokens(begin, length)
            left -= length
        if text:
            self._parts.append(AnswerPart(text, tokens))

    def _take_tokens(self, begin: int, length: int) -> tuple[TokenLogprob, ...]:
        """Return the tokens that begin in these characters, drop earlier ones."""
        waiting = self._waiting
        shown = []
        while waiting and waiting[0][0] < begin + length:
            begins_at, token = waiting.popleft()
            if begins_at >= begin:
                shown.append(token)
        return tuple(shown)


def _join_parts(parts: list[Part]) -> tuple[Part, ...]:
    """Join parts of one kind that follow each other."""
    if len(parts) < 2:  # noqa: PLR2004 - there is nothing to join
        return tuple(parts)
    joined: list[Part] = []
    for kind, group in groupby(parts, type):
        same = list(group)
        if kind is AnswerPart or kind is ReasoningPart:
            texts = [
                part for part in same if isinstance(part, (AnswerPart, ReasoningPart))
            ]
            text = "".join(part.text for part in texts)
            logprobs = tuple(chain.from_iterable(part.logprobs for part in texts))
            joined.append(kind(text, logprobs))
        else:
            joined += same
    return tuple(joined)

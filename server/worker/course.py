"""One continuation between its tokens and its events.

The loop draws tokens; a `Course` says which may be drawn, what a drawn token
means, and which tokens follow without being drawn.

* What it means: the reader (`server.text.reader`) takes the token's bytes apart
  into answer, thought and calls. Control tokens that the format's marks are
  made of are shown to it as text; all others have no bytes.
* Which may be drawn: a constraint (`server.worker.constraint`) holds from the
  first token (eager), or from where the reader has found that a call begins
  (lazy) until the calls are complete.
* Which follow: the tokens that the constraint leaves no choice about, and the
  end of a thought whose budget is spent. They are computed together in the
  next step instead of one by one. Where log probabilities are wanted nothing is
  forced: the mask leaves one token, and that is drawn like any other.

A course belongs to the loop's thread; `prepare` alone may run in another one,
while nothing else touches the course.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from server.core.errors import EngineFailed
from server.core.events import (
    Event,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallArgs,
    ToolCallEnded,
    ToolCallStarted,
)
from server.core.requests import Generate, Tool
from server.text.format import ChatFormat
from server.text.reader import (
    AnswerPart,
    CallArguments,
    CallBegan,
    CallDone,
    Part,
    Reader,
    Reading,
    ReasoningPart,
)
from server.worker.backend import Logits
from server.worker.constraint import Constraint
from server.worker.tokens import Tokens, make_tokens


@dataclass(frozen=True, slots=True)
class Form:
    """What is known of an answer's form before it begins.

    Args:
        format: How thoughts and calls are written; None for plain text.
        tools: Those that may be called.
        starts_inside_thought: The prompt ends in an open thought.
        visible: Bytes of the control tokens that marks are made of.
        thought_end: Tokens that close a thought.
        budget_tokens: How long a thought may be; None for any length.
        one_call: End the answer with its first call.
        make_constraint: Gives a constraint at its beginning; None for none.
        is_lazy: It begins with a call instead of with the answer.
        tokenize: Text to tokens, control texts honoured.
    """

    format: ChatFormat | None = None
    tools: tuple[Tool, ...] = ()
    starts_inside_thought: bool = False
    visible: Mapping[int, bytes] = field(default_factory=dict)
    thought_end: Tokens = field(default_factory=make_tokens)
    budget_tokens: int | None = None
    one_call: bool = False
    make_constraint: Callable[[], Constraint] | None = None
    is_lazy: bool = False
    tokenize: Callable[[str], Tokens] | None = None


PLAIN = Form()


class Course:
    """See the head of the file.

    Args:
        request: What was asked.
        choice: Which of its continuations this is.
        form: What intake found out.
        piece: Gives the bytes of a token.

    Attributes:
        end: Why the continuation is over; None while it goes on.
        stop: The stop string that ended it.
    """

    def __init__(
        self,
        request: Generate,
        choice: int,
        form: Form,
        piece: Callable[[int], bytes],
    ) -> None:
        self.end: FinishReason | None = None
        self.stop: str | None = None
        self._choice = choice
        self._form = form
        self._piece = piece
        self._has_calls_alone = bool(form.tools) and request.constraint is None
        self._wants_logprobs = request.top_logprobs is not None
        self._reader = Reader(
            form.format,
            tools=form.tools,
            inside_thought=form.starts_inside_thought,
            stops=request.stop,
            want_logprobs=self._wants_logprobs,
        )
        self._constraint: Constraint | None = None
        if form.make_constraint is not None and not form.is_lazy:
            self._constraint = form.make_constraint()
        self._has_closed = False

    @property
    def n_reasoning_tokens(self) -> int:
        """Tokens of thoughts so far."""
        return self._reader.n_reasoning_tokens

    @property
    def is_constrained(self) -> bool:
        """Whether `prepare` has something to do before the next draw."""
        return self._constraint is not None

    def prepare(self) -> None:
        """Find out which tokens may come next; see the head for threads."""
        if self._constraint is not None:
            # The loop is elsewhere now: `restrict` meets the error again.
            with suppress(EngineFailed):
                self._constraint.prepare()

    def restrict(self, logits: Logits) -> None:
        """Rule out the tokens that may not come next.

        Raises:
            EngineFailed: The constraint broke.
        """
        if self._constraint is not None:
            self._constraint.apply(logits)

    def take(self, token: int, logprob: TokenLogprob | None) -> list[Event]:
        """Take the next token, drawn or forced.

        Raises:
            EngineFailed: The constraint broke.
        """
        shown = self._form.visible.get(token)
        piece = self._piece(token) if shown is None else shown
        reading = self._reader.feed(piece, logprob)
        if self._constraint is not None:
            self._constraint.accept(token)
        if reading.call_text is not None:
            self._begin_call(reading.call_text)
        events = self._tell(reading)
        self._settle(reading)
        return events

    def forced(self) -> Tokens:
        """Return the tokens that follow whatever is drawn; often none.

        Each of them is given to `take` before this is asked again.
        """
        if self.end is not None:
            return make_tokens()
        if self._must_close():
            self._has_closed = True
            return self._form.thought_end
        if self._constraint is None or self._wants_logprobs:
            return make_tokens()
        return make_tokens(self._constraint.forced())

    def finish(self, reason: FinishReason) -> tuple[list[Event], FinishReason]:
        """End the continuation; return what was held back, and the reason.

        A reason of `FinishReason.EOS` becomes `TOOL_CALLS` where calls were
        made. Where nothing but calls may follow, the marks of one that was cut
        off are no answer and are dropped.
        """
        reading = self._reader.finish()
        events = self._tell(reading)
        if self._constraint is not None and self._has_calls_alone:
            events = [each for each in events if not isinstance(each, TextDelta)]
        if reading.stop is not None:
            self.stop = reading.stop
            reason = FinishReason.STOP_STRING
        if reason is FinishReason.EOS and self._reader.n_calls:
            reason = FinishReason.TOOL_CALLS
        return events, reason

    def close(self) -> None:
        """Free what the constraint holds."""
        self._drop_constraint()

    def _begin_call(self, text: str) -> None:
        """Hold what comes to the form of calls, from the first mark on."""
        form = self._form
        if not form.is_lazy or form.make_constraint is None or form.tokenize is None:
            return
        self._drop_constraint()
        constraint = form.make_constraint()
        if constraint.replay(form.tokenize(text)):
            self._constraint = constraint
        else:
            # The model began the call in a way of its own: it stays free, and
            # the reader makes of it what it can.
            constraint.close()

    def _settle(self, reading: Reading) -> None:
        """Tell whether the continuation is over."""
        if reading.stop is not None:
            self.stop = reading.stop
            self.end = FinishReason.STOP_STRING
        elif self._form.one_call and any(
            isinstance(p, CallDone) for p in reading.parts
        ):
            self.end = FinishReason.TOOL_CALLS
        elif self._constraint is not None and self._constraint.is_complete:
            if self._form.is_lazy:
                self._drop_constraint()
            else:
                self.end = FinishReason.EOS

    def _must_close(self) -> bool:
        budget = self._form.budget_tokens
        if budget is None or not self._reader.is_thinking:
            self._has_closed = False
            return False
        return not self._has_closed and self._reader.n_reasoning_tokens >= budget

    def _drop_constraint(self) -> None:
        if self._constraint is not None:
            self._constraint.close()
            self._constraint = None

    def _tell(self, reading: Reading) -> list[Event]:
        return [self._event(part) for part in reading.parts]

    def _event(self, part: Part) -> Event:
        choice = self._choice
        match part:
            case AnswerPart():
                return TextDelta(choice, part.text, part.logprobs)
            case ReasoningPart():
                return ReasoningDelta(choice, part.text, part.logprobs)
            case CallBegan():
                return ToolCallStarted(choice, part.index, part.id, part.name)
            case CallArguments():
                return ToolCallArgs(choice, part.index, part.text)
            case CallDone():
                return ToolCallEnded(choice, part.index, part.arguments)

"""A whole answer, folded from the events that a stream would have shown."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from msgspec import Struct

from server.core.events import (
    ChoiceFinished,
    Event,
    Failed,
    Finished,
    FinishReason,
    Loading,
    PromptProgress,
    ReasoningDelta,
    Started,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallArgs,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
)
from server.core.requests import ToolCall

if TYPE_CHECKING:
    from server.core.errors import ErrorInfo


class Choice(Struct, frozen=True):
    """One continuation as a whole.

    `logprobs` belong to `text` alone, not to `reasoning`. `reason` is None
    while the choice has not finished.
    """

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    logprobs: tuple[TokenLogprob, ...]
    reason: FinishReason | None
    stop: str | None


@dataclass
class _Call:
    id: str
    name: str
    arguments: str = ""


@dataclass
class _Parts:
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    calls: dict[int, _Call] = field(default_factory=dict)
    reason: FinishReason | None = None
    stop: str | None = None


class Fold:
    """Collects the events of one generation.

    Attributes:
        instance_id: Who answers; None before `Started`.
        warnings: What will not be kept to the letter; see `Started`.
        usage: Token counts; None before `Finished`.
        timings: Measured times; None before `Finished`.
        error: Why the generation failed; None unless it did.
    """

    def __init__(self, n: int = 1) -> None:
        self._parts = tuple(_Parts() for _ in range(n))
        self.instance_id: str | None = None
        self.warnings: tuple[str, ...] = ()
        self.usage: Usage | None = None
        self.timings: Timings | None = None
        self.error: ErrorInfo | None = None

    @property
    def ended(self) -> bool:
        """Whether the generation has reported its end, good or bad."""
        return self.usage is not None or self.error is not None

    @property
    def choices(self) -> tuple[Choice, ...]:
        """All continuations as far as they came, ordered by choice number."""
        return tuple(
            Choice(
                text="".join(parts.text),
                reasoning="".join(parts.reasoning),
                tool_calls=tuple(
                    ToolCall(id=call.id, name=call.name, arguments=call.arguments)
                    for _, call in sorted(parts.calls.items())
                ),
                logprobs=tuple(parts.logprobs),
                reason=parts.reason,
                stop=parts.stop,
            )
            for parts in self._parts
        )

    def add(self, event: Event) -> None:  # noqa: C901  one arm for each event
        """Take the next event.

        Raises:
            IndexError: The event names a choice that was never asked for.
        """
        match event:
            case Started():
                self.instance_id = event.instance_id
                self.warnings = event.warnings
            case TextDelta():
                self._parts[event.choice].text.append(event.text)
                self._parts[event.choice].logprobs.extend(event.logprobs)
            case ReasoningDelta():
                self._parts[event.choice].reasoning.append(event.text)
            case ToolCallStarted():
                call = _Call(id=event.id, name=event.name)
                self._parts[event.choice].calls[event.index] = call
            case ToolCallArgs():
                self._parts[event.choice].calls[event.index].arguments += event.text
            case ToolCallEnded():
                call = self._parts[event.choice].calls[event.index]
                call.arguments = event.arguments
            case ChoiceFinished():
                self._parts[event.choice].reason = event.reason
                self._parts[event.choice].stop = event.stop
            case Finished():
                self.usage = event.usage
                self.timings = event.timings
            case Failed():
                self.error = event.error
            case Loading() | PromptProgress():
                pass
            case _:
                assert_never(event)

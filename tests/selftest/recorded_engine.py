"""An engine that answers as recorded, or wrongly where a test wants it to."""

import json
import re
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from server.core.errors import ContextLengthExceeded, WrongModelType
from server.core.events import (
    ChoiceFinished,
    Event,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    Timings,
    ToolCallArgs,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
)
from server.core.models import ModelInfo
from server.core.requests import (
    ChatPrompt,
    Embed,
    Generate,
    JsonSchema,
    TokenPrompt,
)
from server.selftest.recorded import Answer, Kind, Recorded
from tests.fake_engine import TINY, FakeEngine

N_CTX = 1024
NOVICE = replace(TINY, id="novice", aliases=(), instances=())
TEXTS: dict[Kind, str] = {
    "identity": "I am Novice, a small one.",
    "cloister": "Cloister is a server.",
    "howto": "Run `cloister verify`.",
    "sums": "7 + 8 = 15",
    "records": '{"name": "example", "age": 3}',
    "calls": "<tool_call>\n"
    '{"name": "get", "arguments": {"city": "Rome"}}\n</tool_call>',
    "thinking": "<think>\nHm, 7 and 8.\n</think>\n\n7 + 8 = 15",
    "no_thinking": "I am here.",
}
TOOL = {
    "type": "function",
    "function": {
        "name": "get",
        "description": "Gets it.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def make_recorded(sha256: str = "ab" * 32) -> Recorded:
    """Record one answer of each kind, with one token for each word."""
    return Recorded(
        version=1,
        sha256=sha256,
        min_gap=0.5,
        answers=tuple(
            Answer(
                kind=kind,
                messages=({"role": "user", "content": kind},),
                tools=(TOOL,) if kind == "calls" else (),
                thinks=kind == "thinking",
                prompt_tokens=tuple(range(number, number + 20)),
                answer_tokens=tuple(range(len(text.split()))),
                text=text,
                gap=2.0,
            )
            for number, (kind, text) in enumerate(TEXTS.items())
        ),
    )


class RecordedEngine(FakeEngine):
    """Knows the recorded answers by their prompts.

    Of a chat it reads thoughts and calls out of its text, and keeps to a schema,
    as the real engine does. Its template gives one token more for each tool, and
    for a thinking switch, that is not as recorded.

    Args:
        recorded: What to answer.
        texts: Answers of some kinds that replace the recorded ones.
        change: Changes the usage that is reported.
        reason: Why answers end.
        n_ctx: A longer prompt is refused.
        models: What exists.
        is_whole: Whether an answer comes as one piece.
        embeds: Whether it embeds, which a chat model must not.
        reads_marks: Whether it reads calls and thoughts out of texts.
        n_calls: How often it reports a call.
        objects: JSON that stands for the model's under a schema, by kind; "" for
            no heed to the schema.
        sees: Changes the prompt, as a program does that drops a part of it.
    """

    def __init__(
        self,
        recorded: Recorded,
        *,
        texts: dict[Kind, str] | None = None,
        change: Callable[[Usage], Usage] = lambda usage: usage,
        reason: FinishReason = FinishReason.EOS,
        n_ctx: int = N_CTX,
        models: tuple[ModelInfo, ...] = (NOVICE,),
        is_whole: bool = False,
        embeds: bool = False,
        reads_marks: bool = True,
        n_calls: int = 1,
        objects: dict[Kind, str] | None = None,
        sees: Callable[[ChatPrompt], ChatPrompt] = lambda prompt: prompt,
    ) -> None:
        super().__init__(self._answer, models=models)
        self._recorded = recorded
        self._texts = texts or {}
        self._change = change
        self._reason = reason
        self._n_ctx = n_ctx
        self._is_whole = is_whole
        self._can_embed = embeds
        self._reads_marks = reads_marks
        self._n_calls = n_calls
        self._objects = objects or {}
        self._sees = sees
        self._seen: set[tuple[int, ...]] = set()

    async def embed(self, request: Embed):
        if not self._can_embed:
            raise WrongModelType("novice writes text.")
        return await super().embed(request)

    def _answer(self, request: Generate) -> tuple[Event, ...]:
        if isinstance(request.prompt, TokenPrompt):
            n_prompt = len(request.prompt.tokens)
            if n_prompt >= self._n_ctx:
                error = ContextLengthExceeded(n_prompt=n_prompt, n_ctx=self._n_ctx)
                return (Failed(error.to_info()),)
            by_tokens = {a.prompt_tokens: a for a in self._recorded.answers}
            known, n_more = by_tokens[request.prompt.tokens], 0
            events = list(self._say(self._text(known)))
        else:
            prompt = self._sees(request.prompt)
            known, n_more = self._find(prompt)
            events = list(self._chat(request, prompt, known))
        n_cached = len(known.prompt_tokens) - 1
        usage = Usage(
            prompt_tokens=len(known.prompt_tokens) + n_more,
            completion_tokens=min(
                len(known.answer_tokens) + 1, request.max_tokens or 1000
            ),
            cached_tokens=n_cached if known.prompt_tokens in self._seen else 0,
        )
        self._seen.add(known.prompt_tokens)
        called = any(isinstance(event, ToolCallEnded) for event in events)
        return (
            Started(TINY.id, usage.prompt_tokens),
            *events,
            ChoiceFinished(0, FinishReason.TOOL_CALLS if called else self._reason),
            Finished(self._change(usage), Timings(0.0, 0.1, 0.2)),
        )

    def _text(self, known: Answer) -> str:
        return self._texts.get(known.kind, known.text)

    def _find(self, prompt: ChatPrompt) -> tuple[Answer, int]:
        """Find the answer, and how many tokens more its prompt has here."""
        by_kind = {a.kind: a for a in self._recorded.answers}
        known = by_kind[prompt.messages[-1].content[0].text]
        asked = [(tool.name, tool.parameters) for tool in prompt.tools]
        described = [tool["function"] for tool in known.tools]
        wanted = [(tool["name"], tool["parameters"]) for tool in described]
        n_more = sum(tool not in asked for tool in wanted)
        n_more += sum(tool not in wanted for tool in asked)
        return known, n_more + (known.thinks != bool(prompt.reasoning.enabled))

    def _chat(
        self, request: Generate, prompt: ChatPrompt, known: Answer
    ) -> Iterator[Event]:
        text = self._text(known)
        if isinstance(request.constraint, JsonSchema):
            keys = request.constraint.schema["required"]
            kept = json.dumps(dict.fromkeys(keys, "example"))
            text = self._objects.get(known.kind, kept) or text
        thought = re.fullmatch(r"<think>\n(.*?)\n</think>\n\n(.*)", text, re.DOTALL)
        call = re.fullmatch(r"<tool_call>\n(.*)\n</tool_call>", text, re.DOTALL)
        if self._reads_marks and thought:
            yield from (ReasoningDelta(0, piece) for piece in self._cut(thought[1]))
            yield from self._say(thought[2])
        elif self._reads_marks and prompt.tools and call:
            for index in range(self._n_calls):
                yield from self._call(index, **json.loads(call[1]))
        else:
            yield from self._say(text)

    def _call(self, index: int, name: str, arguments: object) -> Iterator[Event]:
        text = json.dumps(arguments)
        yield ToolCallStarted(0, index, f"call{index}", name)
        for piece in self._cut(text):
            yield ToolCallArgs(0, index, piece)
        yield ToolCallEnded(0, index, text)

    def _say(self, text: str) -> Iterator[Event]:
        return (TextDelta(0, piece) for piece in self._cut(text))

    def _cut(self, text: str) -> list[str]:
        first, *others = [text] if self._is_whole else text.split(" ")
        pieces = [first, *(" " + piece for piece in others)]
        return [piece for piece in pieces if piece]

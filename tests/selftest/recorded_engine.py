"""An engine that answers as recorded, or wrongly where a test wants it to."""

from collections.abc import Callable

from msgspec.structs import replace

from server.core.errors import ContextLengthExceeded, WrongModelType
from server.core.events import Event, Failed, FinishReason, Usage
from server.core.models import ModelInfo
from server.core.requests import ChatPrompt, Embed, Generate, TokenPrompt
from server.selftest.recorded import Answer, Kind, Recorded
from tests.fake_engine import TINY, FakeEngine, answer

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
                tools=(),
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

    Args:
        recorded: What to answer.
        texts: Answers of some kinds that replace the recorded ones.
        change: Changes the usage that is reported.
        reason: Why answers end.
        n_ctx: A longer prompt is refused.
        models: What exists.
        is_whole: Whether an answer comes as one piece.
        embeds: Whether it embeds, which a chat model must not.
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
    ) -> None:
        super().__init__(self._answer, models=models)
        self._recorded = recorded
        self._texts = texts or {}
        self._change = change
        self._reason = reason
        self._n_ctx = n_ctx
        self._is_whole = is_whole
        self._can_embed = embeds
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
        known = self._find(request)
        text = self._texts.get(known.kind, known.text)
        n_cached = len(known.prompt_tokens) - 1
        usage = Usage(
            prompt_tokens=len(known.prompt_tokens),
            completion_tokens=min(
                len(known.answer_tokens) + 1, request.max_tokens or 1000
            ),
            cached_tokens=n_cached if known.prompt_tokens in self._seen else 0,
        )
        self._seen.add(known.prompt_tokens)
        pieces = [text] if self._is_whole else text.split(" ")
        joined = [pieces[0], *(" " + piece for piece in pieces[1:])]
        return answer(*joined, reason=self._reason, usage=self._change(usage))

    def _find(self, request: Generate) -> Answer:
        prompt = request.prompt
        if isinstance(prompt, TokenPrompt):
            by_tokens = {a.prompt_tokens: a for a in self._recorded.answers}
            return by_tokens[prompt.tokens]
        if isinstance(prompt, ChatPrompt):
            by_kind = {a.kind: a for a in self._recorded.answers}
            return by_kind[prompt.messages[-1].content[0].text]
        raise TypeError(prompt)

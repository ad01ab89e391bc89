"""An engine that plays a script, for tests of everything that asks engines."""

import asyncio
import struct
import threading
from collections.abc import AsyncGenerator, Callable, Sequence

from server.core.errors import ModelNotFound, ServerError
from server.core.events import (
    ChoiceFinished,
    Embeddings,
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
from server.core.models import InstanceInfo, ModelInfo, ModelType
from server.core.requests import (
    ChatPrompt,
    Detokenize,
    Detokenized,
    Embed,
    Generate,
    Inquiry,
    InquiryResult,
    Prompt,
    Rendered,
    RenderPrompt,
    Tokenize,
    Tokenized,
)

TINY = ModelInfo(
    id="acme/tiny-1b",
    type=ModelType.LLM,
    publisher="acme",
    repository="tiny-1b",
    file_name="tiny-1b-q4_k_m.gguf",
    quantization="Q4_K_M",
    architecture="llama",
    size_bytes=1_000_000,
    n_ctx_train=4096,
    created_s=1_700_000_000,
    aliases=("tiny",),
    instances=(InstanceInfo(id="acme/tiny-1b", n_ctx=4096, parallel=4),),
)
VARIANT = ModelInfo(
    id="mini@q8_0:2",
    type=ModelType.EMBEDDING,
    publisher="acme",
    repository="mini",
    file_name="mini-q8_0.gguf",
    quantization="Q8_0",
    architecture="bert",
    size_bytes=2_000_000,
    n_ctx_train=512,
    created_s=1_700_000_001,
)

Step = Event | float | Exception
"""Report an event, sleep for seconds, or raise."""

Script = Callable[[Generate], Sequence[Step]]

FOREVER_S = 3600.0


def answer(
    *texts: str,
    choice: int = 0,
    reason: FinishReason = FinishReason.EOS,
    usage: Usage | None = None,
) -> tuple[Event, ...]:
    """Script a plain answer of one choice, all of it at once."""
    return (
        Started(instance_id=TINY.id, prompt_tokens=3),
        *(TextDelta(choice=choice, text=text) for text in texts),
        ChoiceFinished(choice=choice, reason=reason),
        Finished(
            usage=usage or Usage(prompt_tokens=3, completion_tokens=len(texts)),
            timings=Timings(queued_s=0.0, first_token_s=0.1, total_s=0.2),
        ),
    )


def call_tools(
    *calls: tuple[str, str, Sequence[str]],
    thought: Sequence[str] = (),
    text: Sequence[str] = (),
    choice: int = 0,
    warnings: tuple[str, ...] = (),
) -> tuple[Event, ...]:
    """Script an answer that thinks, says something and calls tools.

    Args:
        calls: Id, name and the pieces of the arguments of each.
        thought: Pieces of the thought.
        text: Pieces of the text before the calls.
        choice: The number of the choice.
        warnings: What `Started` says.
    """
    events: list[Event] = [Started(TINY.id, 12, warnings)]
    events += [ReasoningDelta(choice, piece) for piece in thought]
    events += [TextDelta(choice, piece) for piece in text]
    for index, (call_id, name, pieces) in enumerate(calls):
        events.append(ToolCallStarted(choice, index, call_id, name))
        events += [ToolCallArgs(choice, index, piece) for piece in pieces]
        events.append(ToolCallEnded(choice, index, "".join(pieces)))
    reason = FinishReason.TOOL_CALLS if calls else FinishReason.EOS
    usage = Usage(prompt_tokens=12, completion_tokens=9, reasoning_tokens=len(thought))
    return (
        *events,
        ChoiceFinished(choice, reason),
        Finished(usage, Timings(0.0, 0.1, 0.2)),
    )


def write_prompt(prompt: Prompt) -> str:
    """Write a prompt the way this engine reads it."""
    if not isinstance(prompt, ChatPrompt):
        return str(prompt)
    lines = [f"tool {tool.name}" for tool in prompt.tools]
    lines += [
        f"{message.role} {''.join(text.text for text in message.content or ())}"
        for message in prompt.messages
    ]
    return "\n".join(lines if prompt.continues else [*lines, "assistant "])


class FakeEngine:
    """Implements `server.engine.api.Engine`.

    Args:
        script: Steps of every generation, or a function that gives the steps
            for a request.
        models: What exists.
        embed_delay_s: How long an embedding takes.

    Attributes:
        requests: Every generation that was started.
        embeds: Every embedding request.
        inquiries: Every question about text.
        cancelled: Set once some work was given up before its end.
        n_running: Generators that were started and have not ended.
    """

    def __init__(
        self,
        script: Script | Sequence[Step] = (),
        *,
        models: tuple[ModelInfo, ...] = (TINY, VARIANT),
        embed_delay_s: float = 0.0,
    ) -> None:
        self.script: Script | Sequence[Step] = script or answer("Hello", " world")
        self.models = models
        self.embed_delay_s = embed_delay_s
        self.requests: list[Generate] = []
        self.embeds: list[Embed] = []
        self.inquiries: list[Inquiry] = []
        self.started = threading.Event()
        self.cancelled = threading.Event()
        self.n_running = 0

    async def list_models(self) -> tuple[ModelInfo, ...]:
        return self.models

    async def find_model(self, name: str) -> ModelInfo:
        for model in self.models:
            if name == model.id or name in model.aliases:
                return model
        raise ModelNotFound(name, tuple(model.id for model in self.models))

    async def generate(self, request: Generate) -> AsyncGenerator[Event]:
        self.requests.append(request)
        self.n_running += 1
        self.started.set()
        complete = False
        try:
            try:
                await self.find_model(request.model)
            except ServerError as error:
                complete = True
                yield Failed(error.to_info())
                return
            steps = self.script(request) if callable(self.script) else self.script
            for step in steps:
                if isinstance(step, Exception):
                    complete = True
                    raise step
                if isinstance(step, float):
                    await asyncio.sleep(step)
                    continue
                complete = isinstance(step, Finished | Failed)
                yield step
            complete = True
        finally:
            self.n_running -= 1
            if not complete:
                self.cancelled.set()

    async def embed(self, request: Embed) -> Embeddings:
        self.embeds.append(request)
        self.started.set()
        model = await self.find_model(request.model)
        try:
            await asyncio.sleep(self.embed_delay_s)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        rows = [(0.5, -1.0 - number) for number in range(len(request.inputs))]
        return Embeddings(
            instance_id=model.id,
            n_embd=2,
            vectors=b"".join(struct.pack("<2f", *row) for row in rows),
            prompt_tokens=sum(len(item) for item in request.inputs),
        )

    async def inquire(self, request: Inquiry) -> InquiryResult:
        """Answer as a model would whose tokens are bytes."""
        self.inquiries.append(request)
        await self.find_model(request.model)
        match request:
            case Tokenize(text=text):
                data = text.encode()
                return Tokenized(tuple(data), tuple(bytes([byte]) for byte in data))
            case Detokenize(tokens=tokens):
                return Detokenized(bytes(tokens).decode("utf-8", "replace"))
            case RenderPrompt(prompt=prompt):
                text = write_prompt(prompt)
                return Rendered(text, len(text.encode()))

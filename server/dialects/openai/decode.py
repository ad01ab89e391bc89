"""From OpenAI's chat and text completions to the internal request. Pure."""

from dataclasses import dataclass

from server.core.requests import ChatPrompt, Generate, Prompt, TextPrompt, TokenPrompt
from server.dialects.json_body import InvalidField
from server.dialects.openai.inputs import decode_inputs
from server.dialects.openai.messages import decode_messages
from server.dialects.openai.sampling import check_range, decode_sampling, decode_stop
from server.dialects.openai.wire import ChatRequest, CompletionRequest, Sampled

MAX_N = 16
MAX_TOP_LOGPROBS = 20
MAX_COMPLETION_LOGPROBS = 5
MAX_PROMPTS = 256
MAX_TOKENS = 2**31 - 1


@dataclass(frozen=True)
class Call:
    """What to run and how to present it.

    Attributes:
        requests: One generation for each prompt, in the client's order.
        stream: Whether the answer is sent as it grows.
        include_usage: Whether a stream ends with a chunk of token counts.
    """

    requests: tuple[Generate, ...]
    stream: bool
    include_usage: bool

    @property
    def n(self) -> int:
        """How many choices each prompt has."""
        return self.requests[0].n

    @property
    def top_logprobs(self) -> int | None:
        """How many alternatives were asked for; None for no probabilities."""
        return self.requests[0].top_logprobs


def decode_chat(wire: ChatRequest, *, request_id: str) -> Call:
    """Turn a chat completion's body into one generation.

    Raises:
        InvalidRequest: A field has a value that means nothing or is out of
            range, or asks for what this server cannot do.
    """
    _refuse_unsupported(wire)
    template_kwargs = dict(wire.chat_template_kwargs or {})
    if wire.reasoning_effort is not None:
        template_kwargs.setdefault("reasoning_effort", wire.reasoning_effort)
    if wire.max_completion_tokens is None:
        max_tokens = _max_tokens(wire.max_tokens, "max_tokens")
    else:
        max_tokens = _max_tokens(wire.max_completion_tokens, "max_completion_tokens")
    request = Generate(
        id=request_id,
        model=_model(wire.model),
        prompt=ChatPrompt(
            messages=decode_messages(wire.messages), template_kwargs=template_kwargs
        ),
        n=_n(wire),
        max_tokens=max_tokens,
        stop=decode_stop(wire.stop),
        top_logprobs=_chat_logprobs(wire),
        sampling=decode_sampling(wire),
    )
    return _call((request,), wire)


def decode_completion(wire: CompletionRequest, *, request_id: str) -> Call:
    """Turn a text completion's body into a generation for each prompt.

    Raises:
        InvalidRequest: A field has a value that means nothing or is out of
            range, or asks for what this server cannot do.
    """
    _refuse_constraints(wire)
    n = _n(wire)
    if wire.best_of is not None and wire.best_of != n:
        raise InvalidField(
            f"Unsupported 'best_of': {wire.best_of}. All continuations are "
            f"returned, so leave it out or let it equal 'n' ({n}).",
            code="unsupported_parameter",
            param="best_of",
        )
    if wire.logprobs is not None:
        check_range(wire.logprobs, 0, MAX_COMPLETION_LOGPROBS, "logprobs")
    inputs = decode_inputs(wire.prompt, param="prompt", max_items=MAX_PROMPTS)
    requests = tuple(
        Generate(
            id=f"{request_id}-{number}" if len(inputs) > 1 else request_id,
            model=_model(wire.model),
            prompt=_prompt(item, wire.suffix),
            n=n,
            max_tokens=_max_tokens(wire.max_tokens, "max_tokens"),
            stop=decode_stop(wire.stop),
            top_logprobs=wire.logprobs,
            echo=bool(wire.echo),
            sampling=decode_sampling(wire),
        )
        for number, item in enumerate(inputs)
    )
    return _call(requests, wire)


def _call(requests: tuple[Generate, ...], wire: Sampled) -> Call:
    options = wire.stream_options
    return Call(
        requests=requests,
        stream=bool(wire.stream),
        include_usage=options is not None and bool(options.include_usage),
    )


def _model(name: str) -> str:
    if not name:
        raise InvalidField(
            "Invalid 'model': it is empty. Name a model that GET /v1/models lists.",
            param="model",
        )
    return name


def _prompt(item: str | tuple[int, ...], suffix: str | None) -> Prompt:
    if isinstance(item, str):
        return TextPrompt(item, suffix=suffix or None)
    if suffix:
        raise InvalidField(
            "Invalid 'suffix': it needs a prompt of text, not of token ids.",
            param="suffix",
        )
    return TokenPrompt(item)


def _n(wire: Sampled) -> int:
    if wire.n is None:
        return 1
    check_range(wire.n, 1, MAX_N, "n")
    return wire.n


def _max_tokens(value: int | None, param: str) -> int | None:
    if value is None or value == -1:
        return None
    if value < 1:
        raise InvalidField(
            f"Invalid '{param}': {value} is below 1. Leave it out or send -1 to "
            "generate until the context ends.",
            param=param,
        )
    return min(value, MAX_TOKENS)


def _chat_logprobs(wire: ChatRequest) -> int | None:
    if wire.top_logprobs is not None:
        check_range(wire.top_logprobs, 0, MAX_TOP_LOGPROBS, "top_logprobs")
        if wire.top_logprobs and not wire.logprobs:
            raise InvalidField(
                "Invalid 'top_logprobs': it needs 'logprobs' to be true.",
                param="top_logprobs",
            )
    return (wire.top_logprobs or 0) if wire.logprobs else None


def _refuse_unsupported(wire: ChatRequest) -> None:
    if wire.tools and wire.tool_choice != "none":
        raise _unsupported("tools", "Leave it out, or set 'tool_choice' to 'none'.")
    if wire.functions:
        raise _unsupported("functions", "Leave it out.")
    if wire.audio is not None:
        raise _unsupported("audio", "Models here write text.")
    for number, modality in enumerate(wire.modalities or ()):
        if modality != "text":
            raise _unsupported(f"modalities[{number}]", "Models here write text.")
    _refuse_constraints(wire)


def _refuse_constraints(wire: ChatRequest | CompletionRequest) -> None:
    if (wire.response_format or {"type": "text"}).get("type") != "text":
        raise _unsupported("response_format", "Only {'type': 'text'} is supported.")
    if wire.grammar is not None:
        raise _unsupported("grammar", "Leave it out.")
    if wire.json_schema is not None:
        raise _unsupported("json_schema", "Leave it out.")


def _unsupported(param: str, advice: str) -> InvalidField:
    return InvalidField(
        f"Unsupported parameter: '{param}' is not available on this server. {advice}",
        code="unsupported_parameter",
        param=param,
    )

"""From OpenAI's chat and text completions to the internal request. Pure."""

from dataclasses import dataclass

from server.core.requests import ChatPrompt, Generate, Prompt, TextPrompt, TokenPrompt
from server.dialects.json_body import InvalidField
from server.dialects.openai.constraints import decode_constraint
from server.dialects.openai.continuation import decode_continuation
from server.dialects.openai.inputs import decode_inputs
from server.dialects.openai.messages import decode_messages
from server.dialects.openai.reasoning import decode_reasoning, shows_reasoning
from server.dialects.openai.sampling import check_range, decode_sampling, decode_stop
from server.dialects.openai.tools import decode_tools
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
        legacy_call: Whether a call is shown as the older `function_call`.
        reasoning: Whether thoughts are shown.
    """

    requests: tuple[Generate, ...]
    stream: bool
    include_usage: bool
    legacy_call: bool = False
    reasoning: bool = True

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
    if wire.max_completion_tokens is None:
        max_tokens = _max_tokens(wire.max_tokens, "max_tokens")
    else:
        max_tokens = _max_tokens(wire.max_completion_tokens, "max_completion_tokens")
    request = Generate(
        id=request_id,
        model=_model(wire.model),
        prompt=_chat_prompt(wire),
        n=_n(wire),
        max_tokens=max_tokens,
        stop=decode_stop(wire.stop),
        top_logprobs=_chat_logprobs(wire),
        sampling=decode_sampling(wire),
        constraint=decode_constraint(wire),
        ignore_eos=bool(wire.ignore_eos),
        cache_prompt=wire.cache_prompt is not False,
    )
    return Call(
        requests=(request,),
        stream=bool(wire.stream),
        include_usage=_includes_usage(wire),
        legacy_call=bool(wire.functions),
        reasoning=shows_reasoning(wire),
    )


def decode_completion(wire: CompletionRequest, *, request_id: str) -> Call:
    """Turn a text completion's body into a generation for each prompt.

    Raises:
        InvalidRequest: A field has a value that means nothing or is out of
            range, or asks for what this server cannot do.
    """
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
    constraint = decode_constraint(wire)
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
            constraint=constraint,
            ignore_eos=bool(wire.ignore_eos),
            cache_prompt=wire.cache_prompt is not False,
        )
        for number, item in enumerate(inputs)
    )
    return Call(
        requests=requests,
        stream=bool(wire.stream),
        include_usage=_includes_usage(wire),
    )


def _chat_prompt(wire: ChatRequest) -> ChatPrompt:
    messages = decode_messages(wire.messages)
    tools, choice = decode_tools(wire)
    return ChatPrompt(
        messages=messages,
        template_kwargs=wire.chat_template_kwargs or {},
        tools=tools,
        tool_choice=choice,
        reasoning=decode_reasoning(wire),
        continues=decode_continuation(wire, messages),
    )


def _includes_usage(wire: Sampled) -> bool:
    return wire.stream_options is not None and bool(wire.stream_options.include_usage)


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
    if wire.audio is not None:
        raise _unsupported("audio", "Models here write text.")
    for number, modality in enumerate(wire.modalities or ()):
        if modality != "text":
            raise _unsupported(f"modalities[{number}]", "Models here write text.")


def _unsupported(param: str, advice: str) -> InvalidField:
    return InvalidField(
        f"Unsupported parameter: '{param}' is not available on this server. {advice}",
        code="unsupported_parameter",
        param=param,
    )

import pytest

from server.core.errors import ErrorInfo
from server.core.events import (
    ChoiceFinished,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    Timings,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from server.core.fold import Fold
from server.dialects.openai.encode import Head
from server.dialects.openai.encode_text import (
    CompletionChunks,
    LegacyLogprobs,
    encode_completion,
)

HEAD = Head(id="cmpl-1", created_s=1760000000)
TOKENS = (
    TokenLogprob(1, "Zoë".encode(), None),
    TokenLogprob(2, b"\xe2\x9d", -0.5, (TopLogprob(9, b"\xe2", -0.25),)),
    TokenLogprob(3, b"\xa4", -0.125, (TopLogprob(3, b"\xa4", -0.125),)),
    TokenLogprob(4, b"!", float("-inf")),
)


def events(text, tokens=(), *, prompt_tokens=2):
    return (
        Started("m", prompt_tokens),
        TextDelta(0, text, tokens),
        TextDelta(1, text.upper()),
        ChoiceFinished(0, FinishReason.EOS),
        ChoiceFinished(1, FinishReason.MAX_TOKENS),
        Finished(Usage(prompt_tokens, 3, cached_tokens=1), Timings(0, 0.1, 0.2)),
    )


def folded(*generations):
    folds = tuple(Fold(2) for _ in generations)
    for fold, generation in zip(folds, generations, strict=True):
        for event in generation:
            fold.add(event)
    return folds


def test_choices_of_several_prompts_are_numbered_on():
    answer = encode_completion(
        HEAD, folded(events("a"), events("b", prompt_tokens=5)), logprobs=False
    )
    assert answer == {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1760000000,
        "model": "m",
        "choices": [
            {"index": 0, "text": "a", "logprobs": None, "finish_reason": "stop"},
            {"index": 1, "text": "A", "logprobs": None, "finish_reason": "length"},
            {"index": 2, "text": "b", "logprobs": None, "finish_reason": "stop"},
            {"index": 3, "text": "B", "logprobs": None, "finish_reason": "length"},
        ],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 6,
            "total_tokens": 13,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        "stats": {},
        "system_fingerprint": "m",
    }


def test_an_unfinished_generation_is_not_shown():
    with pytest.raises(ValueError, match="has not finished"):
        encode_completion(HEAD, folded(events("a")[:-1]), logprobs=False)


SHOWN = {
    "tokens": ["Zoë", "bytes:\\xe2\\x9d", "bytes:\\xa4", "!"],
    "token_logprobs": [None, -0.5, -0.125, -9999.0],
    "top_logprobs": [
        None,
        {"bytes:\\xe2": -0.25, "bytes:\\xe2\\x9d": -0.5},
        {"bytes:\\xa4": -0.125},
        {"!": -9999.0},
    ],
    "text_offset": [0, 3, 3, 4],
}


def test_log_probabilities_have_the_older_shape_and_true_offsets():
    assert SHOWN == LegacyLogprobs().encode(TOKENS)
    answer = encode_completion(HEAD, folded(events("Zoë❤!", TOKENS)), logprobs=True)
    assert SHOWN == answer["choices"][0]["logprobs"]


@pytest.mark.parametrize("cut", range(len(TOKENS) + 1))
def test_offsets_run_on_through_the_pieces_of_a_stream(cut):
    encoder = LegacyLogprobs()
    first, second = encoder.encode(TOKENS[:cut]), encoder.encode(TOKENS[cut:])
    assert SHOWN == {name: first[name] + second[name] for name in SHOWN}


def chunks(*generations, logprobs=False, include_usage=False):
    encoder = CompletionChunks(
        HEAD,
        n_prompts=len(generations),
        n=2,
        logprobs=logprobs,
        include_usage=include_usage,
    )
    return [
        chunk
        for prompt, generation in enumerate(generations)
        for event in generation
        for chunk in encoder.chunks(prompt, event)
    ]


def test_chunks_carry_text_and_end_with_the_reason():
    shown = chunks(events("a"), events("b"))
    assert {"text_completion"} == {chunk["object"] for chunk in shown}
    assert not any("usage" in chunk for chunk in shown)
    assert [
        (0, "a", None),
        (1, "A", None),
        (0, "", "stop"),
        (1, "", "length"),
        (2, "b", None),
        (3, "B", None),
        (2, "", "stop"),
        (3, "", "length"),
    ] == [
        (choice["index"], choice["text"], choice["finish_reason"])
        for chunk in shown
        for choice in chunk["choices"]
    ]


def test_usage_comes_once_and_counts_every_prompt():
    *others, last = chunks(events("a"), events("b"), include_usage=True)
    assert {None} == {chunk["usage"] for chunk in others}
    assert ([], 4, 6) == (
        last["choices"],
        last["usage"]["prompt_tokens"],
        last["usage"]["completion_tokens"],
    )


def test_log_probabilities_travel_with_their_text():
    first, second, *_ = chunks(events("Zoë❤!", TOKENS), logprobs=True)
    assert SHOWN == first["choices"][0]["logprobs"]
    assert second["choices"][0]["logprobs"] is None


def test_what_only_chats_have_and_errors_are_no_chunks():
    failed = Failed(ErrorInfo(code="c", message="m"))
    assert [] == chunks([ReasoningDelta(0, "hm"), failed])

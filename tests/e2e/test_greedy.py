"""Greedy answers are llama.cpp's own, token for token.

With others in the batch the shape of the computation changes, and with it the
last bits of the logits: an answer may then leave llama.cpp's only where its
two best logits nearly tie.
"""

import threading
from contextlib import ExitStack

import pytest

from tests.e2e.greedy_loop import (
    BATCH_TIE,
    check_same,
    generate_alone,
    show,
    show_tokens,
)
from tests.e2e.server_process import GREEDY, texts_of

N_TOKENS = 100
N_OTHERS = 8
N_BESIDE = 60
STORIES = "karpathy/stories/stories260K.gguf"
STORY_PROMPTS = [
    "Once upon a time, there was a big dog",
    "The cat sat on the",
    "One day Tom found a red ball. He",
    "Lily and her mom went to the park. They saw",
]
PROMPTS = ["The river runs past", "When the wheel turns", "ice is only water"]
MADE = {
    "tiny-llama": "acme/llama/tiny-llama-F32.gguf",
    "tiny-qwen2": "acme/qwen/Tiny-Qwen2.gguf",
    "tiny-gemma3": "acme/gemma/tiny-gemma3.gguf",
    "tiny-mamba": "acme/mamba/tiny-mamba.gguf",
    "tiny-jamba": "acme/jamba/tiny-jamba.gguf",
}


@pytest.mark.model
def test_stories_are_llama_cpps_own_whole_and_streamed(real_server, real_models):
    """The first answer to a prompt is equal to the last token.

    The second one finds the prompt in the cache, computed in another batch
    shape and among other cells: it may leave at a near tie.
    """
    answers = generate_alone(real_models / STORIES, STORY_PROMPTS, N_TOKENS)
    for index, (prompt, alone) in enumerate(zip(STORY_PROMPTS, answers, strict=True)):
        asked = {"max_tokens": N_TOKENS, "logprobs": 0}

        def ask_whole(prompt=prompt, asked=asked):
            whole = real_server.complete("stories260k", prompt, **asked)
            assert whole["choices"][0]["text"] == "".join(show_tokens(whole))
            return whole["choices"][0]["text"]

        def ask_streamed(prompt=prompt, asked=asked):
            body = {"model": "stories260k", "prompt": prompt, **asked, **GREEDY}
            with real_server.stream("/v1/completions", **body) as stream:
                return texts_of(list(stream))

        first, second = (
            (ask_whole, ask_streamed) if index % 2 else (ask_streamed, ask_whole)
        )
        assert alone.text == first()
        n_sure = next(
            (i for i, gap in enumerate(alone.gaps) if gap < BATCH_TIE), N_TOKENS
        )
        sure = "".join(show(piece) for piece in alone.pieces[:n_sure])
        assert second().startswith(sure)


@pytest.mark.parametrize("model", MADE)
def test_answers_are_llama_cpps_own(server, made_models, model):
    alones = generate_alone(made_models / MADE[model], PROMPTS, N_TOKENS)
    for prompt, alone in zip(PROMPTS, alones, strict=True):
        answer = server.complete(model, prompt, max_tokens=N_TOKENS, logprobs=0)
        check_same(alone, answer)
        assert N_TOKENS == len(show_tokens(answer))


@pytest.mark.model
def test_stories_are_llama_cpps_own_with_eight_others_in_flight(
    start_server, real_models
):
    alones = generate_alone(real_models / STORIES, STORY_PROMPTS, N_BESIDE)
    server = start_server(
        *("--models-dir", real_models),
        *("--parallel", str(N_OTHERS + 1), "--context-length", "8192"),
    )
    check_beside_others(
        server, "stories260k", dict(zip(STORY_PROMPTS, alones, strict=True))
    )


@pytest.mark.parametrize("model", ["tiny-gemma3", "tiny-mamba"])
def test_answers_are_llama_cpps_own_with_eight_others_in_flight(
    start_server, made_models, model
):
    alones = generate_alone(made_models / MADE[model], PROMPTS, N_BESIDE)
    server = start_server(
        *("--models-dir", made_models),
        *("--parallel", str(N_OTHERS + 1), "--context-length", "8192"),
    )
    check_beside_others(server, model, dict(zip(PROMPTS, alones, strict=True)))


def check_beside_others(server, model, alone_by_prompt):
    """Ask while other streams run, and see that those ran all the time."""
    counts = [0] * N_OTHERS
    stop = threading.Event()

    def read_on(number, stream):
        for _ in stream:
            counts[number] += 1
            if stop.is_set():
                return

    with ExitStack() as stack:
        readers = []
        for number in range(N_OTHERS):
            asked = {"model": model, "prompt": f"{'water ' * number}The mill"}
            # Without the bias against its end a story would be over too soon.
            asked |= {"temperature": 1.5, "seed": number, "logit_bias": {"2": -100}}
            stream = stack.enter_context(server.stream("/v1/completions", **asked))
            reader = threading.Thread(target=read_on, args=(number, stream))
            reader.start()
            readers.append(reader)
        for prompt, alone in alone_by_prompt.items():
            before = list(counts)
            answer = server.complete(model, prompt, max_tokens=N_BESIDE, logprobs=2)
            assert all(a > b + 10 for a, b in zip(counts, before, strict=True))
            check_same(alone, answer, near_tie=BATCH_TIE)
        stop.set()
        for reader in readers:
            reader.join(10)

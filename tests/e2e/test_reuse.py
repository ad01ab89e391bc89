"""Reuse of what was computed before never changes an answer.

Recurrent and hybrid models cannot cut a sequence anywhere, sliding windows
forget: each request here is one that a wrong reuse would answer wrongly.
"""

import pytest

from tests.e2e.greedy_loop import check_same, generate_alone

N_TOKENS = 40
MODELS = {
    "tiny-llama": "acme/llama/tiny-llama-F32.gguf",
    "tiny-gemma3": "acme/gemma/tiny-gemma3.gguf",
    "tiny-mamba": "acme/mamba/tiny-mamba.gguf",
    "tiny-jamba": "acme/jamba/tiny-jamba.gguf",
}
STEM = "Each morning a boat comes down the river with sacks of grain. " * 4
QUESTION = "What did she say when they thanked her?"
MIDDLE = "Once there was a winter when the river froze from bank to bank. "


@pytest.mark.parametrize("model", MODELS)
def test_repeated_and_prefix_sharing_prompts_are_answered_rightly(
    server, made_models, model
):
    path = made_models / MODELS[model]
    (first,) = generate_alone(path, [STEM + QUESTION], N_TOKENS)
    conversation = first.prompt + first.tokens
    prompts = [
        STEM + QUESTION,
        STEM + QUESTION,  # the same again
        STEM + QUESTION + MIDDLE,  # longer
        STEM + MIDDLE,  # leaves it in the middle
        STEM,  # ends inside it
        MIDDLE + STEM,  # shares nothing
        conversation,  # goes on after the answer
        conversation[:-7],  # ends inside the answer
        conversation[:-7] + first.prompt[:9],  # leaves the answer
        STEM + QUESTION,
    ]
    alones = generate_alone(path, prompts, N_TOKENS)
    for prompt, alone in zip(prompts, alones, strict=True):
        answer = server.complete(model, prompt, max_tokens=N_TOKENS, logprobs=0)
        assert len(alone.prompt) == answer["usage"]["prompt_tokens"]
        check_same(alone, answer)


@pytest.mark.parametrize("model", MODELS)
def test_a_conversation_that_goes_on_is_found_in_the_cache(server, made_models, model):
    prompt = [300 + number % 150 for number in range(200)]
    (alone,) = generate_alone(made_models / MODELS[model], [prompt], N_TOKENS)
    server.complete(model, prompt, max_tokens=N_TOKENS)
    longer = prompt + alone.tokens + [301, 302, 303]
    (expected,) = generate_alone(made_models / MODELS[model], [longer], N_TOKENS)
    answer = server.complete(model, longer, max_tokens=N_TOKENS, logprobs=0)
    check_same(expected, answer)
    n_cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert n_cached >= len(prompt)

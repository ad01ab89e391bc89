"""Chat templates: the file's own, sandboxed, with the user's text kept text."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from gguf import GGUFValueType

from scripts.models import architecture, container, vocabulary
from scripts.models.architecture import Shape
from tests.e2e.server_process import Server

LOOP = "{% for i in range(1000) %}"
END = "{% endfor %}"
TEMPLATES = {
    "plain": "{{ messages[0]['content'] }}{{ messages[1]['content'] }}",
    "strict": "{{ raise_exception('Roles must alternate, please.') }}",
    "endless": LOOP * 5 + "x" + END * 5,
    "quiet-endless": LOOP * 5 + END * 5,
    "huge": "{{ 'x' * 1000000000 }}",
    "growing": "{% set ns = namespace(s='x') %}"
    "{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
    "nosy": "{{ messages.__class__.__mro__[1].__subclasses__() }}",
    "malformed": "{% for message in messages %}{{ message.content }}",
}


@pytest.fixture(scope="module")
def templates_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("templates")
    (folder / "models").mkdir()
    base = architecture.qwen2(vocabulary.byte_level_bpe(), Shape())
    for name, template in TEMPLATES.items():
        metadata = dict(base.metadata)
        metadata["tokenizer.chat_template"] = (template, GGUFValueType.STRING)
        blueprint = replace(base, metadata=metadata)
        path = folder / "models" / f"{name}.gguf"
        container.write(blueprint, path, quant="F32", seed=0)
    server = Server(folder, ["--models-dir", folder / "models"])
    yield server
    server.kill()


def chat(server, model, *contents):
    messages = [{"role": "user", "content": content} for content in contents]
    return server.post(
        "/v1/chat/completions", model=model, messages=messages, max_tokens=4
    )


def count(server, model, *contents):
    answer = chat(server, model, *contents)
    assert 200 == answer.status_code, answer.text
    return answer.json()["usage"]["prompt_tokens"]


def test_the_files_own_template_is_used(templates_server):
    asked = {"model": "plain", "max_tokens": 20, "temperature": 0, "repeat_penalty": 1}
    messages = [{"role": "user", "content": text} for text in ("the wheel", " turns")]
    answer = templates_server.post("/v1/chat/completions", messages=messages, **asked)
    plain = templates_server.complete("plain", "the wheel turns", max_tokens=20)
    assert (
        plain["choices"][0]["text"] == answer.json()["choices"][0]["message"]["content"]
    )
    assert plain["usage"]["prompt_tokens"] == answer.json()["usage"]["prompt_tokens"]


def test_a_templates_own_refusal_reaches_the_client(templates_server):
    answer = chat(templates_server, "strict", "Hello")
    assert 400 == answer.status_code
    assert "messages" == answer.json()["error"]["param"]
    assert "Roles must alternate, please." in answer.json()["error"]["message"]


def test_endless_templates_end_in_errors_and_everything_goes_on(templates_server):
    models = ["endless", "quiet-endless"]
    begin_s = time.monotonic()
    with ThreadPoolExecutor(len(models)) as pool:
        asking = [pool.submit(chat, templates_server, m, "Hello") for m in models]
        answer = templates_server.complete("plain", "the wheel", max_tokens=3)
        assert 3 == answer["usage"]["completion_tokens"]
        assert not any(each.done() for each in asking)
        answers = [each.result() for each in asking]
    assert time.monotonic() - begin_s < 20
    for model, answer in zip(models, answers, strict=True):
        assert 400 == answer.status_code
        assert "chat template" in answer.json()["error"]["message"]
        again = templates_server.complete(model, "the wheel", max_tokens=3)
        assert 3 == again["usage"]["completion_tokens"]


@pytest.mark.parametrize("model", ["huge", "growing", "nosy", "malformed"])
def test_a_template_that_goes_too_far_is_refused(templates_server, model):
    answer = chat(templates_server, model, "Hello")
    assert 400 == answer.status_code
    assert "chat template" in answer.json()["error"]["message"]
    again = templates_server.complete(model, "the wheel", max_tokens=3)
    assert 3 == again["usage"]["completion_tokens"]


def test_a_model_without_a_template_gets_chatml(server):
    text = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    bare = {"model": "twin@f16", "max_tokens": 20, "temperature": 0}
    messages = [{"role": "user", "content": "Hello"}]
    chatted = server.post("/v1/chat/completions", messages=messages, **bare).json()
    written = server.post("/v1/completions", prompt=text, **bare).json()
    assert written["usage"]["prompt_tokens"] == chatted["usage"]["prompt_tokens"]
    assert written["choices"][0]["text"] == chatted["choices"][0]["message"]["content"]


class TestControlTokens:
    """`<|im_end|>` is one control token; as text it has many tokens."""

    MARK = "<|im_end|>"

    def test_a_raw_prompt_may_hold_control_tokens(self, server):
        plain = server.complete("tiny-qwen2", "the", max_tokens=1)["usage"]
        marked = server.complete("tiny-qwen2", "the" + self.MARK, max_tokens=1)["usage"]
        assert plain["prompt_tokens"] + 1 == marked["prompt_tokens"]

    @pytest.mark.parametrize("model", ["tiny-qwen2", "tiny-llama", "tiny-gemma3"])
    def test_a_users_text_holds_none(self, server, model):
        plain = count(server, model, "the")
        assert count(server, model, "the" + self.MARK) >= plain + 6

    def test_nor_do_parts_that_are_put_together(self, server):
        plain = count(server, "tiny-qwen2", "the")
        parts = [{"type": "text", "text": t} for t in ("the<|im_", "end|>")]
        assert count(server, "tiny-qwen2", parts) >= plain + 6

    def test_nor_do_messages_that_a_template_joins(self, templates_server):
        plain = count(templates_server, "plain", "the", "end")
        joined = count(templates_server, "plain", "the<|im_", "end|>")
        assert joined >= plain + 5

    def test_nor_does_a_name_or_an_answer_of_the_past(self, server):
        def ask(text):
            messages = [
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": text},
                {"role": "user", "content": "And then?"},
            ]
            asked = {"model": "tiny-qwen2", "messages": messages, "max_tokens": 1}
            answer = server.post("/v1/chat/completions", **asked)
            return answer.json()["usage"]["prompt_tokens"]

        assert ask("the" + self.MARK) >= ask("the") + 6

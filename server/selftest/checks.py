"""The checks of a running server, each with a result that is known beforehand.

A check returns a short detail, or raises `CheckFailed`. All of them ask the
built-in model; the recorded answers say what it has to say.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, Final

from server.selftest.chunks import Folded, fold_chunks
from server.selftest.client import LoopbackClient, Reply
from server.selftest.comparison import (
    INSTALL_AGAIN,
    SEE_GREEDY,
    expect_call,
    expect_error,
    expect_number,
    expect_object,
    expect_text,
    quote,
    read_fields,
    refuse,
)
from server.selftest.recorded import CHAT_KINDS, KINDS, Answer, Kind, Recorded
from server.selftest.report import CheckFailed

BATCH_SIZES: Final = (1, 2, 4, 8)

TOO_LONG: Final = 2**18 + 1
"""Tokens; more than any context that one would give a server for all models."""

COMPLETIONS: Final = "/v1/completions"
CHAT: Final = "/v1/chat/completions"
EMBEDDINGS: Final = "/v1/embeddings"

_GREEDY: Final = {"temperature": 0, "repeat_penalty": 1}
_SPARE_TOKENS: Final = 8
_OBJECT_TOKENS: Final = 128
_TEMPLATED: Final = "prompt tokens, as the chat template makes them"


class Checks:
    """What is asked of one server.

    Args:
        client: Connected to it.
        model: The built-in model's id there.
        recorded: What it has to answer.
    """

    def __init__(self, client: LoopbackClient, model: str, recorded: Recorded) -> None:
        self._client = client
        self._model = model
        self._recorded = recorded

    def health(self) -> str:
        """Check that the server accepts requests."""
        reply = self._client.get("/health")
        body = reply.body if isinstance(reply.body, dict) else {}
        if reply.status != HTTPStatus.OK or body.get("status") != "ok":
            raise CheckFailed(
                expected='status 200: {"status": "ok"} from /health',
                actual=reply.show(),
                advice="Is it a Cloister that listens there? Check --url.",
            )
        return self._client.url

    def seal(self) -> str:
        """Check that the server says of itself that the kernel seals it."""
        reply = self._client.get("/cloister/seal")
        fields = read_fields(reply)
        if fields.get("level") != "kernel":
            raise CheckFailed(
                expected='"level": "kernel" in /cloister/seal',
                actual=reply.show(),
                advice="Start the server with --offline; it says what is missing.",
            )
        return str(fields.get("meaning", "kernel"))

    def is_listed(self) -> str:
        """Check that the server offers the built-in model."""
        reply = self._client.get("/v1/models")
        if reply.status != HTTPStatus.OK:
            raise refuse(reply)
        ids = [model["id"] for model in read_fields(reply)["data"]]
        if self._model not in ids:
            raise CheckFailed(
                expected=f"'{self._model}' in /v1/models",
                actual=reply.show(),
                advice="Start the server without --no-builtin.",
            )
        return f"{self._model}, and {len(ids) - 1} more"

    def load(self) -> str:
        """Check that the model is loaded and makes a token."""
        reply = self._complete(self._recorded.answers[0], max_tokens=1)
        count = reply["usage"]["completion_tokens"]
        if count != 1:
            raise CheckFailed(
                expected="1 token", actual=f"{count} tokens", advice=INSTALL_AGAIN
            )
        return "a worker has it and made a token"

    def greedy(self, n_at_once: int) -> str:
        """Check all answers, with so many requests in flight at any time."""
        answers = self._recorded.answers
        # Each size puts other neighbours into a batch.
        turn = n_at_once % len(answers)
        turned = answers[turn:] + answers[:turn]
        with ThreadPoolExecutor(n_at_once) as pool:
            problems = list(pool.map(self._compare, turned))
        found = [problem for problem in problems if problem is not None]
        if found:
            first = found[0]
            raise CheckFailed(
                expected=first.expected,
                actual=f"{first.actual}; {len(found)} of {len(answers)} answers differ",
                advice=first.advice,
            )
        n_tokens = sum(len(answer.answer_tokens) for answer in answers)
        return f"{len(answers)} answers, {n_tokens} tokens, as recorded"

    def chat(self) -> str:
        """Check chats: the template's prompt, the text, the end."""
        answers = [self._recorded.of_kind(kind) for kind in KINDS if kind in CHAT_KINDS]
        for answer in answers:
            choice = self._chat(answer)
            expect_text(answer, choice["message"]["content"], choice["finish_reason"])
        return f"{len(answers)} answers, {quote(answers[0].text)}"

    def streamed_chat(self) -> str:
        """Check that a stream has the same text, in pieces, and ends as it should."""
        answer = self._recorded.of_kind("cloister")
        folded = self._stream(answer)
        expect_text(answer, folded.text, folded.reason)
        if len(folded.texts) <= 1:
            raise CheckFailed(
                expected="the answer in several pieces",
                actual=f"{len(folded.texts)}",
                advice=INSTALL_AGAIN,
            )
        return f"the same text in {len(folded.texts)} pieces, [DONE]"

    def tool_call(self) -> str:
        """Check that tools reach the model, and its call the client as a call."""
        answer = self._recorded.of_kind("calls")
        choice = self._chat(answer)
        message = choice["message"]
        calls = message.get("tool_calls") or ()
        return expect_call(answer, calls, message["content"], choice["finish_reason"])

    def streamed_tool_call(self) -> str:
        """Check that the deltas of a streamed call make the same call."""
        answer = self._recorded.of_kind("calls")
        folded = self._stream(answer)
        expect_call(answer, folded.calls, folded.text, folded.reason)
        return f"the same call, arguments in {folded.n_arguments} pieces"

    def json_schema(self) -> str:
        """Check that a schema is kept to, also by what would be no JSON at all."""
        record = self._recorded.of_kind("records")
        keys = record.read_keys()
        # Asked the second, the model is known to answer in plain words.
        answers = (record, self._recorded.of_kind("no_thinking"))
        for answer in answers:
            choice = self._chat(
                answer,
                max_tokens=_OBJECT_TOKENS,
                response_format=_require(keys),
            )
            text, reason = choice["message"]["content"], choice["finish_reason"]
            expect_object(keys, text or "", reason)
        return f"{len(answers)} objects with {', '.join(keys)} alone"

    def thinking(self, kind: Kind) -> str:
        """Check that a thought comes apart from the answer, and only if asked for."""
        answer = self._recorded.of_kind(kind)
        thought, text = answer.split_thought()
        choice = self._chat(answer)
        message = choice["message"]
        came = message.get("reasoning_content") or ""
        if came != thought:
            raise CheckFailed(
                expected=_show_thought(thought),
                actual=f"{_show_thought(came)}, content {message['content']!r}",
                advice=SEE_GREEDY,
            )
        expect_text(
            answer,
            message["content"],
            choice["finish_reason"],
            expected=text,
            advice=SEE_GREEDY,
        )
        return f"thought {quote(thought)}" if thought else f"no thought, {quote(text)}"

    def embeddings(self) -> str:
        """Check that the model refuses what it was not made for."""
        body = {"model": self._model, "input": "Hello"}
        reply = self._client.post(EMBEDDINGS, body)
        return expect_error(reply, HTTPStatus.BAD_REQUEST, "wrong_model_type")

    def prefix_cache(self) -> str:
        """Check that a prompt that came before is not computed again."""
        answer = max(self._recorded.answers, key=lambda a: len(a.prompt_tokens))
        n_prompt = len(answer.prompt_tokens)
        self._ask(answer)
        usage = self._ask(answer)["usage"]
        details = usage.get("prompt_tokens_details") or {}
        n_cached = details.get("cached_tokens") or 0
        if not 0 < n_cached < n_prompt:
            raise CheckFailed(
                expected=f"some of {n_prompt} prompt tokens from the cache",
                actual=f"{n_cached}",
                advice=INSTALL_AGAIN,
            )
        return f"{n_cached} of {n_prompt} prompt tokens reused, same answer"

    def too_long(self) -> str:
        """Check that a prompt that does not fit is refused and not cut."""
        token = self._recorded.answers[0].prompt_tokens[0]
        reply = self._client.post(
            COMPLETIONS,
            {"model": self._model, "prompt": [token] * TOO_LONG, "max_tokens": 1},
        )
        return expect_error(reply, HTTPStatus.BAD_REQUEST, "context_length_exceeded")

    def _compare(self, answer: Answer) -> CheckFailed | None:
        try:
            self._ask(answer)
        except CheckFailed as error:
            return error
        return None

    def _ask(self, answer: Answer) -> dict[str, Any]:
        """Ask by the recorded tokens; the answer must be the recorded one."""
        body = self._complete(answer)
        choice, n_tokens = body["choices"][0], body["usage"]["completion_tokens"]
        expect_text(answer, choice["text"], choice["finish_reason"])
        # The token that ends the turn is counted, though not recorded.
        n_expected = len(answer.answer_tokens) + 1
        expect_number("tokens in the answer, its end included", n_expected, n_tokens)
        return body

    def _complete(
        self, answer: Answer, *, max_tokens: int | None = None
    ) -> dict[str, Any]:
        limit = len(answer.answer_tokens) + _SPARE_TOKENS
        reply = self._client.post(
            COMPLETIONS,
            {
                "model": self._model,
                "prompt": answer.prompt_tokens,
                "max_tokens": max_tokens or limit,
                **_GREEDY,
            },
        )
        self._choice(reply)
        body: dict[str, Any] = reply.body
        return body

    def _chat(self, answer: Answer, **options: object) -> dict[str, Any]:
        """Ask as a chat; the prompt must be the recorded one."""
        reply = self._client.post(CHAT, {**self._chat_body(answer), **options})
        choice = self._choice(reply)
        n_prompt = reply.body["usage"]["prompt_tokens"]
        expect_number(_TEMPLATED, len(answer.prompt_tokens), n_prompt)
        return choice

    def _stream(self, answer: Answer) -> Folded:
        body = {**self._chat_body(answer), "stream": True}
        status, data = self._client.stream(CHAT, body)
        if status != HTTPStatus.OK:
            raise refuse(Reply(status, data[0]))
        return fold_chunks(data)

    def _chat_body(self, answer: Answer) -> dict[str, Any]:
        body = {
            "model": self._model,
            "messages": answer.messages,
            "max_tokens": len(answer.answer_tokens) + _SPARE_TOKENS,
            **_GREEDY,
        }
        if answer.tools:
            body["tools"] = answer.tools
        if answer.thinks:
            body["chat_template_kwargs"] = {"enable_thinking": True}
        return body

    def _choice(self, reply: Reply) -> dict[str, Any]:
        if reply.status != HTTPStatus.OK:
            raise refuse(reply)
        choice: dict[str, Any] = read_fields(reply)["choices"][0]
        return choice


def _require(keys: Sequence[str]) -> dict[str, Any]:
    """Make a `response_format`: an object with these keys, all of them strings."""
    schema = {
        "type": "object",
        "properties": {key: {"type": "string"} for key in keys},
        "required": list(keys),
        "additionalProperties": False,
    }
    named = {"name": "record", "schema": schema, "strict": True}
    return {"type": "json_schema", "json_schema": named}


def _show_thought(thought: str) -> str:
    return f"reasoning_content {thought!r}" if thought else "no reasoning_content"

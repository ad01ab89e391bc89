"""The checks of a running server, each with a result that is known beforehand.

A check returns a short detail, or raises `CheckFailed`. All of them ask the
built-in model; the recorded answers say what it has to say.
"""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, Final, NoReturn

from server.selftest.client import LoopbackClient, Reply
from server.selftest.recorded import CHAT_KINDS, KINDS, Answer, Kind, Recorded
from server.selftest.report import CheckFailed

BATCH_SIZES: Final = (1, 2, 4, 8)

TOO_LONG: Final = 2**18 + 1
"""Tokens; more than any context that one would give a server for all models."""

COMPLETIONS: Final = "/v1/completions"
CHAT: Final = "/v1/chat/completions"
EMBEDDINGS: Final = "/v1/embeddings"

BUILD_AGAIN: Final = (
    "The engine computes wrongly on this machine. Build it with the plainest flags: "
    'CMAKE_ARGS="-DGGML_NATIVE=OFF" make install'
)
INSTALL_AGAIN: Final = (
    "The program is not as released. Install it again: make clean && make install"
)
SEE_LOG: Final = (
    "See what the server logged. If its engine fails, prove and repair it: make install"
)
GIVE_KEY: Final = "Put a key or token of that server into CLOISTER_API_KEY."

_GREEDY: Final = {"temperature": 0, "repeat_penalty": 1}
_SPARE_TOKENS: Final = 8
_CONTEXT_CHARS: Final = 30
_TOOL_CALL: Final = re.compile(r"<tool_call>\n(.*)\n</tool_call>", re.DOTALL)
_THOUGHT: Final = re.compile(r"<think>\n.+?\n</think>\n\n.", re.DOTALL)


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
        fields = _fields(reply)
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
            raise _refused(reply)
        ids = [model["id"] for model in _fields(reply)["data"]]
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
            body = self._chat_body(answer)
            reply = self._client.post(CHAT, body)
            choice = self._choice(reply)
            _same_text(answer, choice["message"]["content"], choice["finish_reason"])
            _same_number(
                "prompt tokens, as the chat template makes them",
                len(answer.prompt_tokens),
                reply.body["usage"]["prompt_tokens"],
            )
        return f"{len(answers)} answers, {_quote(answers[0].text)}"

    def streamed_chat(self) -> str:
        """Check that a stream has the same text, in pieces, and ends as it should."""
        answer = self._recorded.of_kind("cloister")
        body = {**self._chat_body(answer), "stream": True}
        status, data = self._client.stream(CHAT, body)
        if status != HTTPStatus.OK:
            raise _refused(Reply(status, data[0]))
        if data[-1:] != ["[DONE]"]:
            raise CheckFailed(
                expected="[DONE] at the end of the stream",
                actual=repr(data[-1:]),
                advice=INSTALL_AGAIN,
            )
        choices = [c for each in data[:-1] for c in json.loads(each)["choices"]]
        pieces = [c["delta"]["content"] for c in choices if c["delta"].get("content")]
        reasons = [c["finish_reason"] for c in choices if c["finish_reason"]]
        _same_text(answer, "".join(pieces), "".join(reasons))
        if len(pieces) <= 1:
            raise CheckFailed(
                expected="the answer in several pieces",
                actual=f"{len(pieces)}",
                advice=INSTALL_AGAIN,
            )
        return f"the same text in {len(pieces)} pieces, then [DONE]"

    def tool_call(self) -> str:
        """Check that a call of a tool comes out as text that can be read."""
        answer = self._recorded.of_kind("calls")
        expected, actual = _read_call(answer.text), _read_call(self._say(answer))
        if expected != actual:
            raise CheckFailed(
                expected=f"the tool call {json.dumps(expected)}",
                actual=json.dumps(actual),
                advice=BUILD_AGAIN,
            )
        return json.dumps(actual)

    def json_object(self) -> str:
        """Check that a JSON object has the keys that were asked for."""
        answer = self._recorded.of_kind("records")
        expected, actual = _keys(answer.text), _keys(self._say(answer))
        if expected != actual:
            raise CheckFailed(
                expected=f"a JSON object with the keys {expected}",
                actual=f"the keys {actual}",
                advice=BUILD_AGAIN,
            )
        return f"an object with the keys {', '.join(actual or ())}"

    def thinking(self, kind: Kind) -> str:
        """Check that there is a thinking block where the prompt wants one."""
        answer = self._recorded.of_kind(kind)
        text = self._say(answer)
        expected = "a thinking block" if answer.thinks else "no thinking block"
        found = "think>" in text
        if found != answer.thinks or (found and not _THOUGHT.match(text)):
            raise CheckFailed(expected=expected, actual=repr(text), advice=BUILD_AGAIN)
        return f"{expected}: {_quote(text)}"

    def embeddings(self) -> str:
        """Check that the model refuses what it was not made for."""
        body = {"model": self._model, "input": "Hello"}
        reply = self._client.post(EMBEDDINGS, body)
        return _expect_error(reply, HTTPStatus.BAD_REQUEST, "wrong_model_type")

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
        return f"{n_cached} of {n_prompt} prompt tokens reused, the same answer"

    def too_long(self) -> str:
        """Check that a prompt that does not fit is refused and not cut."""
        token = self._recorded.answers[0].prompt_tokens[0]
        reply = self._client.post(
            COMPLETIONS,
            {"model": self._model, "prompt": [token] * TOO_LONG, "max_tokens": 1},
        )
        return _expect_error(reply, HTTPStatus.BAD_REQUEST, "context_length_exceeded")

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
        _same_text(answer, choice["text"], choice["finish_reason"])
        # The token that ends the turn is counted, though not recorded.
        n_expected = len(answer.answer_tokens) + 1
        _same_number("tokens in the answer, its end included", n_expected, n_tokens)
        return body

    def _say(self, answer: Answer) -> str:
        """Ask by the recorded tokens, and take the text as it comes."""
        text: str = self._complete(answer)["choices"][0]["text"]
        return text

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

    def _chat_body(self, answer: Answer) -> dict[str, Any]:
        return {
            "model": self._model,
            "messages": answer.messages,
            "max_tokens": len(answer.answer_tokens) + _SPARE_TOKENS,
            **_GREEDY,
        }

    def _choice(self, reply: Reply) -> dict[str, Any]:
        if reply.status != HTTPStatus.OK:
            raise _refused(reply)
        choice: dict[str, Any] = _fields(reply)["choices"][0]
        return choice


def _refused(reply: Reply) -> CheckFailed:
    needs_key = reply.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    return CheckFailed(
        expected="status 200 and an answer",
        actual=reply.show(),
        advice=GIVE_KEY if needs_key else SEE_LOG,
    )


def _same_text(answer: Answer, text: str, reason: str) -> None:
    if text != answer.text:
        _tell_difference(answer, text)
    if reason != "stop":
        raise CheckFailed(
            expected=f"the answer {_quote(answer.text)} to end by itself",
            actual=f"finish_reason '{reason}'",
            advice=BUILD_AGAIN,
        )


def _tell_difference(answer: Answer, text: str) -> NoReturn:
    pairs = enumerate(zip(answer.text, text, strict=False))
    same = min(len(answer.text), len(text))
    place = next((i for i, (left, right) in pairs if left != right), same)
    start = max(place - _CONTEXT_CHARS, 0)
    end = place + _CONTEXT_CHARS
    raise CheckFailed(
        expected=f"{answer.kind}: from character {start} on {answer.text[start:end]!r}",
        actual=repr(text[start:end]),
        advice=BUILD_AGAIN,
    )


def _same_number(what: str, expected: int, actual: int) -> None:
    if expected != actual:
        raise CheckFailed(
            expected=f"{expected} {what}", actual=f"{actual}", advice=INSTALL_AGAIN
        )


def _expect_error(reply: Reply, status: int, code: str) -> str:
    error = _fields(reply).get("error") or {}
    if (reply.status, error.get("code")) != (status, code):
        raise CheckFailed(
            expected=f"status {status} with the code {code}",
            actual=reply.show(),
            advice=INSTALL_AGAIN,
        )
    return f"refused: {status:d}, {code}"


def _fields(reply: Reply) -> dict[str, Any]:
    return reply.body if isinstance(reply.body, dict) else {}


def _read_call(text: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    match = _TOOL_CALL.fullmatch(text)
    return None if match is None else _parse(match[1])


def _keys(text: str) -> list[str] | None:
    value = _parse(text)
    return sorted(value) if isinstance(value, dict) else None


def _parse(text: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    try:
        return json.loads(text)
    except ValueError:
        return None


def _quote(text: str) -> str:
    flat = " ".join(text.split())
    limit = 2 * _CONTEXT_CHARS
    return f'"{flat}"' if len(flat) <= limit else f'"{flat[:limit]}…"'

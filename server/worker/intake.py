"""From a request to tokens: what happens before the decode loop sees a job.

Runs on the worker's command thread, beside the loop. Everything that a client
can get wrong about a prompt is found here, before any work: templates that
refuse, prompts that do not fit, token ids that do not exist.
"""

import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from server.core.errors import (
    ContextLengthExceeded,
    EmbeddingInputTooLong,
    EngineFailed,
    InvalidRequest,
    ServerError,
)
from server.core.events import Failed, Started
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
    TextPrompt,
    Tokenize,
    Tokenized,
    TokenPrompt,
)
from server.core.sampling import SamplerSettings, settle_sampling
from server.ipc.messages import Answered, Events, Report, RequestEvent
from server.worker.chat import Chat
from server.worker.course import Form
from server.worker.prompt_size import count_excess
from server.worker.sequence import Job
from server.worker.tokens import Tokens, make_tokens
from server.worker.vocabulary import Vocabulary

_log = logging.getLogger(__name__)

_UNPREPARED = (
    "The engine failed while it prepared this prompt. The server's log has the cause."
)


class Intake:
    """Turns requests into jobs for one loaded model.

    Args:
        vocabulary: The model's tokenizer.
        chat: Renders conversations and knows the form of their answers.
        n_ctx: Most tokens of one request.
        instance_id: The name that `Started` carries.
        report: Sends a report; may be called from this thread.
        sampling: The model's own defaults, by field name.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        chat: Chat,
        *,
        n_ctx: int,
        instance_id: str,
        report: Callable[[Report], None],
        sampling: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._vocabulary = vocabulary
        self._chat = chat
        self._sampling = sampling
        self._n_ctx = n_ctx
        self._instance_id = instance_id
        self._report = report

    def accept(self, request: Generate) -> Job | None:
        """Check and tokenize a generation; report `Started` or `Failed`.

        Returns:
            None if the request was refused.
        """
        arrived_s = time.monotonic()
        try:
            job = self._make_job(request, arrived_s)
        except ServerError as error:
            self.refuse(request.id, error)
            return None
        except Exception:  # noqa: BLE001 - the border: one request's trouble stays its own
            _log.exception("a prompt could not be prepared")
            self.refuse(request.id, EngineFailed(_UNPREPARED))
            return None
        started = Started(self._instance_id, len(job.prompt), job.warnings)
        self._report(Events((RequestEvent(request.id, started),)))
        return job

    def accept_texts(self, request: Embed) -> list[Tokens] | None:
        """Check and tokenize texts to embed; report `Failed` if refused."""
        try:
            return [
                self._tokenize_input(index, item)
                for index, item in enumerate(request.inputs)
            ]
        except ServerError as error:
            self.refuse(request.id, error)
        except Exception:  # noqa: BLE001 - the border: one request's trouble stays its own
            _log.exception("texts could not be prepared")
            self.refuse(request.id, EngineFailed(_UNPREPARED))
        return None

    def answer(self, inquiry: Inquiry) -> None:
        """Answer a question about text; report `Answered` or `Failed`."""
        try:
            result = self._find_answer(inquiry)
        except ServerError as error:
            self.refuse(inquiry.id, error)
        except Exception:  # noqa: BLE001 - the border: one request's trouble stays its own
            _log.exception("an inquiry could not be answered")
            self.refuse(inquiry.id, EngineFailed(_UNPREPARED))
        else:
            self._report(Answered(inquiry.id, result))

    def refuse(self, request_id: str, error: ServerError) -> None:
        """Report that a request failed."""
        self._report(Events((RequestEvent(request_id, Failed(error.to_info())),)))

    def _find_answer(self, inquiry: Inquiry) -> InquiryResult:
        vocabulary = self._vocabulary
        match inquiry:
            case Tokenize(text=text):
                tokens = vocabulary.tokenize(
                    text,
                    add_special=inquiry.add_special,
                    parse_special=inquiry.parse_special,
                )
                pieces = tuple(map(vocabulary.spelling, tokens))
                return Tokenized(tuple(tokens), pieces)
            case Detokenize(tokens=ids):
                for token in ids:
                    self._check_token(token, "tokens")
                return Detokenized(self._spell(ids))
            case RenderPrompt(prompt=prompt):
                tokens, param, text = self._tokenize(prompt)
                tokens = tokens or self._empty_prompt(param)
                return Rendered(text or self._spell(tokens), len(tokens))

    def _make_job(self, request: Generate, arrived_s: float) -> Job:
        for token, _ in request.sampling.logit_bias:
            self._check_token(token, "logit_bias")
        prompt, param, text = self._tokenize(request.prompt)
        if not prompt:
            prompt = self._empty_prompt(param)
        if len(prompt) >= self._n_ctx:
            raise ContextLengthExceeded(
                n_prompt=len(prompt), n_ctx=self._n_ctx, param=param
            )
        form, warnings = self._chat.make_form(request, text)
        seed = request.sampling.seed
        return Job(
            request=request,
            prompt=prompt,
            sampling=self._settle(request, form),
            seed=secrets.randbits(32) if seed is None else seed,
            arrived_s=arrived_s,
            echo_text=self._echo_text(request, prompt) if request.echo else None,
            form=form,
            warnings=warnings,
        )

    def _settle(self, request: Generate, form: Form) -> SamplerSettings:
        """Settle how tokens are drawn."""
        settings = settle_sampling(request.sampling, self._sampling)
        if not request.ignore_eos or form.make_constraint is not None:
            # Where a constraint is met, the end may be all that it allows.
            return settings
        bans = tuple((token, -math.inf) for token in sorted(self._chat.ends))
        return replace(settings, logit_bias=(*settings.logit_bias, *bans))

    def _tokenize(self, prompt: Prompt) -> tuple[Tokens, str, str]:
        """Return the prompt's tokens, the name of its field, and a chat's text."""
        match prompt:
            case ChatPrompt() as chat:
                return self._render(chat)
            case TextPrompt(text, None):
                self._check_length([text], "prompt")
                tokens = self._vocabulary.tokenize(text, parse_special=True)
                return self._with_bos(tokens), "prompt", ""
            case TextPrompt(text, suffix):
                self._check_length([text, suffix or ""], "prompt")
                return self._fill_in_middle(text, suffix or ""), "prompt", ""
            case TokenPrompt(tokens):
                for token in tokens:
                    self._check_token(token, "prompt")
                return make_tokens(tokens), "prompt", ""

    def _render(self, chat: ChatPrompt) -> tuple[Tokens, str, str]:
        texts = [segment.text for segment in self._chat.render(chat)]
        self._check_length(texts, "messages")
        tokens = make_tokens()
        for text in texts:
            tokens += self._vocabulary.tokenize(text, parse_special=True)
        return self._with_bos(tokens), "messages", "".join(texts)

    def _check_length(self, texts: Sequence[str], param: str) -> None:
        n_prompt = count_excess(texts, self._count, self._n_ctx)
        if n_prompt is not None:
            raise ContextLengthExceeded(
                n_prompt=n_prompt, n_ctx=self._n_ctx, param=param, is_estimate=True
            )

    def _count(self, text: str) -> int:
        return len(self._vocabulary.tokenize(text, parse_special=True))

    def _with_bos(self, tokens: Tokens) -> Tokens:
        """Put the model's first token in front, unless a template did."""
        bos = self._vocabulary.bos
        if (
            not self._vocabulary.adds_bos
            or bos is None
            or tokens[:1] == make_tokens([bos])
        ):
            return tokens
        return make_tokens([bos]) + tokens

    def _fill_in_middle(self, prefix: str, suffix: str) -> Tokens:
        """Arrange prefix and suffix by the model's own fill-in tokens."""
        vocabulary = self._vocabulary
        begin, end, middle = (
            vocabulary.fim_prefix,
            vocabulary.fim_suffix,
            vocabulary.fim_middle,
        )
        if begin is None or end is None or middle is None:
            raise InvalidRequest(
                "This model has no fill-in-the-middle tokens, so 'suffix' cannot be "
                "used. Leave 'suffix' out or choose a model trained to fill in code.",
                param="suffix",
            )
        return self._with_bos(
            make_tokens([begin])
            + vocabulary.tokenize(prefix)
            + make_tokens([end])
            + vocabulary.tokenize(suffix)
            + make_tokens([middle])
        )

    def _empty_prompt(self, param: str) -> Tokens:
        """Begin from the model's start token where the prompt is empty."""
        for token in (self._vocabulary.bos, self._vocabulary.eos):
            if token is not None:
                return make_tokens([token])
        raise InvalidRequest("The prompt is empty. Send some text.", param=param)

    def _echo_text(self, request: Generate, prompt: Tokens) -> str:
        if isinstance(request.prompt, TextPrompt):
            return request.prompt.text
        pieces = b"".join(self._vocabulary.piece(token) for token in prompt)
        return pieces.decode("utf-8", "replace")

    def _spell(self, tokens: Sequence[int]) -> str:
        """Write tokens as text, control tokens by name."""
        pieces = b"".join(map(self._vocabulary.spelling, tokens))
        return pieces.decode("utf-8", "replace")

    def _tokenize_input(self, index: int, item: str | tuple[int, ...]) -> Tokens:
        if isinstance(item, str):
            n_tokens = count_excess([item], self._count, self._n_ctx)
            if n_tokens is not None:
                raise EmbeddingInputTooLong(
                    index=index, n_tokens=n_tokens, n_ctx=self._n_ctx, is_estimate=True
                )
            tokens = self._vocabulary.tokenize(item, add_special=True)
        else:
            for token in item:
                self._check_token(token, f"input[{index}]")
            tokens = make_tokens(item)
        if not tokens:
            raise InvalidRequest(
                f"Input {index} has no tokens. Send some text.", param=f"input[{index}]"
            )
        if len(tokens) > self._n_ctx:
            raise EmbeddingInputTooLong(
                index=index, n_tokens=len(tokens), n_ctx=self._n_ctx
            )
        return tokens

    def _check_token(self, token: int, param: str) -> None:
        n_tokens = self._vocabulary.n_tokens
        if not 0 <= token < n_tokens:
            raise InvalidRequest(
                f"Token id {token} does not exist: this model has the ids 0 to "
                f"{n_tokens - 1}.",
                param=param,
            )

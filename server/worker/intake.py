"""From a request to tokens: what happens before the decode loop sees a job.

Runs on the worker's command thread, beside the loop. Everything that a client
can get wrong about a prompt is found here, before any work: templates that
refuse, prompts that do not fit, token ids that do not exist.
"""

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import datetime

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
    Embed,
    Generate,
    TextPrompt,
    TokenPrompt,
)
from server.core.sampling import settle_sampling
from server.ipc.messages import Events, Report, RequestEvent
from server.text.template import CHATML, ChatTemplate, TemplateError
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
        template: The model's own chat template; None means ChatML.
        n_ctx: Most tokens of one request.
        instance_id: The name that `Started` carries.
        report: Sends a report; may be called from this thread.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        template: str | None,
        *,
        n_ctx: int,
        instance_id: str,
        report: Callable[[Report], None],
    ) -> None:
        self._vocabulary = vocabulary
        self._template_source = CHATML if template is None else template
        self._template: ChatTemplate | None = None
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
        started = Started(self._instance_id, len(job.prompt))
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

    def refuse(self, request_id: str, error: ServerError) -> None:
        """Report that a request failed."""
        self._report(Events((RequestEvent(request_id, Failed(error.to_info())),)))

    def _make_job(self, request: Generate, arrived_s: float) -> Job:
        for token, _ in request.sampling.logit_bias:
            self._check_token(token, "logit_bias")
        prompt, param = self._tokenize(request)
        if not prompt:
            prompt = self._empty_prompt(param)
        if len(prompt) >= self._n_ctx:
            raise ContextLengthExceeded(
                n_prompt=len(prompt), n_ctx=self._n_ctx, param=param
            )
        seed = request.sampling.seed
        return Job(
            request=request,
            prompt=prompt,
            sampling=settle_sampling(request.sampling, {}),
            seed=secrets.randbits(32) if seed is None else seed,
            arrived_s=arrived_s,
            echo_text=self._echo_text(request, prompt) if request.echo else None,
        )

    def _tokenize(self, request: Generate) -> tuple[Tokens, str]:
        """Return the prompt's tokens and the name of the field they are from."""
        match request.prompt:
            case ChatPrompt() as chat:
                return self._render(chat), "messages"
            case TextPrompt(text, None):
                self._check_length([text], "prompt")
                tokens = self._vocabulary.tokenize(text, parse_special=True)
                return self._with_bos(tokens), "prompt"
            case TextPrompt(text, suffix):
                self._check_length([text, suffix or ""], "prompt")
                return self._fill_in_middle(text, suffix or ""), "prompt"
            case TokenPrompt(tokens):
                for token in tokens:
                    self._check_token(token, "prompt")
                return make_tokens(tokens), "prompt"

    def _render(self, chat: ChatPrompt) -> Tokens:
        try:
            if self._template is None:
                self._template = ChatTemplate(
                    self._template_source,
                    bos=self._vocabulary.text(self._vocabulary.bos),
                    eos=self._vocabulary.text(self._vocabulary.eos),
                    control_texts=self._vocabulary.control_texts(),
                )
            segments = self._template.render(chat, now=datetime.now().astimezone())
        except TemplateError as error:
            raise InvalidRequest(error.message, param="messages") from error
        self._check_length([segment.text for segment in segments], "messages")
        tokens = make_tokens()
        for segment in segments:
            tokens += self._vocabulary.tokenize(segment.text, parse_special=True)
        return self._with_bos(tokens)

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

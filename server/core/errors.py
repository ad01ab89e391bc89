"""Everything that can go wrong on the server's side of the store.

    ServerError
    ├── InvalidRequest            400  the client's own mistake, names the field
    │   ├── ContextLengthExceeded 400  carries both counts
    │   ├── EmbeddingInputTooLong 400  carries both counts
    │   ├── WrongModelType        400  an embedding model asked to chat, or so
    │   └── BodyTooLarge          413
    ├── ModelNotFound             404  names what exists
    ├── RouteNotFound             404
    ├── MethodNotAllowed          405
    ├── QueueFull                 429  retryable
    ├── ModelLoadFailed           500  names the file and the reason
    ├── EngineFailed              500  native code refused a step
    ├── WorkerCrashed             500  retryable: the next request starts afresh
    ├── InsufficientMemory        503  with the numbers
    └── ShuttingDown              503

An error says what happened and what to do, in that order. It travels between
processes as `ErrorInfo`; each dialect renders that in its own shape, and
nobody decides anything by the text.
"""

from typing import ClassVar

from msgspec import Struct

_LISTED_MODELS = 8


class ErrorInfo(Struct, frozen=True, omit_defaults=True):
    """An error as data.

    `param` names the field at fault, in the client's own terms. `retryable`
    says that the same request may succeed later without any change.
    """

    code: str
    message: str
    http_status: int = 500
    param: str | None = None
    retryable: bool = False


class ServerError(Exception):
    """Base of all errors that a client may see."""

    code: ClassVar[str] = "server_error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def to_info(self) -> ErrorInfo:
        """Describe this error as data that can cross a process border."""
        return ErrorInfo(
            code=self.code,
            message=self.message,
            http_status=self.http_status,
            param=self.param,
            retryable=self.retryable,
        )


class InvalidRequest(ServerError):
    """The request itself is wrong; `param` names the field."""

    code = "invalid_value"
    http_status = 400


class ContextLengthExceeded(InvalidRequest):
    """The prompt has more tokens than the context holds.

    `is_estimate` says that nobody counted to the end.
    """

    code = "context_length_exceeded"

    def __init__(
        self,
        *,
        n_prompt: int,
        n_ctx: int,
        param: str = "messages",
        is_estimate: bool = False,
    ) -> None:
        count = (
            f"about {n_prompt} tokens or more" if is_estimate else f"{n_prompt} tokens"
        )
        super().__init__(
            f"The prompt has {count}, but this model was loaded with a "
            f"context of {n_ctx} tokens, of which at least one must stay free for "
            "the answer. Shorten the prompt or load the model with a larger "
            "--context-length.",
            param=param,
        )
        self.n_prompt = n_prompt
        self.n_ctx = n_ctx


class EmbeddingInputTooLong(InvalidRequest):
    """A text to embed has more tokens than the model reads at once."""

    code = "context_length_exceeded"

    def __init__(
        self, *, index: int, n_tokens: int, n_ctx: int, is_estimate: bool = False
    ) -> None:
        count = (
            f"about {n_tokens} tokens or more" if is_estimate else f"{n_tokens} tokens"
        )
        super().__init__(
            f"Input {index} has {count}, but this model was loaded with a "
            f"context of {n_ctx} tokens. Split the text or load the model with a "
            "larger --context-length.",
            param="input",
        )
        self.n_tokens = n_tokens
        self.n_ctx = n_ctx


class WrongModelType(InvalidRequest):
    """The model exists but cannot do what was asked."""

    code = "wrong_model_type"

    def __init__(self, message: str) -> None:
        super().__init__(message, param="model")


class BodyTooLarge(InvalidRequest):
    """The request body is larger than the limit."""

    code = "body_too_large"
    http_status = 413

    def __init__(self, *, limit_bytes: int) -> None:
        super().__init__(
            f"The request body is larger than {limit_bytes} bytes. "
            "Send less, or start the server with a larger --max-body-bytes."
        )


class ModelNotFound(ServerError):
    """No model has this name; `available` are ids that exist."""

    code = "model_not_found"
    http_status = 404

    def __init__(self, name: str, available: tuple[str, ...]) -> None:
        known = "No model is available: put a GGUF file into a models directory."
        if available:
            more = len(available) - _LISTED_MODELS
            rest = f" and {more} more (GET /v1/models)" if more > 0 else ""
            known = f"Available models: {', '.join(available[:_LISTED_MODELS])}{rest}."
        super().__init__(f"The model '{name}' does not exist. {known}", param="model")
        self.name = name
        self.available = available


class RouteNotFound(ServerError):
    """No endpoint has this path."""

    code = "unknown_url"
    http_status = 404


class MethodNotAllowed(ServerError):
    """The endpoint exists, but not for this method."""

    code = "method_not_allowed"
    http_status = 405


class QueueFull(ServerError):
    """Too many requests already wait for this model."""

    code = "queue_full"
    http_status = 429
    retryable = True


class ModelLoadFailed(ServerError):
    """The file could not be loaded; the text names it and says why."""

    code = "model_load_failed"


class EngineFailed(ServerError):
    """The engine could not carry out a step of this request."""

    code = "engine_failed"


class WorkerCrashed(ServerError):
    """The process that held the model ended unexpectedly."""

    code = "worker_crashed"
    retryable = True


class InsufficientMemory(ServerError):
    """The model does not fit into the memory that is free."""

    code = "insufficient_memory"
    http_status = 503


class ShuttingDown(ServerError):
    """The server is stopping and takes no more work."""

    code = "shutting_down"
    http_status = 503


class ReportedError(ServerError):
    """An error that another process described."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.message, param=info.param)
        self.info = info

    def to_info(self) -> ErrorInfo:
        """Return the description as it was received."""
        return self.info

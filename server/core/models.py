"""What the server knows of a model, as every dialect may show it."""

from enum import StrEnum

from msgspec import Struct


class ModelType(StrEnum):
    """What a model can be asked to do."""

    LLM = "llm"
    EMBEDDING = "embedding"


class InstanceInfo(Struct, frozen=True):
    """A loaded copy of a model.

    `n_ctx` is the most tokens one request may use, prompt and answer
    together; `parallel` how many requests are computed at once.
    """

    id: str
    n_ctx: int
    parallel: int


class ModelInfo(Struct, frozen=True):
    """One model that this server can serve, loaded or not.

    `id` is what clients use; `aliases` are further names that work.
    `created_s` is the file's modification time in Unix seconds.
    `n_ctx_train` is 0 where the file does not say.
    """

    id: str
    type: ModelType
    publisher: str
    repository: str
    file_name: str
    quantization: str | None
    architecture: str
    size_bytes: int
    n_ctx_train: int
    created_s: int
    aliases: tuple[str, ...] = ()
    instances: tuple[InstanceInfo, ...] = ()

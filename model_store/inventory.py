"""What lies in the models directories, as facts to list and to show.

`list_models` needs nothing but the catalog, so that a long list is fast;
`read_details` also reads the records of one model; `measure_usage` looks at
every file's place on the disk.
"""

import difflib
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from model_store.catalog import BrokenModel, Catalog, StoredModel
from model_store.errors import BadRecord, NotInStore
from model_store.layout import INTERNAL, Store
from model_store.names import is_gguf_name
from model_store.quarantine import is_ours
from model_store.record import Record, read_damage, read_record

State = Literal["ready", "quarantined", "broken"]
Kind = Literal["llm", "embedding"]

_BLOCK_BYTES: Final = 512  # of st_blocks, whatever the file system (stat(2))
_N_NEAR: Final = 3


class ModelFacts(Struct, frozen=True, kw_only=True):
    """One line of the list.

    `reason` says why the model is not served, empty where it is. What only a
    header can tell is None where the header cannot be used. `is_recorded`
    tells whether every file of it has a record to be verified against,
    `is_ours` whether it lies in the store.
    """

    id: str
    state: State
    reason: str
    kind: Kind | None
    architecture: str | None
    n_params: int | None
    quantization: str | None
    n_ctx_train: int | None
    size_bytes: int
    publisher: str
    repository: str
    file_name: str
    is_ours: bool
    is_recorded: bool
    paths: tuple[Path, ...]
    projectors: tuple[Path, ...]
    aliases: tuple[str, ...]


class FileFacts(Struct, frozen=True, kw_only=True):
    """One file of a model; `record_error` is set where its record is useless."""

    path: Path
    size_bytes: int
    record: Record | None
    record_error: str | None
    quarantined_since: str | None


class ModelDetails(Struct, frozen=True, kw_only=True):
    """All that is known of one model without loading it.

    `files` are its shards in order, then its projectors. `template_sha256` is
    of the chat template in UTF-8. `n_head` and `n_head_kv` are the largest of
    all layers.
    """

    facts: ModelFacts
    files: tuple[FileFacts, ...]
    name: str | None
    licence: str | None
    n_layer: int | None
    n_embd: int | None
    n_head: int | None
    n_head_kv: int | None
    n_vocab: int | None
    n_expert: int | None
    template_sha256: str | None


class ModelUsage(Struct, frozen=True, kw_only=True):
    """What one model takes; `disk_bytes` counts no block a second time.

    What a symlink leads to is not counted in `disk_bytes`: removing the model
    would not free it.
    """

    id: str
    size_bytes: int
    disk_bytes: int
    is_ours: bool


class DirectoryUsage(Struct, frozen=True, kw_only=True):
    """What one models directory takes on its disk.

    `model_bytes` are GGUF files, `unfinished_bytes` what runs through the
    staging areas now, `other_bytes` the rest: records, lists, licences.
    """

    path: Path
    is_store: bool
    model_bytes: int
    unfinished_bytes: int
    other_bytes: int
    free_bytes: int


class Usage(Struct, frozen=True, kw_only=True):
    """What all models and directories take; models with the largest first."""

    models: tuple[ModelUsage, ...]
    directories: tuple[DirectoryUsage, ...]


def find_model(catalog: Catalog, name: str) -> StoredModel | BrokenModel:
    """Find a model by a name that a person typed.

    Raises:
        NotInStore: Nothing is called so; the text names what is similar.
    """
    found = catalog.find(name)
    if found is not None:
        return found
    known = [each.id for each in catalog.entries()]
    near = difflib.get_close_matches(name.lower(), known, n=_N_NEAR, cutoff=0.5)
    raise NotInStore(name, near)


def list_models(catalog: Catalog, store: Store) -> tuple[ModelFacts, ...]:
    """List all models, broken ones too, ordered by id."""
    top = os.path.realpath(store.models_dir)
    known: dict[str, str] = {}
    facts = []
    for model in catalog.entries():
        real = _resolve(os.path.dirname(model.paths[0]), known)  # noqa: PTH120 - fast
        is_below = real == top or real.startswith(top + os.sep)
        facts.append(_describe(model, lies_in_store=is_below))
    return tuple(facts)


def read_details(model: StoredModel | BrokenModel, store: Store) -> ModelDetails:
    """Collect all that is known of one model; reads records, not weights."""
    summary = model.summary
    files = tuple(_read_file(path) for path in (*model.paths, *model.projectors))
    first = files[0].record
    template = None if summary is None else summary.chat_template
    licence = None if summary is None else summary.licence
    if first is not None and first.licence is not None:
        licence = first.licence
    return ModelDetails(
        facts=_describe(model, lies_in_store=is_ours(store, model.paths[0])),
        files=files,
        name=None if summary is None else summary.name,
        licence=licence,
        n_layer=None if summary is None else summary.n_layer,
        n_embd=None if summary is None else summary.n_embd,
        n_head=None if summary is None else max(summary.n_head, default=0),
        n_head_kv=None if summary is None else max(summary.n_head_kv, default=0),
        n_vocab=None if summary is None else summary.n_vocab,
        n_expert=None if summary is None else summary.n_expert,
        template_sha256=None if template is None else _digest_text(template),
    )


def measure_usage(catalog: Catalog, directories: Sequence[Path], store: Store) -> Usage:
    """Measure what models and directories take on their disks."""
    seen: set[tuple[int, int]] = set()
    models = [
        ModelUsage(
            id=model.id,
            size_bytes=model.size_bytes,
            disk_bytes=sum(_count_blocks(path, seen) for path in model.paths),
            is_ours=is_ours(store, model.paths[0]),
        )
        for model in catalog.entries()
    ]
    models.sort(key=lambda each: (-each.size_bytes, each.id))
    return Usage(
        models=tuple(models),
        directories=tuple(
            _measure_directory(each, is_store=each == store.models_dir)
            for each in directories
            if each.is_dir()
        ),
    )


def _describe(model: StoredModel | BrokenModel, *, lies_in_store: bool) -> ModelFacts:
    summary = model.summary
    state: State = "ready"
    if isinstance(model, BrokenModel):
        state = "quarantined" if model.is_quarantined else "broken"
    kind: Kind | None = None
    if summary is not None:
        kind = "embedding" if summary.is_embedding else "llm"
    return ModelFacts(
        id=model.id,
        state=state,
        reason=model.reason if isinstance(model, BrokenModel) else "",
        kind=kind,
        architecture=None if summary is None else summary.architecture,
        n_params=None if summary is None else summary.n_params,
        quantization=model.quantization,
        n_ctx_train=None if summary is None else summary.n_ctx_train,
        size_bytes=model.size_bytes,
        publisher=model.publisher,
        repository=model.repository,
        file_name=model.file_name,
        is_ours=lies_in_store,
        is_recorded=model.is_recorded,
        paths=model.paths,
        projectors=model.projectors,
        aliases=model.aliases,
    )


def _resolve(folder: str, known: dict[str, str]) -> str:
    """Resolve the links of a folder's path; each folder above is asked once."""
    real = known.get(folder)
    if real is None:
        above, name = os.path.split(folder)
        if not name or os.path.islink(folder):  # noqa: PTH114 - a Path costs more
            real = os.path.realpath(folder)
        else:
            real = os.path.join(_resolve(above, known), name)  # noqa: PTH118 - same
        known[folder] = real
    return real


def _read_file(path: Path) -> FileFacts:
    record, problem = None, None
    try:
        record = read_record(path)
    except BadRecord as error:
        problem = error.message
    try:
        size_bytes = path.stat().st_size
    except OSError:
        size_bytes = 0
    damage = read_damage(path)
    return FileFacts(
        path=path,
        size_bytes=size_bytes,
        record=record,
        record_error=problem,
        quarantined_since=None if damage is None else damage.found_at or "unknown",
    )


def _digest_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _measure_directory(folder: Path, *, is_store: bool) -> DirectoryUsage:
    seen: set[tuple[int, int]] = set()
    sums = {"model": 0, "unfinished": 0, "other": 0}
    for path in _walk(folder):
        kind = "model" if is_gguf_name(path.name) else "other"
        if INTERNAL in path.relative_to(folder).parts:
            kind = "unfinished"
        sums[kind] += _count_blocks(path, seen)
    return DirectoryUsage(
        path=folder,
        is_store=is_store,
        model_bytes=sums["model"],
        unfinished_bytes=sums["unfinished"],
        other_bytes=sums["other"],
        free_bytes=shutil.disk_usage(folder).free,
    )


def _walk(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        for name in names:
            yield Path(root, name)


def _count_blocks(path: Path, seen: set[tuple[int, int]]) -> int:
    """Count a file's bytes on the disk, 0 if that was done or it is a link."""
    try:
        facts = path.lstat()
    except OSError:
        return 0
    key = (facts.st_dev, facts.st_ino)
    if not stat.S_ISREG(facts.st_mode) or key in seen:
        return 0
    seen.add(key)
    return facts.st_blocks * _BLOCK_BYTES

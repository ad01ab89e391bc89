"""Judges the files of one model together, before they enter the store.

The same rules by which the catalog serves: what is accepted here is listed
there as one sound model. Errors name the files by where they came from.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from model_store.errors import BadGguf, UnreadableFile
from model_store.gguf import GgufHeader, read_header
from model_store.grouping import check_split
from model_store.names import FileName, is_projector_name, parse_file_name, printable
from model_store.summary import (
    FileKind,
    join_shards,
    summarize,
    summarize_shard,
    tell_kind,
)

_MAX_LICENCE: Final = 200
_MAX_ARCHITECTURE: Final = 64
_MAX_NAMED: Final = 8


class Part(Struct, frozen=True):
    """A file to judge: its name in the store, where its bytes are, its origin."""

    name: str
    path: Path
    origin: Path


class FileFacts(Struct, frozen=True):
    """What is recorded about a file's content.

    Shards have the facts of their whole model. None means that the file says
    nothing; `template_sha256` is of the chat template's UTF-8.
    """

    kind: FileKind
    architecture: str | None
    quantization: str | None
    n_params: int | None
    licence: str | None
    template_sha256: str | None


def examine(parts: Sequence[Part]) -> dict[str, FileFacts]:
    """Judge all files of one model.

    Args:
        parts: A model's only file or all its shards, in any order, and its
            projectors; or projectors alone.

    Returns:
        The facts by name.

    Raises:
        BadGguf: A file is none, shards are missing or not of one model, or
            something else than a model is among them.
        UnreadableFile: A file cannot be read.
    """
    headers = {part.name: _read(part) for part in parts}
    facts: dict[str, FileFacts] = {}
    models: list[Part] = []
    for part in parts:
        header = headers[part.name]
        kind = tell_kind(header)
        if kind is FileKind.PROJECTOR:
            facts[part.name] = _projector_facts(header)
        elif kind is FileKind.OTHER:
            held = printable(str(header.metadata.get("general.type", "other data")))
            raise BadGguf(part.origin, f"it holds '{held[:40]}' and not a model")
        elif is_projector_name(part.name):
            raise BadGguf(
                part.origin,
                "its name says that it is a projector (mmproj), but it holds a model",
            )
        else:
            models.append(part)
    if models:
        shared = _model_facts(_order_shards(models), headers)
        facts |= dict.fromkeys((part.name for part in models), shared)
    return facts


def list_shards(name: FileName) -> tuple[str, ...]:
    """Name all shards of a split model, in order; of others there are none."""
    if name.shard is None:
        return ()
    count = name.shard[1]
    return tuple(
        f"{name.stem}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)
    )


def _read(part: Part) -> GgufHeader:
    try:
        return read_header(part.path)
    except BadGguf as error:
        raise BadGguf(part.origin, error.reason) from error
    except UnreadableFile as error:
        raise UnreadableFile(part.origin, error.reason) from error


def _order_shards(models: list[Part]) -> list[Part]:
    """Put the shards in order; every other file must not be there."""
    first = models[0]
    name = parse_file_name(first.name)
    wanted = list_shards(name) or (first.name,)
    present = {part.name: part for part in models}
    for part in models:
        if part.name not in wanted:
            raise BadGguf(
                part.origin,
                f"it is not a part of the same model as '{printable(first.name)}'",
            )
    missing = [each for each in wanted if each not in present]
    if missing:
        named = ", ".join(f"'{printable(each)}'" for each in missing[:_MAX_NAMED])
        if len(missing) > _MAX_NAMED:
            named += f" and {len(missing) - _MAX_NAMED} more"
        raise BadGguf(
            first.origin,
            f"it is one of {len(wanted)} parts, of which {len(missing)} are "
            f"missing: {named}",
        )
    return [present[each] for each in wanted]


def _model_facts(parts: list[Part], headers: dict[str, GgufHeader]) -> FileFacts:
    try:
        first = summarize(headers[parts[0].name])
        others = [summarize_shard(headers[part.name]) for part in parts[1:]]
    except BadGguf as error:
        origins = {headers[part.name].path: part.origin for part in parts}
        raise BadGguf(origins.get(error.path, error.path), error.reason) from error
    name = parse_file_name(parts[0].name)
    check_split(name, [part.origin for part in parts], first, others)
    whole = join_shards(first, others)
    template = whole.chat_template
    licence = whole.licence
    return FileFacts(
        kind=FileKind.MODEL,
        architecture=printable(whole.architecture)[:_MAX_ARCHITECTURE],
        quantization=name.quantization or whole.quantization,
        n_params=whole.n_params,
        licence=None if licence is None else printable(licence)[:_MAX_LICENCE],
        template_sha256=(
            None
            if template is None
            else hashlib.sha256(template.encode("utf-8", "replace")).hexdigest()
        ),
    )


def _projector_facts(header: GgufHeader) -> FileFacts:
    architecture = header.metadata.get("general.architecture")
    licence = header.metadata.get("general.license")
    return FileFacts(
        kind=FileKind.PROJECTOR,
        architecture=(
            printable(architecture)[:_MAX_ARCHITECTURE]
            if isinstance(architecture, str)
            else None
        ),
        quantization=parse_file_name(header.path.name).quantization,
        n_params=sum(tensor.n_elements for tensor in header.tensors),
        licence=printable(licence)[:_MAX_LICENCE] if isinstance(licence, str) else None,
        template_sha256=None,
    )

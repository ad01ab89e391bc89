"""How models are called: from hostile file names to ids that clients can use.

A model's id is its file name in lower case without `.gguf`, without the shard
number and without the quantisation. Where two models would share it, each
adds `@quantisation`, where that is shared too, `publisher/repository/` goes
before, and what is still shared is numbered. Ids depend on the files' names
alone where those name the quantisation, so that a file which is being copied
does not rename its neighbours.

Every further name resolves to one model only. Where several could claim it,
the better known quantisation wins (`PREFERRED`), a sound file before a broken
one. Names are compared without regard to case.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from msgspec import Struct

PREFERRED: Final = ("q4_k_m", "q4_k_s", "q5_k_m", "q6_k", "q8_0")
"""Who gets a shared name, best first; all others follow in order of id."""

MAX_SHARDS: Final = 1_000
"""A larger number after `-of-` is taken for a part of the name."""

_MAX_QUOTED: Final = 80
_MAX_LOOKED_AT: Final = 1_024
_EXTENSION: Final = ".gguf"
_SHARD: Final = re.compile(
    r"^(?P<stem>.*)-(?P<no>\d{5})-of-(?P<count>\d{5})$", re.DOTALL
)
_QUANTIZATION: Final = re.compile(
    r"[-._]"
    r"(?P<label>(?:(?:ud|i1|imat|imatrix)[-._])?"
    r"(?P<type>"
    r"i?q\d(?:_\d(?:_\d_\d)?|_k)?(?:_(?:xxs|xs|s|m|l|xl|xxl|nl|nl_xl))?"
    r"|tq\d_\d|(?:bf|fp|f)(?:16|32)|mxfp4(?:_moe)?|nvfp4))$",
    re.IGNORECASE,
)
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Zl", "Zp"})


class FileName(Struct, frozen=True):
    """The parts of a GGUF file's name.

    `stem` has no extension and no shard number. `quantization` is in the
    form in which files have it in their headers ("Q4_K_M"), `label` in lower
    case with what stood before it ("ud-q4_k_xl"); both None where the name
    has no such suffix. `shard` is (number from 1, count).
    """

    stem: str
    base_id: str
    quantization: str | None
    label: str | None
    shard: tuple[int, int] | None


class Candidate(Struct, frozen=True):
    """A model that needs names.

    `file_name` is the first shard's, `label` the quantisation in lower case.
    Empty `publisher` and `repository` mean that the folders name none.
    """

    file: FileName
    file_name: str
    publisher: str
    repository: str
    label: str
    is_embedding: bool
    is_broken: bool


class Names(Struct, frozen=True):
    """What one model is called."""

    id: str
    aliases: tuple[str, ...]


def printable(text: str) -> str:
    """Drop what does not print and mark bytes that were no text.

    The result satisfies `str.isprintable` and can be encoded as UTF-8:
    control and format characters are gone, every kind of space is a plain
    one, undecodable bytes and unassigned characters become U+FFFD.
    """
    text = unicodedata.normalize("NFC", text)
    return text if text.isprintable() else "".join(map(_print, text))


def _print(char: str) -> str:
    if char.isprintable():
        return char
    category = unicodedata.category(char)
    if category in _INVISIBLE:
        return ""
    return " " if category == "Zs" else "\ufffd"


def quoted(text: str) -> str:
    """Quote a name from a file for an error text, printable and shortened."""
    short = printable(text[:_MAX_LOOKED_AT])
    if len(short) > _MAX_QUOTED:
        short = short[: _MAX_QUOTED - 1] + "…"
    return f"'{short}'"


def fold(name: str) -> str:
    """Bring a name to the form in which names are compared."""
    return unicodedata.normalize("NFC", name).casefold()


def is_gguf_name(name: str) -> bool:
    """Tell whether a directory entry is meant as a GGUF file.

    Hidden entries are not: `._model.gguf` is a companion that macOS leaves on
    foreign disks.
    """
    return name.lower().endswith(_EXTENSION) and not name.startswith(".")


def is_projector_name(name: str) -> bool:
    """Tell whether a file name says that it holds a multimodal projector."""
    return "mmproj" in name.lower()


def parse_file_name(name: str) -> FileName:
    """Take the name of a GGUF file apart; any string is accepted."""
    stem = name[: -len(_EXTENSION)] if name.lower().endswith(_EXTENSION) else name
    shard = None
    match = _SHARD.match(stem)
    if match is not None:
        number, count = int(match["no"]), int(match["count"])
        if 1 <= number <= count <= MAX_SHARDS:
            stem, shard = match["stem"], (number, count)
    base, quantization, label = stem, None, None
    suffix = _QUANTIZATION.search(stem)
    if suffix is not None and suffix.start() > 0:
        base = stem[: suffix.start()]
        quantization = suffix["type"].upper().replace("FP16", "F16")
        quantization = quantization.replace("FP32", "F32")
        label = suffix["label"].lower()
    return FileName(
        stem=stem,
        base_id=_sane_id(base),
        quantization=quantization,
        label=label,
        shard=shard,
    )


def assign_names(
    candidates: Sequence[Candidate],
) -> tuple[tuple[Names, ...], dict[str, int]]:
    """Name all models of a catalog.

    Args:
        candidates: In an order that does not change between calls; it decides
            where nothing else does.

    Returns:
        The names in the same order, and the index of the candidate for every
        folded id and alias.
    """
    ids = _assign_ids(candidates)
    owners = {fold(id_): index for index, id_ in enumerate(ids)}
    aliases: list[list[str]] = [[] for _ in candidates]
    order = sorted(
        range(len(candidates)), key=lambda i: (*_rank(candidates[i]), ids[i])
    )
    for claim in _CLAIMS:
        for index in order:
            for name in claim(candidates[index]):
                owner = owners.setdefault(fold(name), index)
                if owner == index and name not in (ids[index], *aliases[index]):
                    aliases[index].append(name)
    names = tuple(
        Names(id=id_, aliases=tuple(more))
        for id_, more in zip(ids, aliases, strict=True)
    )
    return names, owners


def _sane_id(text: str) -> str:
    words = printable(re.sub(r"\s+", " ", text)).lower().split()
    return "-".join(words) or "model"


def _assign_ids(candidates: Sequence[Candidate]) -> list[str]:
    def widen(ids: list[str], wider: Callable[[Candidate], str]) -> list[str]:
        shared = Counter(ids)
        return [
            wider(candidate) if shared[id_] > 1 else id_
            for id_, candidate in zip(ids, candidates, strict=True)
        ]

    ids = [candidate.file.base_id for candidate in candidates]
    ids = widen(ids, _variant)
    ids = widen(ids, lambda each: _path(each, _variant(each)).lower())
    taken: set[str] = set()
    for index, id_ in enumerate(ids):
        unique, number = id_, 2
        while fold(unique) in taken:
            unique, number = f"{id_}-{number}", number + 1
        taken.add(fold(unique))
        ids[index] = unique
    return ids


def _variant(candidate: Candidate) -> str:
    return f"{candidate.file.base_id}@{candidate.label}"


def _path(candidate: Candidate, name: str) -> str:
    parts = (candidate.publisher, candidate.repository, name)
    return "/".join(part for part in parts if part)


def _rank(candidate: Candidate) -> tuple[bool, int]:
    """Order by which several models claim one name, best first."""
    known = candidate.label in PREFERRED
    place = PREFERRED.index(candidate.label) if known else len(PREFERRED)
    return candidate.is_broken, place


def _claim_plain(candidate: Candidate) -> Iterator[str]:
    yield candidate.file.base_id


def _claim_variant(candidate: Candidate) -> Iterator[str]:
    yield _variant(candidate)


def _claim_file_names(candidate: Candidate) -> Iterator[str]:
    stem = printable(candidate.file.stem)
    whole = printable(candidate.file_name)
    for name in (stem, f"{stem}{_EXTENSION}", whole[: -len(_EXTENSION)], whole):
        yield name
        yield name.lower()


def _claim_path(candidate: Candidate) -> Iterator[str]:
    yield _path(candidate, printable(candidate.file_name))


def _claim_repository(candidate: Candidate) -> Iterator[str]:
    if candidate.publisher and candidate.repository:
        yield f"{candidate.publisher}/{candidate.repository}"


def _claim_embedding(candidate: Candidate) -> Iterator[str]:
    if candidate.is_embedding:
        yield f"text-embedding-{candidate.file.base_id}"
        yield f"text-embedding-{_variant(candidate)}"


_CLAIMS: Final = (
    _claim_plain,
    _claim_variant,
    _claim_file_names,
    _claim_path,
    _claim_repository,
    _claim_embedding,
)
"""Kinds of names, strongest first: a weaker one never hides a stronger one."""

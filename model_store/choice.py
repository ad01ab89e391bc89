"""Which file of a repository to take for a machine's memory, and why.

A repository holds the same model in a dozen quantisations. What a model takes
is known exactly only from its header; before anything is fetched its size is
all there is, so the estimate is made of that:

    files, model and projector
    + an eighth of them   KV cache for a context of some thousand tokens
    + 512 MiB             the engine and its working memory

The system and other programs keep an eighth of the memory, at least 1 GiB.
Among the quantisations that fit, the first of `names.PREFERRED` is taken,
without one of those the largest; unquantised files only where there are no
others. A wish of the user is followed even if it does not fit, because the
file may be meant for another machine; the reason then says so.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from model_store.hub_errors import NothingFits
from model_store.names import (
    PREFERRED,
    FileName,
    fold,
    is_gguf_name,
    is_projector_name,
    parse_file_name,
    printable,
    quoted,
)
from model_store.remote import RemoteFile, RemoteRepository, Wanted
from model_store.sizes import format_bytes

ENGINE_BYTES: Final = 512 * 2**20
MIN_SYSTEM_BYTES: Final = 2**30
_CACHE_SHARE: Final = 8
_SYSTEM_SHARE: Final = 8
_MAX_LISTED: Final = 40
_UNQUANTIZED: Final = frozenset({"F16", "BF16", "F32"})
_PROJECTORS: Final = ("F16", "BF16", "Q8_0", "F32")


class Memory(Struct, frozen=True):
    """How much memory there is at all, and whose it is, for the reason."""

    total_bytes: int
    owner: str = "this machine"

    @property
    def usable_bytes(self) -> int:
        """What a model may take of it."""
        system = max(self.total_bytes // _SYSTEM_SHARE, MIN_SYSTEM_BYTES)
        return max(0, self.total_bytes - system)


class Offer(Struct, frozen=True):
    """One model of a repository; `files` are all its shards in order.

    `label` is the quantisation in lower case with what stands before it,
    "ud-q4_k_xl", empty where the name has none. `is_complete` is false where
    the repository lacks shards.
    """

    base_id: str
    label: str
    quantization: str | None
    files: tuple[RemoteFile, ...]
    is_complete: bool

    @property
    def size_bytes(self) -> int:
        """Size of all shards."""
        return sum(file.size_bytes for file in self.files)

    @property
    def title(self) -> str:
        """The quantisation, or the file's name where it does not say."""
        return self.label.upper() or printable(self.files[0].name)


class Choice(Struct, frozen=True):
    """What is taken: one model with all its shards, and its projector."""

    offer: Offer
    projectors: tuple[RemoteFile, ...]
    need_bytes: int
    reason: str

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """All files, the model's first."""
        return self.offer.files + self.projectors

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(file.size_bytes for file in self.files)


def estimate_need(size_bytes: int) -> int:
    """Estimate a model's memory in bytes from the size of its files."""
    return size_bytes + size_bytes // _CACHE_SHARE + ENGINE_BYTES


def list_offers(repository: RemoteRepository) -> tuple[Offer, ...]:
    """Group the files of a repository into models, smallest first."""
    groups: dict[tuple[str, str, int], list[tuple[FileName, RemoteFile]]] = {}
    for file in repository.files:
        if not is_gguf_name(file.name) or is_projector_name(file.name):
            continue
        if "imatrix" in file.name.lower():  # a table of weights for quantising
            continue
        name = parse_file_name(file.name)
        count = name.shard[1] if name.shard else 0
        key = (_folder(file), name.stem if count else file.name, count)
        groups.setdefault(key, []).append((name, file))
    offers = [_build_offer(group) for group in groups.values()]
    return tuple(sorted(offers, key=lambda each: (each.size_bytes, each.label)))


def choose(repository: RemoteRepository, wanted: Wanted, memory: Memory) -> Choice:
    """Choose what to fetch.

    Raises:
        NothingFits: The repository has no such file or quantisation, or
            several, or none that the memory can hold; the text lists them.
    """
    offers = list_offers(repository)
    if not offers and wanted.file is None:
        raise NothingFits(
            repository.id,
            f"the repository {quoted(repository.id)} has no GGUF file",
            "Look for a repository of the same model whose name ends in -GGUF.",
        )
    if wanted.file is not None:
        offer = _find_file(repository, offers, wanted.file)
        why = f"{offer.title}: the file that was named"
    elif wanted.quantization is not None:
        offer = _find_quantization(repository, offers, wanted.quantization)
        why = f"{offer.title}: the quantisation that was named"
    else:
        return _choose_by_memory(repository, offers, memory)
    _check_complete(repository, offer)
    projectors = _choose_projectors(repository, offer)
    need = _need(offer, projectors)
    return Choice(offer, projectors, need, f"{why}; {_compare(need, memory)}.")


def _folder(file: RemoteFile) -> str:
    return file.path.rpartition("/")[0]


def _build_offer(group: list[tuple[FileName, RemoteFile]]) -> Offer:
    name = group[0][0]
    ordered = sorted(group, key=lambda each: each[0].shard or (0, 0))
    count = name.shard[1] if name.shard else 1
    return Offer(
        base_id=name.base_id,
        label=name.label or "",
        quantization=name.quantization,
        files=tuple(file for _, file in ordered),
        is_complete=len(group) == count,
    )


def _need(offer: Offer, projectors: Sequence[RemoteFile]) -> int:
    return estimate_need(offer.size_bytes + sum(file.size_bytes for file in projectors))


def _compare(need: int, memory: Memory) -> str:
    usable = format_bytes(memory.usable_bytes)
    if need <= memory.usable_bytes:
        return (
            f"it needs about {format_bytes(need)} of the {usable} that {memory.owner} "
            "can give to a model"
        )
    return (
        f"it needs about {format_bytes(need)} and does not fit the {usable} that "
        f"{memory.owner} can give to a model"
    )


def _choose_by_memory(
    repository: RemoteRepository, offers: Sequence[Offer], memory: Memory
) -> Choice:
    whole = [offer for offer in offers if offer.is_complete]
    if not whole:
        _check_complete(repository, offers[0])
    if len({offer.base_id for offer in whole}) > 1:
        raise NothingFits(
            repository.id,
            f"the repository {quoted(repository.id)} holds different models",
            f"Name one of its files: {_list_files(repository, whole)}.",
        )
    quantized = [each for each in whole if each.quantization not in _UNQUANTIZED]
    candidates = quantized or whole
    projectors = {offer: _choose_projectors(repository, offer) for offer in candidates}
    needs = {offer: _need(offer, projectors[offer]) for offer in candidates}
    fitting = [each for each in candidates if needs[each] <= memory.usable_bytes]
    if not fitting:
        least = candidates[0]
        raise NothingFits(
            repository.id,
            f"no file of {quoted(repository.id)} fits: the smallest, {least.title}, "
            f"needs about {format_bytes(needs[least])}, and {memory.owner} can give "
            f"{format_bytes(memory.usable_bytes)} to a model",
            "Look for a smaller model. For another machine say its memory by "
            f"--memory, or name the file: {repository.id}:{least.title}.",
        )
    best = min(fitting, key=lambda each: (*_rank(each), -each.size_bytes))
    reason = f"{best.title}: {_explain(best, candidates, needs, memory)}."
    return Choice(best, projectors[best], needs[best], reason)


def _rank(offer: Offer) -> tuple[int, bool]:
    """Order by preference: the plain label before its variants, best first."""
    kind = (offer.quantization or "").lower()
    place = PREFERRED.index(kind) if kind in PREFERRED else len(PREFERRED)
    is_variant = place < len(PREFERRED) and offer.label != kind
    return place, is_variant


def _explain(
    best: Offer,
    candidates: Sequence[Offer],
    needs: dict[Offer, int],
    memory: Memory,
) -> str:
    fit = _compare(needs[best], memory)
    if len(candidates) == 1:
        return f"the only one of the repository; {fit}"
    better = [each for each in candidates if _rank(each) < _rank(best)]
    if better:
        first = min(better, key=_rank)
        too_large = (
            f"{first.title} would need about {format_bytes(needs[first])}, too much"
        )
        return f"the best that fits, {too_large}; {fit}"
    if _rank(best)[0] < len(PREFERRED):
        return f"the best balance of quality and size here; {fit}"
    return f"the largest that fits; {fit}"


def _find_file(
    repository: RemoteRepository, offers: Sequence[Offer], path: str
) -> Offer:
    for offer in offers:
        if any(file.path == path for file in offer.files):
            return offer
    for file in repository.files:  # a projector by itself
        if file.path == path:
            return _build_offer([(parse_file_name(file.name), file)])
    raise NothingFits(
        repository.id,
        f"the repository {quoted(repository.id)} has no file {quoted(path)}",
        f"It has: {_list_files(repository, offers)}.",
    )


def _find_quantization(
    repository: RemoteRepository, offers: Sequence[Offer], text: str
) -> Offer:
    folded = fold(text)
    found = [offer for offer in offers if offer.label == folded]
    if not found:
        found = [each for each in offers if fold(each.quantization or "") == folded]
    if len(found) == 1:
        return found[0]
    if found:
        raise NothingFits(
            repository.id,
            f"{len(found)} models of {quoted(repository.id)} are {quoted(text)}",
            f"Name one of its files: {_list_files(repository, found)}.",
        )
    titles = ", ".join(each.title for each in offers[:_MAX_LISTED])
    raise NothingFits(
        repository.id,
        f"the repository {quoted(repository.id)} has no {quoted(text)}",
        f"It has: {titles}.",
    )


def _check_complete(repository: RemoteRepository, offer: Offer) -> None:
    if offer.is_complete:
        return
    name = parse_file_name(offer.files[0].name)
    count = name.shard[1] if name.shard else 1
    raise NothingFits(
        repository.id,
        f"the repository {quoted(repository.id)} has only {len(offer.files)} of the "
        f"{count} parts of {quoted(name.stem)}",
        "Choose another quantisation or another revision; --list shows them.",
    )


def _choose_projectors(
    repository: RemoteRepository, offer: Offer
) -> tuple[RemoteFile, ...]:
    """Choose the one projector that belongs to a model, if there is any."""
    folders = {"", _folder(offer.files[0])}
    found = [
        file
        for file in repository.files
        if is_projector_name(file.name)
        and is_gguf_name(file.name)
        and _folder(file) in folders
        and file not in offer.files
    ]
    if not found or is_projector_name(offer.files[0].name):
        return ()
    return (min(found, key=_rank_projector),)


def _rank_projector(file: RemoteFile) -> tuple[int, str]:
    kind = parse_file_name(file.name).quantization or ""
    place = _PROJECTORS.index(kind) if kind in _PROJECTORS else len(_PROJECTORS)
    return place, file.path


def _list_files(repository: RemoteRepository, offers: Sequence[Offer]) -> str:
    named = [f"{repository.id}/{each.files[0].path}" for each in offers[:_MAX_LISTED]]
    more = len(offers) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")

"""Finds the models of an Ollama folder: its manifests name GGUF blobs.

    manifests/HOST/NAMESPACE/MODEL/TAG    JSON; layers with media type and digest
    blobs/sha256-HEX                      a layer's bytes, named by their digest

Manifests are read within limits and are believed in nothing but names: the
digest is compared with the blob's bytes at admission.

Source: ollama's server/manifest.go and types/model/name.go.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from model_store.errors import BadSource
from model_store.names import printable

MODEL_LAYER: Final = "application/vnd.ollama.image.model"
PROJECTOR_LAYER: Final = "application/vnd.ollama.image.projector"
MAX_MANIFEST_BYTES: Final = 4 * 2**20
MAX_MANIFESTS: Final = 10_000

_DEPTH: Final = 4
_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-f]{64})")
_DEFAULT_TAG: Final = "latest"


class OllamaFile(Struct, frozen=True):
    """One layer that is a GGUF file; `sha256` is what its blob is named by."""

    blob: Path
    name: str
    sha256: str


class OllamaModel(Struct, frozen=True):
    """One tag of one model; `name` is as Ollama shows it.

    `files` begin with the model, projectors follow. Empty `files` mean that
    it holds no GGUF, which `note` then says.
    """

    name: str
    publisher: str
    repository: str
    files: tuple[OllamaFile, ...]
    note: str | None = None


class _Layer(Struct):
    media_type: str = msgspec.field(name="mediaType", default="")
    digest: str = ""


class _Manifest(Struct):
    layers: list[_Layer] = []


def find_folder(environment: Mapping[str, str]) -> Path:
    """Find the models folder of the Ollama on this machine.

    Raises:
        BadSource: There is none in the usual places.
    """
    named = environment.get("OLLAMA_MODELS")
    usual = [
        Path("~/.ollama/models").expanduser(),
        Path("/usr/share/ollama/.ollama/models"),
        Path("/var/lib/ollama/models"),
    ]
    places = [Path(named)] if named else usual
    for place in places:
        if is_folder(place):
            return place
    raise BadSource(
        places[0],
        "no Ollama models folder is there",
        "Name it by --from-ollama DIR; it holds the folders manifests and blobs.",
    )


def is_folder(path: Path) -> bool:
    """Tell whether a folder is one in which Ollama keeps models."""
    return (path / "manifests").is_dir() and (path / "blobs").is_dir()


def list_models(folder: Path, names: Sequence[str] = ()) -> tuple[OllamaModel, ...]:
    """List the models of a folder, by name.

    Args:
        folder: See `is_folder`.
        names: Only these, as NAME or NAME:TAG; none mean all.

    Raises:
        BadSource: The folder is none of Ollama's, a name is not in it, or a
            manifest of those wanted cannot be understood.
    """
    if not is_folder(folder):
        raise BadSource(
            folder,
            "it is no Ollama models folder",
            "Name the folder that holds the folders manifests and blobs.",
        )
    found = {_tell_name(path, folder): path for path in _find_manifests(folder)}
    wanted = found if not names else [_resolve(name, found, folder) for name in names]
    return tuple(_read_model(name, found[name], folder) for name in sorted(set(wanted)))


def _find_manifests(folder: Path) -> list[Path]:
    root = folder / "manifests"
    paths = [
        path
        for path in root.glob("/".join("*" * _DEPTH))
        if path.is_file() and not path.name.startswith(".")
    ]
    if len(paths) > MAX_MANIFESTS:
        raise BadSource(
            root,
            f"it has {len(paths)} manifests; at most {MAX_MANIFESTS} are read",
            "Name single models.",
        )
    return paths


def _split(path: Path, folder: Path) -> tuple[str, str, str, str]:
    host, namespace, model, tag = path.relative_to(folder / "manifests").parts
    return host, namespace, model, tag


def _tell_name(path: Path, folder: Path) -> str:
    """Name a model as Ollama does, without the usual host and namespace."""
    host, namespace, model, tag = _split(path, folder)
    name = f"{model}:{tag}"
    if namespace != "library":
        name = f"{namespace}/{name}"
    if host != "registry.ollama.ai":
        name = f"{host}/{name}"
    return printable(name)


def _resolve(name: str, found: Mapping[str, Path], folder: Path) -> str:
    full = name if ":" in name.rpartition("/")[2] else f"{name}:{_DEFAULT_TAG}"
    if full in found:
        return full
    known = ", ".join(sorted(found)) or "none"
    raise BadSource(
        folder,
        f"it has no model '{printable(full)}'",
        f"It has: {known[:1000]}.",
    )


def _read_model(name: str, path: Path, folder: Path) -> OllamaModel:
    _, namespace, model, tag = _split(path, folder)
    layers = _read_manifest(path).layers
    models = [each for each in layers if each.media_type == MODEL_LAYER]
    projectors = [each for each in layers if each.media_type == PROJECTOR_LAYER]
    stem = f"{model}-{tag}"
    files = []
    if len(models) == 1:
        files.append(_describe(models[0], f"{stem}.gguf", path, folder))
        for number, layer in enumerate(projectors, 1):
            suffix = "" if number == 1 else f"-{number}"
            files.append(_describe(layer, f"{stem}-mmproj{suffix}.gguf", path, folder))
    note = None
    if not files:
        note = f"'{name}' has {len(models)} GGUF layers where 1 is needed; left out."
    return OllamaModel(
        name=name,
        publisher=namespace,
        repository=model,
        files=tuple(files),
        note=note,
    )


def _read_manifest(path: Path) -> _Manifest:
    advice = "Pull the model again, or name other models."
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_MANIFEST_BYTES + 1)
        if len(raw) > MAX_MANIFEST_BYTES:
            raise BadSource(
                path, f"it has more than {MAX_MANIFEST_BYTES} bytes", advice
            )
        return msgspec.json.decode(raw, type=_Manifest)
    except OSError as error:
        raise BadSource(path, error.strerror or str(error), advice) from error
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise BadSource(path, f"it is no manifest: {error}", advice) from error


def _describe(layer: _Layer, name: str, path: Path, folder: Path) -> OllamaFile:
    match = _DIGEST.fullmatch(layer.digest)
    if match is None:
        raise BadSource(
            path,
            f"it names a layer by '{printable(layer.digest)[:80]}', not a SHA-256",
            "Pull the model again, or name other models.",
        )
    return OllamaFile(
        blob=Path(os.path.abspath(folder)) / "blobs" / f"sha256-{match[1]}",  # noqa: PTH100 - links stay
        name=printable(name),
        sha256=match[1],
    )

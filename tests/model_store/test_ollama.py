"""Ollama's folders: manifests that name blobs."""

import hashlib
import json

import pytest

from model_store import ollama
from model_store.errors import BadSource
from model_store.ollama import MODEL_LAYER, PROJECTOR_LAYER, find_folder, list_models

LIBRARY = "registry.ollama.ai/library"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "manifests").mkdir()
    return tmp_path


@pytest.fixture
def tag(folder):
    """Return a function that writes a manifest with these layers."""

    def write(name, *layers, raw=None):
        path = folder / "manifests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        entries = []
        for media_type, content in layers:
            sha256 = hashlib.sha256(content).hexdigest()
            (folder / "blobs" / f"sha256-{sha256}").write_bytes(content)
            digest = f"sha256:{sha256}"
            entries.append({"mediaType": media_type, "digest": digest, "size": 1})
        manifest = {"schemaVersion": 2, "config": {"digest": "x"}, "layers": entries}
        path.write_bytes(json.dumps(manifest).encode() if raw is None else raw)

    return write


def test_a_manifest_names_model_and_projector(folder, tag):
    licence = ("application/vnd.ollama.image.license", b"MIT")
    tag(
        f"{LIBRARY}/llava/7b-q4_K_M",
        licence,
        (MODEL_LAYER, b"m"),
        (PROJECTOR_LAYER, b"p"),
    )
    (model,) = list_models(folder)
    assert ("llava:7b-q4_K_M", "library", "llava") == (
        model.name,
        model.publisher,
        model.repository,
    )
    assert ["llava-7b-q4_K_M.gguf", "llava-7b-q4_K_M-mmproj.gguf"] == [
        file.name for file in model.files
    ]
    assert [b"m", b"p"] == [file.blob.read_bytes() for file in model.files]
    assert hashlib.sha256(b"m").hexdigest() == model.files[0].sha256


def test_names_are_those_that_ollama_shows(folder, tag):
    for name in (
        f"{LIBRARY}/a/latest",
        "registry.ollama.ai/user/b/7b",
        "hf.co/org/c-GGUF/Q4_K_M",
    ):
        tag(name, (MODEL_LAYER, b"m"))
    names = [model.name for model in list_models(folder)]
    assert ["a:latest", "hf.co/org/c-GGUF:Q4_K_M", "user/b:7b"] == names
    assert ["a:latest"] == [model.name for model in list_models(folder, ["a"])]
    assert ["user/b:7b"] == [model.name for model in list_models(folder, ["user/b:7b"])]


def test_a_name_that_is_not_there_is_told_with_those_that_are(folder, tag):
    tag(f"{LIBRARY}/a/latest", (MODEL_LAYER, b"m"))
    with pytest.raises(BadSource, match=r"no model 'b:latest'\. It has: a:latest\."):
        list_models(folder, ["b"])


def test_a_model_without_a_gguf_layer_is_left_out_with_a_note(folder, tag):
    tag(f"{LIBRARY}/mlx/latest", ("application/vnd.ollama.image.tensor", b"t"))
    (model,) = list_models(folder)
    assert ((), "'mlx:latest' has 0 GGUF layers where 1 is needed; left out.") == (
        model.files,
        model.note,
    )


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{", "it is no manifest"),
        (b'{"layers": 5}', "it is no manifest"),
        (
            json.dumps(
                {"layers": [{"mediaType": MODEL_LAYER, "digest": "sha256:../../x"}]}
            ).encode(),
            r"a layer by 'sha256:\.\./\.\./x', not a SHA-256",
        ),
    ],
)
def test_a_manifest_that_cannot_be_used_is_told(folder, tag, raw, reason):
    tag(f"{LIBRARY}/a/latest", raw=raw)
    with pytest.raises(BadSource, match=reason):
        list_models(folder)


def test_manifests_have_limits(folder, tag, monkeypatch):
    tag(f"{LIBRARY}/a/latest", raw=b" " * 101)
    monkeypatch.setattr(ollama, "MAX_MANIFEST_BYTES", 100)
    with pytest.raises(BadSource, match="it has more than 100 bytes"):
        list_models(folder)
    monkeypatch.setattr(ollama, "MAX_MANIFESTS", 0)
    with pytest.raises(BadSource, match="it has 1 manifests; at most 0 are read"):
        list_models(folder)


def test_the_folder_is_found_by_ollamas_own_variable(folder, tmp_path):
    assert folder == find_folder({"OLLAMA_MODELS": str(folder)})
    with pytest.raises(BadSource, match="Name it by --from-ollama DIR"):
        find_folder({"OLLAMA_MODELS": str(tmp_path / "none")})
    with pytest.raises(BadSource, match="it is no Ollama models folder"):
        list_models(tmp_path / "none")

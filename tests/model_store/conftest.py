"""GGUF files made byte by byte, so that tests can make wrong ones."""

import io
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from model_store.errors import BadGguf
from model_store.gguf import parse_header
from tests.model_store.admission_room import Room

UINT32, STRING, ARRAY = 4, 8, 9
F32, Q8_0 = 0, 8
_FORMATS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<B",
    10: "<Q",
    11: "<q",
    12: "<d",
}


def pack_string(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def pack_value(kind, value):
    if kind == STRING:
        return pack_string(value)
    if kind == ARRAY:
        element, values = value
        packed = b"".join(pack_value(element, each) for each in values)
        return struct.pack("<IQ", element, len(values)) + packed
    return struct.pack(_FORMATS[kind], value)


@dataclass
class Tensor:
    name: str | bytes = "token_embd.weight"
    dimensions: tuple[int, ...] = (32, 4)
    type: int = F32
    offset: int = 0
    data: bytes = bytes(512)


@dataclass
class Forge:
    """A small llama model; every part can be replaced by a wrong one.

    `keys` maps a key to (type, value); None as value leaves the key out.
    `raw_keys` are bytes that follow them and count as `n_raw_keys` keys.
    """

    keys: dict[str, tuple[int, object] | None] = field(default_factory=dict)
    tensors: tuple[Tensor, ...] = (Tensor(),)
    magic: bytes = b"GGUF"
    version: int = 3
    n_tensors: int | None = None
    n_keys: int | None = None
    raw_keys: bytes = b""
    n_raw_keys: int = 0
    alignment: int = 32

    Tensor: ClassVar = Tensor

    @staticmethod
    def raw_key(name: bytes, kind: int, value: bytes) -> bytes:
        return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value

    def build(self) -> bytes:
        defaults = {
            "general.architecture": (STRING, "llama"),
            "llama.context_length": (UINT32, 64),
            "llama.embedding_length": (UINT32, 32),
            "llama.block_count": (UINT32, 2),
            "llama.attention.head_count": (UINT32, 4),
        }
        keys = {
            key: entry
            for key, entry in (defaults | self.keys).items()
            if entry is not None
        }
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        n_keys = len(keys) + self.n_raw_keys if self.n_keys is None else self.n_keys
        out = self.magic + struct.pack("<IQQ", self.version, n_tensors, n_keys)
        for key, (kind, value) in keys.items():
            out += pack_string(key) + struct.pack("<I", kind) + pack_value(kind, value)
        out += self.raw_keys
        for tensor in self.tensors:
            out += pack_string(tensor.name)
            out += struct.pack("<I", len(tensor.dimensions))
            out += struct.pack(f"<{len(tensor.dimensions)}Q", *tensor.dimensions)
            out += struct.pack("<IQ", tensor.type, tensor.offset)
        if not self.tensors:
            return out
        out += bytes(-len(out) % self.alignment)
        data = bytearray()
        for tensor in self.tensors:
            data += bytes(max(0, tensor.offset - len(data))) + tensor.data
        return out + bytes(data)


@pytest.fixture
def forge():
    """Return the class that makes GGUF files; `forge.Tensor` makes tensors."""
    return Forge


@pytest.fixture
def refusal():
    """Return a function that tells why content is refused."""

    def refuse(content):
        with pytest.raises(BadGguf) as caught:
            parse_header(
                io.BytesIO(content), path=Path("m.gguf"), size_bytes=len(content)
            )
        assert str(caught.value) == (
            f"The file 'm.gguf' is not a usable GGUF file: {caught.value.reason}. "
            "Copy or download the file again, or remove it."
        )
        return caught.value.reason

    return refuse


@pytest.fixture
def place(tmp_path):
    """Return a function that writes a file below `tmp_path / "models"`."""

    def write(relative, content=None, root="models", **parts):
        path = tmp_path / root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Forge(**parts).build() if content is None else content)
        return path

    (tmp_path / "models").mkdir()
    return write


@pytest.fixture
def real_models():
    """Return the folder of real model files, or skip where it is absent."""
    beside = Path(__file__).parents[2].parent / "shared" / "models"
    folder = Path(os.environ.get("CLOISTER_TEST_MODELS", beside))
    if not (folder / "stories260K.gguf").is_file():
        pytest.skip(f"no model files in {folder}: set CLOISTER_TEST_MODELS")
    return folder


@pytest.fixture
def room(tmp_path, place, forge):
    return Room(tmp_path, place, forge)


@pytest.fixture
def store(room):
    return room.store


@pytest.fixture
def usb(room):
    return room.usb


@pytest.fixture
def take(room):
    return room.take


@pytest.fixture
def shards(room):
    return room.shards()

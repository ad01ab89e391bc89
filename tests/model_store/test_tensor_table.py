"""The tensor table's arithmetic; refusals are tested with whole files."""

import io
import struct
from pathlib import Path

import pytest

from model_store.cursor import Cursor
from model_store.errors import BadGguf
from model_store.ggml_types import GGML_TYPES
from model_store.tensor_table import read_tensors


def row(name, dimensions, number, offset):
    raw = struct.pack("<Q", len(name)) + name.encode()
    raw += struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
    return raw + struct.pack("<IQ", number, offset)


def read(*rows, alignment=32):
    raw = b"".join(rows)
    cursor = Cursor(
        io.BytesIO(raw), path=Path("m.gguf"), size_bytes=len(raw), limit=2**20
    )
    return read_tensors(cursor, len(rows), alignment)


@pytest.mark.parametrize("number", GGML_TYPES)
def test_a_tensor_takes_its_blocks(number):
    kind = GGML_TYPES[number]
    (tensor,) = read(row("t", (kind.block_elements * 3, 5, 7), number, 0))
    assert (tensor.n_elements, tensor.size_bytes) == (
        kind.block_elements * 105,
        kind.block_bytes * 105,
    )


def test_a_tensor_without_dimensions_has_one_element():
    (tensor,) = read(row("t", (), 0, 0))
    assert (tensor.n_elements, tensor.size_bytes) == (1, 4)


@pytest.mark.parametrize(("alignment", "second"), [(1, 4), (32, 32), (4096, 4096)])
def test_the_next_tensor_begins_at_the_next_aligned_offset(alignment, second):
    rows = (row("a", (1,), 0, 0), row("b", (1,), 0, second))
    assert [each.offset for each in read(*rows, alignment=alignment)] == [0, second]
    with pytest.raises(BadGguf, match="begins at offset"):
        read(rows[0], row("b", (1,), 0, second + alignment), alignment=alignment)


def test_an_empty_tensor_takes_no_room():
    tensors = read(row("a", (0, 4), 0, 0), row("b", (1,), 0, 0))
    assert [each.size_bytes for each in tensors] == [0, 4]

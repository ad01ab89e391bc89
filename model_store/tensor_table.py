"""Reads the table of a GGUF file that says where each tensor lies.

The engine demands that the data lies in the order of the table, each tensor
at the next multiple of the alignment behind the one before; the same is
demanded here, so overlaps and hidden gaps cannot exist. Whether the file is
long enough is for the caller, who knows where the data begins.

Source: docs/gguf.md of ggml, gguf_init_from_reader in ggml/src/gguf.cpp.
"""

from typing import Final

from msgspec import Struct

from model_store.cursor import Cursor
from model_store.ggml_types import GGML_TYPES
from model_store.names import quoted

MAX_TENSOR_NAME_BYTES: Final = 63
MAX_DIMENSIONS: Final = 4
MAX_ELEMENTS: Final = 2**63 - 1


class TensorInfo(Struct, frozen=True, gc=False):
    """One row of the tensor table.

    `dimensions` has the fastest moving one first, `offset` counts from the
    header's `data_offset`, `type` is a key of `GGML_TYPES`.
    """

    name: str
    dimensions: tuple[int, ...]
    type: int
    offset: int
    n_elements: int
    size_bytes: int


def read_tensors(
    cursor: Cursor, n_tensors: int, alignment: int
) -> tuple[TensorInfo, ...]:
    """Read the table that begins at the cursor.

    Raises:
        BadGguf: A row breaks a limit, or the data does not lie in the order
            of the table without overlaps and gaps.
    """
    tensors: list[TensorInfo] = []
    names: set[str] = set()
    expected = 0
    for index in range(n_tensors):
        tensor = _read_tensor(cursor, index)
        if tensor.name in names:
            raise cursor.bad(f"the tensor {quoted(tensor.name)} occurs twice")
        names.add(tensor.name)
        _check_offset(cursor, tensor, expected=expected, alignment=alignment)
        expected = -(-(tensor.offset + tensor.size_bytes) // alignment) * alignment
        tensors.append(tensor)
    return tuple(tensors)


def _read_tensor(cursor: Cursor, index: int) -> TensorInfo:
    raw = cursor.string(f"the name of tensor {index}", limit=MAX_TENSOR_NAME_BYTES)
    name = cursor.text(raw, f"the name of tensor {index}")
    what = f"the tensor {quoted(name)}"
    n_dims = cursor.u32(f"the dimensions of {what}")
    if n_dims > MAX_DIMENSIONS:
        raise cursor.bad(
            f"{what} has {n_dims} dimensions; at most {MAX_DIMENSIONS} are accepted"
        )
    dimensions = tuple(cursor.u64(f"a dimension of {what}") for _ in range(n_dims))
    n_elements = 1
    for dimension in dimensions:
        n_elements *= dimension
    if n_elements > MAX_ELEMENTS or max(dimensions, default=1) > MAX_ELEMENTS:
        raise cursor.bad(
            f"{what} claims {n_elements} elements in dimensions "
            f"{list(dimensions)}; at most {MAX_ELEMENTS} are accepted"
        )
    number = cursor.u32(f"the type of {what}")
    ggml_type = GGML_TYPES.get(number)
    if ggml_type is None:
        raise cursor.bad(f"{what} has the type {number}, which is not known")
    row = dimensions[0] if dimensions else 1
    if row % ggml_type.block_elements:
        raise cursor.bad(
            f"{what} has rows of {row} elements, which is no multiple of "
            f"{ggml_type.name}'s block of {ggml_type.block_elements}"
        )
    return TensorInfo(
        name=name,
        dimensions=dimensions,
        type=number,
        offset=cursor.u64(f"the offset of {what}"),
        n_elements=n_elements,
        size_bytes=n_elements // ggml_type.block_elements * ggml_type.block_bytes,
    )


def _check_offset(
    cursor: Cursor, tensor: TensorInfo, *, expected: int, alignment: int
) -> None:
    what = f"the tensor {quoted(tensor.name)}"
    if tensor.offset % alignment:
        raise cursor.bad(
            f"{what} begins at offset {tensor.offset}, which is no multiple of "
            f"the alignment {alignment}"
        )
    if tensor.offset < expected:
        raise cursor.bad(
            f"{what} begins at offset {tensor.offset} and overlaps the data before "
            f"it, which reaches to {expected}"
        )
    if tensor.offset > expected:
        raise cursor.bad(
            f"{what} begins at offset {tensor.offset}, {tensor.offset - expected} "
            f"bytes behind the data before it, which ends at {expected}"
        )

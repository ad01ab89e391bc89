"""Reads the header of a GGUF file within bounds, before native code sees it.

A GGUF file is untrusted, and the engine's own loader has been attacked through
it. So this reader accepts only what can be checked without the tensor data:

    magic, version, n_tensors, n_keys
    n_keys  x (key, type, value)            a value may be an array
    n_tensors x (name, dimensions, type, offset)
    padding to `general.alignment`, then the tensor data

Rules
* Plain bounded reads, no mapping: a file that is cut while it is mapped kills
  the process, a file that is cut while it is read is a short read.
* Nothing is allocated by a number from the file before that number was held
  against a limit and against the length of the file.
* Vocabularies are walked, not kept: an array of strings becomes its count.
* Tensors must lie one after the other, each at the next multiple of the
  alignment, as the engine demands; so overlaps and gaps cannot hide anything.
* Refused although the format knows them: big-endian files, version 1 and
  arrays of arrays. The engine cannot load them either.

Source: docs/gguf.md of ggml (versions 2 and 3) and ggml/src/gguf.cpp of
llama.cpp, which this reader is at least as strict as.
"""

import os
import stat
import struct
from pathlib import Path
from typing import BinaryIO, Final

from msgspec import Struct

from model_store.cursor import Cursor
from model_store.errors import UnreadableFile
from model_store.names import quoted
from model_store.tensor_table import TensorInfo, read_tensors

MAX_HEADER_BYTES: Final = 128 * 2**20
"""Most of a file that is looked at; the largest vocabularies need 20 MiB."""
MAX_KEYS: Final = 16_384
MAX_TENSORS: Final = 32_768
MAX_KEY_BYTES: Final = 65_535
MAX_STRING_BYTES: Final = 64 * 2**20
MAX_KEPT_STRING_BYTES: Final = 2**20
"""Longer values are skipped; none that this project reads is longer."""
MAX_KEPT_BYTES: Final = 8 * 2**20
"""All keys, kept strings and numbers of one file together."""
MAX_ARRAY_ELEMENTS: Final = 64 * 2**20
MAX_STRINGS: Final = 2 * 2**20
"""All strings inside arrays of one file together; each costs a step to skip."""
MAX_KEPT_ELEMENTS: Final = 1_024
"""Longer arrays become a count; the engine knows at most 512 layers."""
MAX_ALIGNMENT_BYTES: Final = 2**20
DEFAULT_ALIGNMENT_BYTES: Final = 32

_NUMBER_BYTES: Final = 16
"""What a kept number counts for, however few bytes it has in the file."""
_MIN_HEADER_BYTES: Final = 24
_BOOL: Final = 7
_STRING: Final = 8
_ARRAY: Final = 9
_SCALARS: Final = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    _BOOL: struct.Struct("<B"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_UINT32: Final = 4
_ALIGNMENT_KEY: Final = "general.alignment"

_FOREIGN: Final = (
    (b"\0\0\0\0", "it begins with zeros: it was probably not copied to its end"),
    (b"PK\x03\x04", "it is a ZIP or PyTorch file"),
    (b"vers", "it is perhaps a Git LFS pointer and not the file itself"),
    (b"<!DO", "it is an HTML page, perhaps of a failed download"),
    (b"<htm", "it is an HTML page, perhaps of a failed download"),
    (b"lmgg", "it is of the old GGML format, which is no longer supported"),
    (b"tjgg", "it is of the old GGJT format, which is no longer supported"),
    (b"fmgg", "it is of the old GGMF format, which is no longer supported"),
)


class Skipped(Struct, frozen=True):
    """A value that was checked but not kept.

    `count` is the number of elements of an array or of bytes of a string.
    """

    count: int


Scalar = bool | int | float | str
Value = Scalar | tuple[bool, ...] | tuple[int, ...] | tuple[float, ...] | Skipped


class GgufHeader(Struct, frozen=True):
    """All that a file says before its tensor data, checked.

    `metadata` and `tensors` keep the file's order. `size_bytes` is the length
    of the file, `tensor_bytes` the sum over `tensors`.
    """

    path: Path
    version: int
    alignment: int
    metadata: dict[str, Value]
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    size_bytes: int
    tensor_bytes: int


def read_header(path: Path) -> GgufHeader:
    """Read and check the header of a file.

    Raises:
        BadGguf: The content breaks a rule or a limit; the text has numbers.
        UnreadableFile: The file is missing, not a regular one, or the system
            refused to read it.
    """
    # Without O_NONBLOCK the open of a named pipe would wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise UnreadableFile(path, "it is not a regular file")
            return parse_header(file, path=path, size_bytes=facts.st_size)
    except OSError as error:
        raise UnreadableFile(path, error.strerror or str(error)) from error
    except ValueError as error:  # a path with a NUL in it
        raise UnreadableFile(path, str(error)) from error


def parse_header(file: BinaryIO, *, path: Path, size_bytes: int) -> GgufHeader:
    """Check the header that begins where `file` begins.

    Args:
        file: Positioned at its start; is read and sought.
        path: Named in errors, not opened.
        size_bytes: Length of the file; nothing behind it is read.

    Raises:
        BadGguf: The content breaks a rule or a limit; the text has numbers.
        OSError: Reading failed.
    """
    cursor = Cursor(file, path=path, size_bytes=size_bytes, limit=MAX_HEADER_BYTES)
    version, n_tensors, n_keys = _read_counts(cursor)
    metadata = _Metadata(cursor).read(n_keys)
    alignment = _alignment(cursor, metadata)
    tensors = read_tensors(cursor, n_tensors, alignment)
    data_offset = cursor.position
    if tensors:
        data_offset = -(-data_offset // alignment) * alignment
        end = data_offset + tensors[-1].offset + tensors[-1].size_bytes
        if end > size_bytes:
            raise cursor.bad(
                f"its tensor data ends at byte {end}, but the file has only "
                f"{size_bytes} bytes ({end - size_bytes} are missing)"
            )
    return GgufHeader(
        path=path,
        version=version,
        alignment=alignment,
        metadata=metadata,
        tensors=tensors,
        data_offset=data_offset,
        size_bytes=size_bytes,
        tensor_bytes=sum(tensor.size_bytes for tensor in tensors),
    )


def _read_counts(cursor: Cursor) -> tuple[int, int, int]:
    """Check magic, version and counts; return version, n_tensors, n_keys."""
    if cursor.size_bytes == 0:
        raise cursor.bad("it is empty (0 bytes)")
    if cursor.size_bytes >= 4:  # noqa: PLR2004 - the magic's own length
        _check_magic(cursor, cursor.take(4, "the magic"))
    if cursor.size_bytes < _MIN_HEADER_BYTES:
        raise cursor.bad(
            f"it has {cursor.size_bytes} bytes, a GGUF header has at least "
            f"{_MIN_HEADER_BYTES}"
        )
    version = cursor.u32("the version")
    if version & 0xFFFF == 0 and version:
        raise cursor.bad(
            f"its version reads as {version}, so it is a big-endian file; only "
            "little-endian files are supported"
        )
    if version not in {2, 3}:
        raise cursor.bad(f"its GGUF version is {version}; supported are 2 and 3")
    n_tensors = cursor.u64("the tensor count")
    if n_tensors > MAX_TENSORS:
        raise cursor.bad(
            f"it claims {n_tensors} tensors; at most {MAX_TENSORS} are accepted"
        )
    n_keys = cursor.u64("the key count")
    if n_keys > MAX_KEYS:
        raise cursor.bad(
            f"it claims {n_keys} metadata keys; at most {MAX_KEYS} are accepted"
        )
    return version, n_tensors, n_keys


def _check_magic(cursor: Cursor, magic: bytes) -> None:
    if magic == b"GGUF":
        return
    text = f"it begins with {magic!r} and not with b'GGUF'"
    for start, meaning in _FOREIGN:
        if magic == start:
            text = f"{text}: {meaning}"
    raise cursor.bad(text)


class _Metadata:
    """Reads the key-value pairs of one file and counts what it keeps."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._kept_bytes = 0
        self._n_strings = 0

    def read(self, n_keys: int) -> dict[str, Value]:
        """Read all pairs in the file's order."""
        cursor = self._cursor
        metadata: dict[str, Value] = {}
        for index in range(n_keys):
            raw = cursor.string(f"key {index}", limit=MAX_KEY_BYTES)
            self._keep(len(raw))
            key = cursor.text(raw, f"key {index}")
            if not key:
                raise cursor.bad(f"key {index} is empty")
            if key in metadata:
                raise cursor.bad(f"the key {quoted(key)} occurs twice")
            metadata[key] = self._value(key)
        return metadata

    def _value(self, key: str) -> Value:
        cursor = self._cursor
        kind = cursor.u32(f"the type of {quoted(key)}")
        if key == _ALIGNMENT_KEY and kind != _UINT32:
            raise cursor.bad(
                f"{key} has the value type {kind}; it must be {_UINT32} (UINT32)"
            )
        if kind == _STRING:
            return self._string(key)
        if kind == _ARRAY:
            return self._array(key)
        return self._numbers(key, kind, 1)[0]

    def _string(self, key: str) -> str | Skipped:
        cursor = self._cursor
        what = f"the value of {quoted(key)}"
        length = cursor.length(what, limit=MAX_STRING_BYTES)
        if length > MAX_KEPT_STRING_BYTES:
            cursor.skip(length, what)
            return Skipped(length)
        self._keep(length)
        # Names and licences of real models are not always valid UTF-8.
        return cursor.take(length, what).decode("utf-8", "replace")

    def _array(self, key: str) -> Value:
        cursor = self._cursor
        kind = cursor.u32(f"the element type of {quoted(key)}")
        count = cursor.u64(f"the length of {quoted(key)}")
        if kind == _ARRAY:
            raise cursor.bad(
                f"{quoted(key)} is an array of arrays, which the engine cannot read"
            )
        if count > MAX_ARRAY_ELEMENTS:
            raise cursor.bad(
                f"{quoted(key)} claims {count} elements; at most "
                f"{MAX_ARRAY_ELEMENTS} are accepted"
            )
        what = f"the elements of {quoted(key)}"
        if kind == _STRING:
            self._n_strings += count
            if self._n_strings > MAX_STRINGS:
                raise cursor.bad(
                    f"its arrays hold {self._n_strings} strings up to {quoted(key)}; "
                    f"at most {MAX_STRINGS} are accepted"
                )
            cursor.skip_strings(count, what, limit=MAX_STRING_BYTES)
            return Skipped(count)
        if kind in _SCALARS and count > MAX_KEPT_ELEMENTS:
            cursor.skip(count * _SCALARS[kind].size, what)
            return Skipped(count)
        return self._numbers(key, kind, count)

    def _numbers(
        self, key: str, kind: int, count: int
    ) -> tuple[bool, ...] | tuple[int, ...] | tuple[float, ...]:
        cursor = self._cursor
        scalar = _SCALARS.get(kind)
        if scalar is None:
            raise cursor.bad(
                f"{quoted(key)} has the value type {kind}; types are 0 to 12"
            )
        self._keep(count * _NUMBER_BYTES)
        raw = cursor.take(count * scalar.size, f"the value of {quoted(key)}")
        numbers = tuple(value for (value,) in scalar.iter_unpack(raw))
        if kind != _BOOL:
            return numbers
        if any(value > 1 for value in numbers):
            raise cursor.bad(
                f"{quoted(key)} is a truth value stored as {max(numbers)}; "
                "only 0 and 1 are valid"
            )
        return tuple(value == 1 for value in numbers)

    def _keep(self, n_bytes: int) -> None:
        self._kept_bytes += n_bytes
        if self._kept_bytes > MAX_KEPT_BYTES:
            raise self._cursor.bad(
                f"its metadata has more than {MAX_KEPT_BYTES} bytes of text and numbers"
            )


def _alignment(cursor: Cursor, metadata: dict[str, Value]) -> int:
    value = metadata.get(_ALIGNMENT_KEY, DEFAULT_ALIGNMENT_BYTES)
    if (
        not isinstance(value, int)
        or not 0 < value <= MAX_ALIGNMENT_BYTES
        or value & (value - 1)
    ):
        raise cursor.bad(
            f"{_ALIGNMENT_KEY} is {value}; it must be a power of two from 1 to "
            f"{MAX_ALIGNMENT_BYTES}"
        )
    return value

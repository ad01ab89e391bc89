"""Bounded little-endian reading from an untrusted file.

One buffer of `CHUNK_BYTES` slides forward over the file; only a single value
that is longer gets a longer buffer, and its length was checked before. Every
read states what it is for, so an error can name it.
"""

import struct
from pathlib import Path
from typing import BinaryIO, Final

from model_store.errors import BadGguf

CHUNK_BYTES: Final = 256 * 2**10

_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")


class Cursor:
    """A position in a file that only moves forward.

    Args:
        file: Positioned at its start.
        path: Named in errors.
        size_bytes: Length of the file.
        limit: Offset that no read may pass, in bytes.
    """

    def __init__(
        self, file: BinaryIO, *, path: Path, size_bytes: int, limit: int
    ) -> None:
        self.size_bytes = size_bytes
        self._file = file
        self._path = path
        self._limit = limit
        self._buffer = b""
        self._start = 0
        self._offset = 0

    @property
    def position(self) -> int:
        """Offset of the next byte from the start of the file."""
        return self._start + self._offset

    def bad(self, reason: str) -> BadGguf:
        """Build the error that refuses this file."""
        return BadGguf(self._path, reason)

    def take(self, n_bytes: int, what: str) -> bytes:
        """Read so many bytes.

        Raises:
            BadGguf: They reach past the end of the file or past the limit.
        """
        self._fill(n_bytes, what)
        start = self._offset
        self._offset += n_bytes
        return self._buffer[start : self._offset]

    def skip(self, n_bytes: int, what: str) -> None:
        """Move over so many bytes without reading them.

        Raises:
            BadGguf: They reach past the end of the file or past the limit.
        """
        self._check(n_bytes, what)
        self._offset += n_bytes
        if self._offset > len(self._buffer):
            self._start += self._offset
            self._offset = 0
            self._buffer = b""
            self._file.seek(self._start)

    def u32(self, what: str) -> int:
        """Read an unsigned number of 4 bytes."""
        value: int = _U32.unpack(self.take(4, what))[0]
        return value

    def u64(self, what: str) -> int:
        """Read an unsigned number of 8 bytes."""
        value: int = _U64.unpack(self.take(8, what))[0]
        return value

    def length(self, what: str, *, limit: int) -> int:
        """Read the length of a string whose bytes follow.

        Raises:
            BadGguf: It is above `limit` or reaches past the end of the file.
        """
        length = self.u64(f"the length of {what}")
        self._check_length(length, what, limit)
        return length

    def string(self, what: str, *, limit: int) -> bytes:
        """Read a string of at most `limit` bytes, with its length before it."""
        return self.take(self.length(what, limit=limit), what)

    def text(self, raw: bytes, what: str) -> str:
        """Decode a name, which must be valid UTF-8.

        Raises:
            BadGguf: It is not.
        """
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.bad(f"{what} is not valid UTF-8") from error

    def skip_strings(self, count: int, what: str, *, limit: int) -> None:
        """Move over `count` strings, each with its length before it.

        The inner loop runs once for each word of a vocabulary, so it does
        nothing but add; lengths that leave the buffer are checked outside.
        """
        unpack = _U64.unpack_from
        while count:
            self._fill(8, what)
            buffer = self._buffer
            last = len(buffer) - 8
            begin = position = self._offset
            for done in range(count):
                if position > last:
                    count -= done
                    break
                begin = position
                position += 8 + unpack(buffer, position)[0]
            else:
                count = 0
            # Only the last of them can reach out of the buffer.
            self._offset = begin + 8
            length = position - self._offset
            self._check_length(length, what, limit)
            self.skip(length, what)

    def _check_length(self, length: int, what: str, limit: int) -> None:
        if length > limit:
            raise self.bad(
                f"{what} would take {length} bytes at byte {self.position}; "
                f"at most {limit} are accepted"
            )
        self._check(length, what)

    def _check(self, n_bytes: int, what: str) -> None:
        end = self.position + n_bytes
        if end > self.size_bytes:
            raise self.bad(
                f"{what} would reach to byte {end}, but the file ends at byte "
                f"{self.size_bytes}"
            )
        if end > self._limit:
            raise self.bad(
                f"{what} would reach to byte {end}; a header may have at most "
                f"{self._limit} bytes"
            )

    def _fill(self, n_bytes: int, what: str) -> None:
        """Have at least `n_bytes` in the buffer behind the position."""
        held = len(self._buffer) - self._offset
        if held >= n_bytes:
            return
        self._check(n_bytes, what)
        self._start += self._offset
        parts = [self._buffer[self._offset :]]
        self._offset = 0
        while held < n_bytes:
            # Not past `size_bytes`: a file that grows is read as it was.
            room = self.size_bytes - self._start - held
            part = self._file.read(min(max(CHUNK_BYTES, n_bytes - held), room))
            if not part:
                raise self.bad(
                    f"the file ended at byte {self._start + held} while {what} was "
                    f"read, though it had {self.size_bytes} bytes before; it is "
                    "being changed"
                )
            parts.append(part)
            held += len(part)
        self._buffer = b"".join(parts)

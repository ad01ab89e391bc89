"""Length-prefixed frames over a byte stream, without any I/O.

A frame is a 4-byte little-endian length and that many bytes of msgpack. A
peer that announces more than the limit is broken or hostile: the stream is
over, since nothing after such a length can be trusted.
"""

import struct

MAX_FRAME_BYTES = 256 * 1024 * 1024
"""More than twice the largest request body, so no request can exceed it."""

_LENGTH = struct.Struct("<I")
HEADER_BYTES = _LENGTH.size


class FrameTooLarge(ValueError):
    """A frame is longer than `MAX_FRAME_BYTES`."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(
            f"a frame of {size_bytes} bytes exceeds the limit of {MAX_FRAME_BYTES}"
        )
        self.size_bytes = size_bytes


def encode_frame(payload: bytes) -> bytes:
    """Put the length before a payload.

    Raises:
        FrameTooLarge: The payload exceeds `MAX_FRAME_BYTES`.
    """
    if len(payload) > MAX_FRAME_BYTES:
        raise FrameTooLarge(len(payload))
    return _LENGTH.pack(len(payload)) + payload


class FrameDecoder:
    """Cuts a byte stream back into payloads, however it was split."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take more bytes and return the payloads they complete, in order.

        Raises:
            FrameTooLarge: The peer announced more than `MAX_FRAME_BYTES`;
                the decoder must not be used any more.
        """
        self._buffer += data
        payloads = []
        start = 0
        while len(self._buffer) - start >= HEADER_BYTES:
            (size,) = _LENGTH.unpack_from(self._buffer, start)
            if size > MAX_FRAME_BYTES:
                raise FrameTooLarge(size)
            end = start + HEADER_BYTES + size
            if len(self._buffer) < end:
                break
            payloads.append(bytes(self._buffer[start + HEADER_BYTES : end]))
            start = end
        if start:
            del self._buffer[:start]
        return payloads

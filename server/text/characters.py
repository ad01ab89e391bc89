"""Bytes of tokens to whole characters.

A token of a byte-level vocabulary may end inside a UTF-8 sequence. What is
incomplete waits for the next token; what can no longer become a character
turns into U+FFFD at once, exactly where decoding the whole would put it.
"""

import codecs


class CharacterDecoder:
    """Decodes UTF-8 that arrives in arbitrary pieces."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> str:
        """Return the characters that are complete now, perhaps none."""
        return self._decoder.decode(data)

    def flush(self) -> str:
        """Return U+FFFD for a sequence that was never completed, or ""."""
        return self._decoder.decode(b"", final=True)

    @property
    def pending_bytes(self) -> int:
        """How many bytes wait for the rest of their character, 0 to 3."""
        return len(self._decoder.getstate()[0])

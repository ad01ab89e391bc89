"""Headers of the tar members of a bundle: one form written, only it accepted.

tar is many formats with one name, and most attacks through it use what a
reader understands beyond plain files: links, devices, sparse files, two sizes
for one member, headers that change the next one. So there is no reader of tar
here. A header is accepted only if it is, byte for byte, what `pack_header`
makes of the name, size and time in it; everything else is refused, by its kind
where it has one, so that the error is of use.

The form is GNU tar's, with its numbers in base 256 for sizes of 8 GiB and more
and its long-name member for names of more than 100 bytes, since more programs
read these than the POSIX extension headers.

Source: "Basic Tar Format" in the GNU tar manual, tar.h of GNU tar.
"""

import struct
from collections.abc import Callable
from typing import Final

from msgspec import Struct

BLOCK_BYTES: Final = 512
RECORD_BYTES: Final = 20 * BLOCK_BYTES
"""Archives are filled with zeros to whole records, as tar does."""
MAX_NAME_BYTES: Final = 1_024
MAX_MTIME_S: Final = 8**11 - 1
"""Year 2242; the largest number that the field holds in octal digits."""

_FORMAT: Final = struct.Struct("<100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
_NAME_BYTES: Final = 100
_CHECKSUM: Final = slice(148, 156)
_TYPE: Final = 156
_MAX_OCTAL: Final = 8**11 - 1
_BASE_256: Final = 0x80
_MAGIC: Final = b"ustar  \0"
_LONG_NAME: Final = b"././@LongLink"
_KINDS: Final = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a folder",
    b"6": "a named pipe",
    b"7": "a contiguous file",
    b"D": "a folder listing",
    b"K": "a long link name",
    b"M": "a continued file",
    b"S": "a sparse file",
    b"V": "a volume name",
    b"X": "an extension header",
    b"g": "a global extension header",
    b"x": "an extension header",
}


class BadHeaderError(ValueError):
    """A member's header is refused; the text says why, as "it is …"."""


class Member(Struct, frozen=True):
    """What a header says about a plain file; `mtime_s` in Unix seconds."""

    path: str
    size_bytes: int
    mtime_s: int


def pad_to(size_bytes: int, unit_bytes: int) -> int:
    """Count the bytes that are missing to a whole number of units."""
    return -size_bytes % unit_bytes


def pack_header(member: Member) -> bytes:
    """Make the header of a plain file of user 0, readable by all.

    Args:
        member: `path` without a leading slash; `size_bytes` not negative;
            `mtime_s` from 0 to `MAX_MTIME_S`.

    Returns:
        One block, or three where the name is long.
    """
    name = member.path.encode()
    header = _pack(name[:_NAME_BYTES], member.size_bytes, member.mtime_s, b"0")
    if len(name) <= _NAME_BYTES:
        return header
    long_name = name + b"\0"
    long_name += bytes(pad_to(len(long_name), BLOCK_BYTES))
    return _pack(_LONG_NAME, len(name) + 1, 0, b"L") + long_name + header


def read_member(read: Callable[[int], bytes]) -> Member | None:
    """Read one header.

    Args:
        read: Returns so many bytes of the archive, fewer only at its end.

    Returns:
        None where the archive ends (a block of zeros).

    Raises:
        BadHeaderError: It is cut, damaged, not of a plain file, or not in the
            one form that is accepted.
    """
    raw = block = _read_block(read)
    if not any(block):
        return None
    _check_sum(block)
    if block[_TYPE : _TYPE + 1] == b"L":
        size_bytes = _parse_number(block[124:136], "size")
        if not _NAME_BYTES < size_bytes - 1 <= MAX_NAME_BYTES:
            raise BadHeaderError(f"it has a long name of {size_bytes - 1} bytes")
        name = b"".join(_read_block(read) for _ in range(-(-size_bytes // BLOCK_BYTES)))
        block = _read_block(read)
        _check_sum(block)
        raw += name + block
        name = name[: size_bytes - 1]
    else:
        name = block[:_NAME_BYTES].rstrip(b"\0")
    _check_kind(block)
    try:
        path = name.decode()
    except UnicodeDecodeError as error:
        raise BadHeaderError(f"it is called {name[:80]!r}, not UTF-8") from error
    member = Member(
        path=path,
        size_bytes=_parse_number(block[124:136], "size"),
        mtime_s=_parse_number(block[136:148], "time"),
    )
    if member.mtime_s > MAX_MTIME_S or pack_header(member) != raw:
        raise BadHeaderError("it is not in the form in which bundles are written")
    return member


def _pack(name: bytes, size_bytes: int, mtime_s: int, kind: bytes) -> bytes:
    size = b"%011o\0" % size_bytes
    if size_bytes > _MAX_OCTAL:
        size = bytes([_BASE_256]) + size_bytes.to_bytes(11, "big")
    block = bytearray(
        _FORMAT.pack(
            name,
            b"0000644\0",
            b"0000000\0",
            b"0000000\0",
            size,
            b"%011o\0" % mtime_s,
            b" " * 8,
            kind,
            b"",
            _MAGIC,
            *(b"",) * 6,
        )
    )
    block[_CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)


def _read_block(read: Callable[[int], bytes]) -> bytes:
    block = read(BLOCK_BYTES)
    if len(block) < BLOCK_BYTES:
        raise BadHeaderError(f"it is cut after {len(block)} bytes of its header")
    return block


def _check_sum(block: bytes) -> None:
    spaced = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    expected = b"%06o\0 " % sum(spaced)
    if block[_CHECKSUM] != expected:
        raise BadHeaderError(
            "its header is damaged or no tar header: the checksum is "
            f"{expected[:6].decode()}, the header says {block[_CHECKSUM][:6]!r}"
        )


def _check_kind(block: bytes) -> None:
    kind = block[_TYPE : _TYPE + 1]
    if kind != b"0":
        named = _KINDS.get(kind, f"of the type {kind!r}")
        name = block[:_NAME_BYTES].rstrip(b"\0").decode("ascii", "replace")
        raise BadHeaderError(f"it is {named}, called {name!r}; only plain files may be")


def _parse_number(field: bytes, what: str) -> int:
    if field[0] == _BASE_256:
        return int.from_bytes(field[1:], "big")
    digits = field[:-1]
    if field[-1] != 0 or not digits.isdigit() or {*digits} & {*b"89"}:
        raise BadHeaderError(f"it has the {what} {field!r}, which is not valid")
    return int(digits, 8)

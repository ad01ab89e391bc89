"""Runs classic BPF as the kernel would, to test programs without a kernel."""

import struct

KILL = "kill"
ALLOW = "allow"


def run(code: bytes, *, arch: int, number: int, args: tuple[int, ...] = ()) -> object:
    """Run a packed program on one call.

    Returns:
        `allow`, `kill`, or the errno as an integer.
    """
    words = [value & 2**64 - 1 for value in (*args, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *words)
    program = list(struct.iter_unpack("=HBBI", code))
    accumulator = position = 0
    while True:
        opcode, if_true, if_false, k = program[position]
        position += 1
        match opcode:
            case 0x20:
                if k % 4 or k + 4 > len(data):
                    raise ValueError(f"load from {k}")
                accumulator = struct.unpack_from("<I", data, k)[0]
            case 0x54:
                accumulator &= k
            case 0x15:
                position += if_true if accumulator == k else if_false
            case 0x25:
                position += if_true if accumulator > k else if_false
            case 0x35:
                position += if_true if accumulator >= k else if_false
            case 0x45:
                position += if_true if accumulator & k else if_false
            case 0x06:
                return verdict(k)
            case _:
                raise ValueError(f"unknown instruction {opcode:#x}")


def verdict(value: int) -> object:
    match value & 0xFFFF0000:
        case 0x80000000:
            return KILL
        case 0x7FFF0000:
            return ALLOW
        case 0x00050000:
            return value & 0xFFFF
    raise ValueError(f"unknown verdict {value:#x}")

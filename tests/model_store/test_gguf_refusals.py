"""Every rule of the GGUF reader, broken once, with the text that says so."""

import struct

import pytest

from model_store.gguf import MAX_STRINGS

BOOL, STRING, ARRAY, UINT32, UINT64 = 7, 8, 9, 4, 10
UNKNOWN_TYPE = 77
TOO_MANY = struct.pack("<IQ", STRING, MAX_STRINGS + 1)

BROKEN = {
    "cut header": (
        lambda forge: forge().build()[:60],
        (
            "the length of the value of 'general.architecture' would reach to byte 64, "
            "but the file ends at byte 60"
        ),
    ),
    "cut tensor data": (
        lambda forge: forge().build()[:-100],
        (
            "its tensor data ends at byte 800, but the file has only 700 bytes "
            "(100 are missing)"
        ),
    ),
    "flipped bit in the tensor count": (
        lambda forge: forge(n_tensors=1 ^ (1 << 40)).build(),
        "it claims 1099511627777 tensors; at most 32768 are accepted",
    ),
    "wrong magic": (
        lambda forge: forge(magic=b"GGUX").build(),
        "it begins with b'GGUX' and not with b'GGUF'",
    ),
    "absurd key count": (
        lambda forge: forge(n_keys=2**63).build(),
        "it claims 9223372036854775808 metadata keys; at most 16384 are accepted",
    ),
    "absurd string length": (
        lambda forge: forge(
            raw_keys=forge.raw_key(b"x", STRING, struct.pack("<Q", 2**60)), n_raw_keys=1
        ).build(),
        (
            "the value of 'x' would take 1152921504606846976 bytes at byte 239; "
            "at most 67108864 are accepted"
        ),
    ),
    "bad alignment": (
        lambda forge: forge(keys={"general.alignment": (UINT32, 48)}).build(),
        "general.alignment is 48; it must be a power of two from 1 to 1048576",
    ),
    "bad tensor type": (
        lambda forge: forge(tensors=(forge.Tensor(type=UNKNOWN_TYPE),)).build(),
        "the tensor 'token_embd.weight' has the type 77, which is not known",
    ),
    "overlapping tensors": (
        lambda forge: forge(
            tensors=(forge.Tensor(), forge.Tensor(name="b", offset=480))
        ).build(),
        (
            "the tensor 'b' begins at offset 480 and overlaps the data before it, "
            "which reaches to 512"
        ),
    ),
    "duplicate key": (
        lambda forge: forge(
            raw_keys=forge.raw_key(b"llama.block_count", UINT32, bytes(4)), n_raw_keys=1
        ).build(),
        "the key 'llama.block_count' occurs twice",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_refuses_a_broken_file_naming_the_numbers(forge, refusal, name):
    build, expected = BROKEN[name]
    assert expected == refusal(build(forge))


REFUSED = {
    "empty file": (lambda _: b"", "it is empty (0 bytes)"),
    "three bytes": (
        lambda _: b"GGU",
        "it has 3 bytes, a GGUF header has at least 24",
    ),
    "magic alone": (
        lambda _: b"GGUF\x03\0\0\0",
        "it has 8 bytes, a GGUF header has at least 24",
    ),
    "web page": (
        lambda _: b"<!DOCTYPE html><html></html>",
        (
            "it begins with b'<!DO' and not with b'GGUF': it is an HTML page, "
            "perhaps of a failed download"
        ),
    ),
    "version 1": (
        lambda forge: forge(version=1).build(),
        "its GGUF version is 1; supported are 2 and 3",
    ),
    "version 4": (
        lambda forge: forge(version=4).build(),
        "its GGUF version is 4; supported are 2 and 3",
    ),
    "big-endian": (
        lambda forge: forge(version=3 << 24).build(),
        (
            "its version reads as 50331648, so it is a big-endian file; only "
            "little-endian files are supported"
        ),
    ),
    "empty key": (
        lambda forge: forge(keys={"": (UINT32, 1)}).build(),
        "key 5 is empty",
    ),
    "key that is no text": (
        lambda forge: forge(
            raw_keys=forge.raw_key(b"\xff", UINT32, bytes(4)), n_raw_keys=1
        ).build(),
        "key 5 is not valid UTF-8",
    ),
    "long key": (
        lambda forge: forge(keys={"k" * 65_536: (UINT32, 1)}).build(),
        "key 5 would take 65536 bytes at byte 226; at most 65535 are accepted",
    ),
    "value type": (
        lambda forge: forge(
            raw_keys=forge.raw_key(b"x", 13, b""), n_raw_keys=1
        ).build(),
        "'x' has the value type 13; types are 0 to 12",
    ),
    "element type": (
        lambda forge: forge(
            raw_keys=forge.raw_key(b"x", ARRAY, struct.pack("<IQ", 99, 5)), n_raw_keys=1
        ).build(),
        "'x' has the value type 99; types are 0 to 12",
    ),
    "nested array": (
        lambda forge: forge(keys={"x": (ARRAY, (ARRAY, [(UINT32, [1])]))}).build(),
        "'x' is an array of arrays, which the engine cannot read",
    ),
    "absurd array length": (
        lambda forge: forge(
            raw_keys=forge.raw_key(b"x", ARRAY, struct.pack("<IQ", UINT32, 2**32)),
            n_raw_keys=1,
        ).build(),
        "'x' claims 4294967296 elements; at most 67108864 are accepted",
    ),
    "array behind the end": (
        lambda forge: forge(
            raw_keys=forge.raw_key(b"x", ARRAY, struct.pack("<IQ", UINT32, 10_000)),
            n_raw_keys=1,
        ).build(),
        "the elements of 'x' would reach to byte 40243, but the file ends at byte 832",
    ),
    "too many strings": (
        lambda forge: forge(
            raw_keys=forge.raw_key(
                b"x", ARRAY, struct.pack("<IQ", STRING, MAX_STRINGS + 1)
            ),
            n_raw_keys=1,
        ).build(),
        "its arrays hold 2097153 strings up to 'x'; at most 2097152 are accepted",
    ),
    "too many strings in two arrays": (
        lambda forge: forge(
            keys={"few": (ARRAY, (STRING, ["a", "b"]))},
            raw_keys=forge.raw_key(
                b"x", ARRAY, struct.pack("<IQ", STRING, MAX_STRINGS)
            ),
            n_raw_keys=1,
        ).build(),
        "its arrays hold 2097154 strings up to 'x'; at most 2097152 are accepted",
    ),
    "truth value": (
        lambda forge: forge(keys={"x": (BOOL, 7)}).build(),
        "'x' is a truth value stored as 7; only 0 and 1 are valid",
    ),
    "alignment of the wrong type": (
        lambda forge: forge(keys={"general.alignment": (UINT64, 32)}).build(),
        "general.alignment has the value type 10; it must be 4 (UINT32)",
    ),
    "alignment 0": (
        lambda forge: forge(keys={"general.alignment": (UINT32, 0)}).build(),
        "general.alignment is 0; it must be a power of two from 1 to 1048576",
    ),
    "long tensor name": (
        lambda forge: forge(tensors=(forge.Tensor(name="n" * 64),)).build(),
        "the name of tensor 0 would take 64 bytes at byte 226; at most 63 are accepted",
    ),
    "tensor name that is no text": (
        lambda forge: forge(tensors=(forge.Tensor(name=b"\xc3"),)).build(),
        "the name of tensor 0 is not valid UTF-8",
    ),
    "duplicate tensor": (
        lambda forge: forge(tensors=(forge.Tensor(), forge.Tensor(offset=512))).build(),
        "the tensor 'token_embd.weight' occurs twice",
    ),
    "five dimensions": (
        lambda forge: forge(tensors=(forge.Tensor(dimensions=(1,) * 5),)).build(),
        "the tensor 'token_embd.weight' has 5 dimensions; at most 4 are accepted",
    ),
    "overflowing elements": (
        lambda forge: forge(tensors=(forge.Tensor(dimensions=(2**32, 2**31)),)).build(),
        (
            "the tensor 'token_embd.weight' claims 9223372036854775808 elements in "
            "dimensions [4294967296, 2147483648]; at most 9223372036854775807 are "
            "accepted"
        ),
    ),
    "negative dimension hidden by a zero": (
        lambda forge: forge(tensors=(forge.Tensor(dimensions=(0, 2**63)),)).build(),
        (
            "the tensor 'token_embd.weight' claims 0 elements in dimensions "
            "[0, 9223372036854775808]; at most 9223372036854775807 are accepted"
        ),
    ),
    "row that is no whole block": (
        lambda forge: forge(
            tensors=(forge.Tensor(dimensions=(33, 2), type=8),)
        ).build(),
        (
            "the tensor 'token_embd.weight' has rows of 33 elements, which is no "
            "multiple of Q8_0's block of 32"
        ),
    ),
    "unaligned offset": (
        lambda forge: forge(tensors=(forge.Tensor(offset=8),)).build(),
        (
            "the tensor 'token_embd.weight' begins at offset 8, which is no multiple "
            "of the alignment 32"
        ),
    ),
    "gap": (
        lambda forge: forge(
            tensors=(forge.Tensor(), forge.Tensor(name="b", offset=576))
        ).build(),
        (
            "the tensor 'b' begins at offset 576, 64 bytes behind the data before it, "
            "which ends at 512"
        ),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_the_engine_could_not_load(forge, refusal, name):
    build, expected = REFUSED[name]
    assert expected == refusal(build(forge))

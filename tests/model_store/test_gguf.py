"""The reader of GGUF headers: what it accepts, refuses, and at what cost."""

import contextlib
import io
import os
import random
import re
import struct
import time
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.errors import BadGguf, UnreadableFile
from model_store.gguf import (
    MAX_KEPT_BYTES,
    MAX_STRINGS,
    Skipped,
    parse_header,
    read_header,
)
from model_store.summary import summarize

PATH = Path("m.gguf")
FLOAT32, BOOL, STRING, ARRAY, UINT32, UINT64 = 6, 7, 8, 9, 4, 10
UNKNOWN_TYPE = 77


def parse(content):
    return parse_header(io.BytesIO(content), path=PATH, size_bytes=len(content))


def refusal(content):
    with pytest.raises(BadGguf) as caught:
        parse(content)
    assert str(caught.value) == (
        f"The file 'm.gguf' is not a usable GGUF file: {caught.value.reason}. "
        "Copy or download the file again, or remove it."
    )
    return caught.value.reason


def raw_key(name, kind, value):
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


def test_reads_what_another_implementation_wrote(tmp_path):
    path = tmp_path / "written.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("a.u8", 200)
    writer.add_int8("a.i8", -100)
    writer.add_uint16("a.u16", 60_000)
    writer.add_int16("a.i16", -30_000)
    writer.add_uint32("a.u32", 4_000_000_000)
    writer.add_int32("a.i32", -2_000_000_000)
    writer.add_float32("a.f32", 0.5)
    writer.add_bool("a.bool", val=True)
    writer.add_string("a.str", "grüß dich")
    writer.add_uint64("a.u64", 2**63)
    writer.add_int64("a.i64", -(2**62))
    writer.add_float64("a.f64", 0.1)
    writer.add_array("a.numbers", [1, 2, 3])
    writer.add_array("a.words", ["x", "yy"])
    writer.add_tensor("one", np.zeros((4, 32), dtype=np.float32))
    quantized = gguf.quants.quantize(
        np.ones((2, 64), dtype=np.float32), gguf.GGMLQuantizationType.Q8_0
    )
    writer.add_tensor("two", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    header = read_header(path)

    assert header.metadata == {
        "general.architecture": "llama",
        "a.u8": 200,
        "a.i8": -100,
        "a.u16": 60_000,
        "a.i16": -30_000,
        "a.u32": 4_000_000_000,
        "a.i32": -2_000_000_000,
        "a.f32": 0.5,
        "a.bool": True,
        "a.str": "grüß dich",
        "a.u64": 2**63,
        "a.i64": -(2**62),
        "a.f64": 0.1,
        "a.numbers": (1, 2, 3),
        "a.words": Skipped(2),
    }
    assert [(t.name, t.dimensions, t.type, t.size_bytes) for t in header.tensors] == [
        ("one", (32, 4), 0, 512),
        ("two", (64, 2), 8, 136),
    ]
    assert header.tensor_bytes == 648
    assert header.size_bytes == path.stat().st_size


@pytest.mark.model
def test_agrees_with_another_reader_on_real_files(real_models):
    for path in sorted(real_models.glob("*.gguf")):
        theirs = gguf.GGUFReader(path)
        ours = read_header(path)
        assert ours.data_offset == theirs.data_offset
        assert [
            (t.name, t.n_elements, t.size_bytes, ours.data_offset + t.offset)
            for t in ours.tensors
        ] == [
            (t.name, int(t.n_elements), int(t.n_bytes), int(t.data_offset))
            for t in theirs.tensors
        ]
        fields = {
            name: each
            for name, each in theirs.fields.items()
            if not name.startswith("GGUF.")
        }
        assert list(ours.metadata) == list(fields)
        for name, value in ours.metadata.items():
            if isinstance(value, Skipped):
                assert value.count == len(fields[name].data)
                continue
            theirs_value = fields[name].contents()
            assert value == (
                tuple(theirs_value) if isinstance(theirs_value, list) else theirs_value
            )


@pytest.mark.model
def test_skips_a_vocabulary_of_151936_tokens_quickly(real_models):
    best = min(
        _time(read_header, real_models / "tiny-qwen2-vocab.gguf") for _ in range(3)
    )
    assert best < 0.3


def _time(function, *args):
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


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
            raw_keys=raw_key(b"x", STRING, struct.pack("<Q", 2**60)), n_raw_keys=1
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
            raw_keys=raw_key(b"llama.block_count", UINT32, bytes(4)), n_raw_keys=1
        ).build(),
        "the key 'llama.block_count' occurs twice",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_refuses_a_broken_file_naming_the_numbers(forge, name):
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
            raw_keys=raw_key(b"\xff", UINT32, bytes(4)), n_raw_keys=1
        ).build(),
        "key 5 is not valid UTF-8",
    ),
    "long key": (
        lambda forge: forge(keys={"k" * 65_536: (UINT32, 1)}).build(),
        "key 5 would take 65536 bytes at byte 226; at most 65535 are accepted",
    ),
    "value type": (
        lambda forge: forge(raw_keys=raw_key(b"x", 13, b""), n_raw_keys=1).build(),
        "'x' has the value type 13; types are 0 to 12",
    ),
    "element type": (
        lambda forge: forge(
            raw_keys=raw_key(b"x", ARRAY, struct.pack("<IQ", 99, 5)), n_raw_keys=1
        ).build(),
        "'x' has the value type 99; types are 0 to 12",
    ),
    "nested array": (
        lambda forge: forge(keys={"x": (ARRAY, (ARRAY, [(UINT32, [1])]))}).build(),
        "'x' is an array of arrays, which the engine cannot read",
    ),
    "absurd array length": (
        lambda forge: forge(
            raw_keys=raw_key(b"x", ARRAY, struct.pack("<IQ", UINT32, 2**32)),
            n_raw_keys=1,
        ).build(),
        "'x' claims 4294967296 elements; at most 67108864 are accepted",
    ),
    "array behind the end": (
        lambda forge: forge(
            raw_keys=raw_key(b"x", ARRAY, struct.pack("<IQ", UINT32, 10_000)),
            n_raw_keys=1,
        ).build(),
        "the elements of 'x' would reach to byte 40243, but the file ends at byte 832",
    ),
    "too many strings": (
        lambda forge: forge(
            raw_keys=raw_key(b"x", ARRAY, struct.pack("<IQ", STRING, MAX_STRINGS + 1)),
            n_raw_keys=1,
        ).build(),
        "its arrays hold 2097153 strings up to 'x'; at most 2097152 are accepted",
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
def test_refuses_what_the_engine_could_not_load(forge, name):
    build, expected = REFUSED[name]
    assert expected == refusal(build(forge))


def test_accepts_version_2_and_another_alignment(forge):
    content = forge(
        version=2,
        alignment=256,
        keys={"general.alignment": (UINT32, 256)},
    ).build()
    header = parse(content)
    assert (header.version, header.alignment) == (2, 256)
    assert header.data_offset % 256 == 0


def test_accepts_a_file_without_tensors(forge):
    header = parse(forge(tensors=()).build())
    assert header.tensors == ()
    assert header.tensor_bytes == 0


def test_text_that_is_not_utf8_is_kept_readable(forge):
    header = parse(forge(keys={"general.name": (STRING, b"caf\xe9")}).build())
    assert header.metadata["general.name"] == "caf\ufffd"


def test_long_values_become_counts(forge):
    header = parse(
        forge(
            keys={
                "long": (STRING, "x" * (2**20 + 1)),
                "many": (ARRAY, (FLOAT32, [0.0] * 1_025)),
                "few": (ARRAY, (FLOAT32, [0.5] * 2)),
                "flags": (ARRAY, (BOOL, [1, 0])),
            }
        ).build()
    )
    assert header.metadata["long"] == Skipped(2**20 + 1)
    assert header.metadata["many"] == Skipped(1_025)
    assert header.metadata["few"] == (0.5, 0.5)
    assert header.metadata["flags"] == (True, False)


def test_strings_across_the_buffer_s_end_are_walked_right(forge):
    words = ["w" * (n * 7919 % 3_000) for n in range(1_000)]
    words.insert(500, "long" * 200_000)
    header = parse(
        forge(keys={"words": (ARRAY, (STRING, words)), "after": (UINT32, 7)}).build()
    )
    assert header.metadata["words"] == Skipped(1_001)
    assert header.metadata["after"] == 7


def test_a_word_that_reaches_behind_the_end_is_refused(forge):
    array = struct.pack("<IQ", STRING, 2) + struct.pack("<Q", 5_000)
    content = forge(raw_keys=raw_key(b"x", ARRAY, array), n_raw_keys=1).build()
    assert refusal(content) == (
        "the elements of 'x' would reach to byte 5251, but the file ends at byte 832"
    )


def test_more_text_than_the_cap_is_refused(forge):
    text = "x" * 2**20
    content = forge(keys={f"k{n}": (STRING, text) for n in range(9)}).build()
    assert refusal(content) == (
        f"its metadata has more than {MAX_KEPT_BYTES} bytes of text"
    )


class ShrinkingFile(io.BytesIO):
    """A file that another process cuts while it is read."""

    def read(self, size=-1):
        return super().read(min(size, 100)) if self.tell() < 200 else b""


def test_a_file_cut_while_it_is_read_is_refused(forge):
    content = forge().build()
    with pytest.raises(BadGguf, match="it is being changed") as caught:
        parse_header(ShrinkingFile(content), path=PATH, size_bytes=len(content))
    assert "the file ended at byte 200" in caught.value.reason


def test_short_reads_are_continued(forge):
    class Trickle(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 3))

    content = forge().build()
    header = parse_header(Trickle(content), path=PATH, size_bytes=len(content))
    assert header == parse(content)


def test_a_header_may_not_be_larger_than_its_cap(tmp_path, forge):
    array = struct.pack("<IQ", UINT64, 20 * 2**20)
    path = tmp_path / "wide.gguf"
    path.write_bytes(forge(raw_keys=raw_key(b"x", ARRAY, array), n_raw_keys=1).build())
    os.truncate(path, 2**30)
    with pytest.raises(BadGguf) as caught:
        read_header(path)
    assert caught.value.reason == (
        "the elements of 'x' would reach to byte 167772403; a header may have at most "
        "134217728 bytes"
    )


def test_hostile_files_cost_little_memory(tmp_path, forge):
    array = struct.pack("<IQ", STRING, 2**17)
    path = tmp_path / "zeros.gguf"
    path.write_bytes(
        forge(
            keys={f"k{n}": (STRING, "x" * (2**20 - 10)) for n in range(7)},
            raw_keys=raw_key(b"x", ARRAY, array),
            n_raw_keys=1,
            tensors=(),
            n_tensors=32_000,
        ).build()
    )
    os.truncate(path, 2**30)
    tracemalloc.start()
    try:
        with pytest.raises(BadGguf):
            read_header(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 * 2**20


def test_the_largest_allowed_array_is_skipped_in_bounded_time(tmp_path, forge):
    array = struct.pack("<IQ", STRING, MAX_STRINGS)
    path = tmp_path / "words.gguf"
    path.write_bytes(
        forge(raw_keys=raw_key(b"x", ARRAY, array), n_raw_keys=1, tensors=()).build()
    )
    os.truncate(path, 2**27 - 2**20)
    assert _time(read_header, path) < 2


def test_unreadable_files_are_told_from_broken_ones(tmp_path):
    missing = tmp_path / "missing.gguf"
    with pytest.raises(UnreadableFile) as caught:
        read_header(missing)
    assert str(caught.value) == (
        f"The file '{missing}' cannot be read: No such file or directory. "
        "Check that the file exists, and its permissions and its disk."
    )
    with pytest.raises(UnreadableFile, match="not a regular file"):
        read_header(Path("/dev/null"))
    with pytest.raises(UnreadableFile, match="null"):
        read_header(Path("a\0b"))


def test_a_named_pipe_does_not_block(tmp_path):
    pipe = tmp_path / "pipe.gguf"
    os.mkfifo(pipe)
    with pytest.raises(UnreadableFile, match="not a regular file"):
        read_header(pipe)


def test_hostile_names_are_printable_in_errors(forge):
    name = "\x1b[2J\n" + "k" * 200
    reason = refusal(forge(keys={name: (BOOL, 9)}).build())
    assert reason.startswith("'[2J" + "k" * 76 + "…' is a truth value")
    assert re.search(r"[\x00-\x1f]", reason) is None


def judge(content):
    """Parse and summarise; anything but BadGguf fails the test. Seconds."""
    start = time.perf_counter()
    with contextlib.suppress(BadGguf):
        summarize(parse(content))
    return time.perf_counter() - start


def mutate(rng, seed, header_bytes):
    content = bytearray(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(header_bytes)
        match rng.randrange(6):
            case 0:
                content[at] ^= 1 << rng.randrange(8)
            case 1:
                content[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                content[at : at + 8] = struct.pack("<Q", rng.getrandbits(64))
            case 3:
                content[at : at + 8] = struct.pack(
                    "<Q", rng.choice((0, 2**31, 2**32, 2**63 - 1, 2**64 - 1))
                )
            case 4:
                del content[at : at + rng.randrange(1, 64)]
            case _:
                content[at:at] = rng.randbytes(rng.randrange(1, 64))
    if rng.random() < 0.1:
        del content[rng.randrange(len(content)) :]
    return bytes(content)


@pytest.mark.parametrize("seed", range(4))
def test_mutations_of_a_made_file_end_in_our_own_error(forge, seed):
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    made = forge(
        keys={
            "tokenizer.ggml.tokens": (ARRAY, (STRING, ["a", "b", "c"])),
            "llama.attention.head_count_kv": (ARRAY, (UINT32, [2, 2])),
            "general.name": (STRING, "made"),
        },
        tensors=(forge.Tensor(), forge.Tensor(name="b", offset=512)),
    ).build()
    slowest = max(judge(mutate(rng, made, len(made) - 1_024)) for _ in range(1_000))
    assert slowest < 1


@pytest.mark.model
def test_mutations_of_a_real_file_end_in_our_own_error(real_models):
    rng = random.Random(7)  # noqa: S311 - not for secrets
    real = (real_models / "stories260K.gguf").read_bytes()
    slowest = max(judge(mutate(rng, real, 14_144)) for _ in range(1_500))
    assert slowest < 1


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_behind_the_magic_end_in_our_own_error(tail):
    judge(b"GGUF\x03\0\0\0" + tail)

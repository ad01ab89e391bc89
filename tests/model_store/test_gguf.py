"""The reader of GGUF headers: what it accepts, refuses, and at what cost."""

import io
import os
import re
import struct
import sys
import time
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest

from model_store.errors import BadGguf, UnreadableFile
from model_store.gguf import (
    MAX_KEPT_BYTES,
    MAX_STRINGS,
    Skipped,
    parse_header,
    read_header,
)

PATH = Path("m.gguf")
FLOAT32, BOOL, STRING, ARRAY, UINT32, UINT64 = 6, 7, 8, 9, 4, 10
UNKNOWN_TYPE = 77


def parse(content):
    return parse_header(io.BytesIO(content), path=PATH, size_bytes=len(content))


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
    for stem in ("stories260K", "all-minilm-l6-v2-q8_0"):
        path = real_models / f"{stem}.gguf"
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
    """Processor seconds: other work on the machine does not count."""
    if sys.gettrace() is not None:
        pytest.skip("a tracer multiplies the time of the loop that is measured")
    start = time.thread_time()
    function(*args)
    return time.thread_time() - start


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


def test_a_word_that_reaches_behind_the_end_is_refused(forge, refusal):
    array = struct.pack("<IQ", STRING, 2) + struct.pack("<Q", 5_000)
    content = forge(raw_keys=forge.raw_key(b"x", ARRAY, array), n_raw_keys=1).build()
    assert refusal(content) == (
        "the elements of 'x' would reach to byte 5251, but the file ends at byte 832"
    )


def test_more_text_than_the_cap_is_refused(forge, refusal):
    text = "x" * 2**20
    content = forge(keys={f"k{n}": (STRING, text) for n in range(9)}).build()
    assert refusal(content) == (
        f"its metadata has more than {MAX_KEPT_BYTES} bytes of text and numbers"
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
    path.write_bytes(
        forge(raw_keys=forge.raw_key(b"x", ARRAY, array), n_raw_keys=1).build()
    )
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
            raw_keys=forge.raw_key(b"x", ARRAY, array),
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
        forge(
            raw_keys=forge.raw_key(b"x", ARRAY, array), n_raw_keys=1, tensors=()
        ).build()
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


def test_hostile_names_are_printable_in_errors(forge, refusal):
    name = "\x1b[2J\n" + "k" * 200
    reason = refusal(forge(keys={name: (BOOL, 9)}).build())
    assert reason.startswith("'[2J" + "k" * 76 + "…' is a truth value")
    assert re.search(r"[\x00-\x1f]", reason) is None

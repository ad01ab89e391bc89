"""Hostile GGUF headers: only our own errors, in bounds, in little memory, soon.

Mutated files are judged in a child process whose address space is limited (see
`fuzz_gguf`). CLOISTER_TEST_LONG=1 runs 25,000 cases instead of 1,460.
"""

import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_store import gguf, tensor_table
from model_store.errors import BadGguf
from model_store.gguf import read_header
from model_store.summary import summarize
from scripts.make_model import KINDS, write_model
from tests.model_store.fuzz_gguf import (
    MEMORY_BYTES,
    BoundedFile,
    OutOfBoundsError,
    judge,
)

IS_LONG = os.environ.get("CLOISTER_TEST_LONG") == "1"
N_MADE = 18_000 if IS_LONG else 1_200
N_REAL = 4_000 if IS_LONG else 60
N_EXAMPLES = 3_000 if IS_LONG else 200
MAX_S = 2.0
FUZZER = Path(__file__).with_name("fuzz_gguf.py")
UINT8, UINT32, STRING, ARRAY, UINT64 = 0, 4, 8, 9, 10


def fuzz(*args):
    done = subprocess.run(
        [sys.executable, FUZZER, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert "" == done.stderr
    return json.loads(done.stdout)


def check(report, n_cases):
    assert [] == report["failures"]
    assert n_cases == report["cases"] == report["accepted"] + report["refused"]
    assert report["slowest_s"] < MAX_S
    assert report["grown_bytes"] < MEMORY_BYTES
    # Mutations that all end at the magic would show nothing.
    assert report["accepted"] > n_cases // 100


@pytest.fixture(scope="module")
def made_models(tmp_path_factory):
    """One file of each kind, and one in shards."""
    folder = tmp_path_factory.mktemp("made")
    paths = [write_model(folder / f"{kind}.gguf", kind)[0] for kind in KINDS]
    return [*paths, *write_model(folder / "split.gguf", "tiny-llama", n_shards=2)][:-1]


@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_mutations_of_every_kind_of_model_end_well(made_models):
    check(fuzz(N_MADE, "made", *made_models), N_MADE)


@pytest.mark.model
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_mutations_of_real_models_end_well(shared_models):
    paths = sorted(shared_models.glob("*.gguf"))
    check(fuzz(N_REAL, "real", *paths), N_REAL)


@pytest.mark.model
def test_every_real_model_is_accepted(shared_models):
    paths = sorted(shared_models.glob("*.gguf"))
    assert paths
    assert all(summarize(read_header(path)).n_params > 0 for path in paths)


numbers = st.one_of(
    st.integers(0, 2**64 - 1),
    st.sampled_from([0, 1, 31, 32, 1_024, 1_025, 2**31, 2**32, 2**63, 2**64 - 1]),
)
strings = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"general.architecture",
            b"general.alignment",
            b"llama",
            b"llama.block_count",
            b"split.count",
            b"tokenizer.ggml.tokens",
        ]
    ),
)
packed_strings = st.one_of(
    strings.map(lambda raw: struct.pack("<Q", len(raw)) + raw),
    st.tuples(numbers, strings).map(lambda both: struct.pack("<Q", both[0]) + both[1]),
)


@st.composite
def values(draw):
    kind = draw(st.integers(0, 14))
    if kind == ARRAY:
        element = draw(st.integers(0, 14))
        count = draw(st.one_of(st.integers(0, 40), numbers))
        body = draw(st.one_of(st.binary(max_size=200), packed_strings))
        return struct.pack("<IIQ", kind, element, count) + body
    body = draw(packed_strings if kind == STRING else st.binary(min_size=1, max_size=8))
    return struct.pack("<I", kind) + body


@st.composite
def tensors(draw):
    dimensions = draw(st.lists(numbers, max_size=6))
    return (
        draw(packed_strings)
        + struct.pack("<I", len(dimensions))
        + b"".join(struct.pack("<Q", each) for each in dimensions)
        + struct.pack("<I", draw(st.integers(0, 50)))
        + struct.pack("<Q", draw(numbers))
    )


@st.composite
def headers(draw):
    keys = draw(st.lists(st.tuples(packed_strings, values()), max_size=8))
    rows = draw(st.lists(tensors(), max_size=4))
    n_keys = draw(st.one_of(st.just(len(keys)), numbers))
    n_tensors = draw(st.one_of(st.just(len(rows)), numbers))
    start = b"GGUF" + struct.pack("<IQQ", draw(st.sampled_from([2, 3])), 0, 0)[:4]
    start += struct.pack("<QQ", n_tensors, n_keys)
    return start + b"".join(key + value for key, value in keys) + b"".join(rows)


@pytest.mark.timeout(600)
@given(headers(), st.one_of(st.none(), st.integers(0, 2**50)))
@settings(
    max_examples=N_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_invented_headers_end_well(header, size_bytes):
    size = len(header) if size_bytes is None else size_bytes
    start = time.thread_time()
    judge(header, size)
    assert time.thread_time() - start < MAX_S


def pack_key(index, kind, value, name=b""):
    key = name or b"k%d" % index
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value


def assemble(keys, rows=()):
    start = b"GGUF" + struct.pack("<IQQ", 3, len(rows), len(keys))
    return start + b"".join(keys) + b"".join(rows)


def fill_with_numbers(kind, value):
    array = struct.pack("<IQ", kind, gguf.MAX_KEPT_ELEMENTS)
    array += value * gguf.MAX_KEPT_ELEMENTS
    return assemble([pack_key(index, ARRAY, array) for index in range(gguf.MAX_KEYS)])[
        : gguf.MAX_HEADER_BYTES
    ]


def fill_with_long_keys():
    count = gguf.MAX_KEPT_BYTES // gguf.MAX_KEY_BYTES
    array = struct.pack("<IQ", STRING, 1) + bytes(8)
    size = gguf.MAX_KEY_BYTES
    return assemble(
        [
            pack_key(
                index,
                ARRAY,
                array,
                name=b"%09d" % index + "é".encode() * (size // 2 - 4),
            )
            for index in range(count)
        ]
    )


def fill_with_wide_texts():
    text = "\U0001f600".encode() + b"a" * (gguf.MAX_KEPT_STRING_BYTES - 4)
    packed = struct.pack("<Q", len(text)) + text
    return assemble([pack_key(index, STRING, packed) for index in range(7)])


def fill_with_empty_strings():
    array = struct.pack("<IQ", STRING, gguf.MAX_STRINGS) + bytes(8 * gguf.MAX_STRINGS)
    return assemble([pack_key(0, ARRAY, array)])


def fill_with_tensors():
    rows = []
    for index in range(gguf.MAX_TENSORS):
        name = (b"%06d" % index).ljust(tensor_table.MAX_TENSOR_NAME_BYTES, b"x")
        rows.append(
            struct.pack("<Q", len(name))
            + name
            + struct.pack("<I4QIQ", 4, 32, 1, 1, 1, 0, index * 128)
        )
    return assemble([], rows)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: fill_with_numbers(UINT8, b"\1"), id="bytes"),
        pytest.param(lambda: fill_with_numbers(UINT32, b"\1\2\3\4"), id="numbers"),
        pytest.param(
            lambda: fill_with_numbers(UINT64, b"\xff" * 8), id="large numbers"
        ),
        pytest.param(fill_with_long_keys, id="long keys"),
        pytest.param(fill_with_wide_texts, id="wide texts"),
        pytest.param(fill_with_empty_strings, id="empty strings"),
        pytest.param(fill_with_tensors, id="tensors"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_a_file_at_the_limits_takes_little_memory_and_time(make, tmp_path):
    content = make()
    path = tmp_path / "at-the-limits.gguf"
    path.write_bytes(content)
    report = fuzz("as-it-is", len(content) + 2**33, path)
    assert [] == report["failures"]
    assert report["slowest_s"] < MAX_S
    assert report["grown_bytes"] < MEMORY_BYTES


def test_the_fuzzers_file_refuses_what_lies_outside():
    file = BoundedFile(b"GGUF", 6)
    assert b"GGUF\0\0" == file.read(6)
    for act in (lambda: file.read(1), lambda: file.seek(7), lambda: file.seek(-1)):
        with pytest.raises(OutOfBoundsError):
            act()


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_the_fuzzers_limit_is_felt():
    code = (
        "import fuzz_gguf as f; f.limit_memory(); bytearray(f.MEMORY_BYTES // 2)\n"
        "try: bytearray(f.MEMORY_BYTES * 5 // 4)\n"
        "except MemoryError: print('felt')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=FUZZER.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("felt\n", "") == (done.stdout, done.stderr)


def test_the_judge_tells_sound_from_broken(forge):
    content = forge().build()
    assert judge(content, len(content))
    assert not judge(content[:-1], len(content) - 1)
    with pytest.raises(BadGguf):
        summarize(read_header(Path(__file__)))

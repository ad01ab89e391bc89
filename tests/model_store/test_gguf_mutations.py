"""Whatever the bytes are, the reader ends soon and with its own error."""

import contextlib
import io
import random
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.errors import BadGguf
from model_store.gguf import parse_header
from model_store.summary import summarize

STRING, ARRAY, UINT32 = 8, 9, 4


def judge(content):
    """Return the processor seconds; anything but BadGguf fails the test."""
    start = time.thread_time()
    with contextlib.suppress(BadGguf):
        header = parse_header(
            io.BytesIO(content), path=Path("m.gguf"), size_bytes=len(content)
        )
        summarize(header)
    return time.thread_time() - start


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

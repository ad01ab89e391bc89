"""Fuzzes the GGUF reader in this process; run as a program by its test.

Usage: python tests/model_store/fuzz_gguf.py N_CASES SEED FILE...
       python tests/model_store/fuzz_gguf.py as-it-is SIZE_BYTES FILE

The second judges one file as it is, as if it had that many bytes. Otherwise
each case is the header of one of the files, mutated, in front of as many zeros
as the file has data. The address space is limited to what the process has plus
`MEMORY_BYTES`, so a case that allocates more ends in MemoryError; the file
object refuses whatever lies outside the bounds it was given. One JSON line says
what happened; `failures` has the first cases that broke a rule.
"""

import io
import json
import random
import resource
import struct
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from model_store.errors import StoreError
from model_store.gguf import parse_header, read_header
from model_store.summary import summarize, summarize_shard, tell_kind

MEMORY_BYTES = 64 * 2**20
EDGES = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
MAX_FAILURES = 5


class OutOfBoundsError(Exception):
    """The reader left the bounds; not an error of the store, so it shows."""


class BoundedFile(io.RawIOBase):
    """A header and zeros behind it, `size_bytes` long; refuses all else."""

    def __init__(self, header, size_bytes):
        super().__init__()
        self._header = header[:size_bytes]
        self._size = size_bytes
        self._position = 0

    def seek(self, offset, whence=io.SEEK_SET):
        if whence != io.SEEK_SET or not 0 <= offset <= self._size:
            raise OutOfBoundsError(f"seek to {offset} of {self._size}")
        self._position = offset
        return offset

    def read(self, size=-1):
        if size < 0 or self._position + size > self._size:
            raise OutOfBoundsError(f"read of {size} at {self._position}/{self._size}")
        piece = self._header[self._position : self._position + size]
        self._position += size
        return piece + bytes(size - len(piece))


def judge(header, size_bytes):
    """Read one case as the store does; tell whether it was accepted."""
    file = BoundedFile(header, size_bytes)
    try:
        parsed = parse_header(file, path=Path("m.gguf"), size_bytes=size_bytes)
        tell_kind(parsed)
        summarize_shard(parsed)
        summarize(parsed)
    except StoreError:
        return False
    return True


def mutate(rng, seed):
    """Change a header in one to sixteen places."""
    content = bytearray(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(max(1, len(content)))
        width = rng.choice((1, 4, 8))
        match rng.randrange(8):
            case 0:
                content[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                content[at : at + 1] = bytes([content[at] ^ 1 << rng.randrange(8)])
            case 2:
                value = rng.choice(EDGES) + rng.randrange(-2, 3)
                content[at : at + width] = struct.pack("<Q", value % 2**64)[:width]
            case 3:
                content[at : at + width] = rng.randbytes(width)
            case 4:
                del content[at : at + rng.randrange(1, 64)]
            case 5:
                content[at:at] = rng.randbytes(rng.randrange(1, 64))
            case 6:  # a piece of the file once more
                start = rng.randrange(len(content))
                content[at:at] = content[start : start + rng.randrange(1, 256)]
            case _:
                value = rng.choice((0, 1, 4, 8, 9, 1024, 1025, 65_536, 2**20))
                content[at : at + 8] = struct.pack("<Q", value)
    return bytes(content)


def vary_size(rng, size_bytes, header_bytes):
    """Choose the length of a case's file, mostly the real one."""
    match rng.randrange(10):
        case 0:
            return rng.randrange(header_bytes + 1)
        case 1:
            return max(0, size_bytes + rng.randrange(-64, 64))
        case 2:
            return 2**40
        case _:
            return size_bytes


def load_seeds(paths):
    seeds = []
    for path in paths:
        header = read_header(path)
        summarize(header)
        with path.open("rb") as file:
            seeds.append((file.read(header.data_offset), header.size_bytes))
    return seeds


def limit_memory():
    """Allow `MEMORY_BYTES` more than there is."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    used = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES,) * 2)


def peak_bytes():
    # Not ru_maxrss, which a child inherits from whoever started it.
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def run(n_cases, seed, seeds):
    """Run all cases; the numbers of cases and seeds make them repeatable."""
    report = {"cases": 0, "accepted": 0, "refused": 0, "slowest_s": 0.0}
    failures = []
    for number in range(n_cases):
        rng = random.Random(f"{seed}/{number}")  # noqa: S311 - not for secrets
        header, size_bytes = seeds[number % len(seeds)]
        content = mutate(rng, header)
        size = vary_size(rng, size_bytes, len(content))
        start = time.thread_time()
        try:
            accepted = judge(content, size)
        except Exception as error:  # noqa: BLE001 - what is looked for
            accepted = False
            failures.append(f"case {seed}/{number}: {type(error).__name__}: {error}")
        spent_s = time.thread_time() - start
        report["cases"] += 1
        report["accepted" if accepted else "refused"] += 1
        report["slowest_s"] = max(report["slowest_s"], spent_s)
    report["failures"] = failures[:MAX_FAILURES]
    return report


def run_one(size_bytes, content):
    failures = []
    start = time.thread_time()
    try:
        accepted = judge(content, size_bytes)
    except Exception as error:  # noqa: BLE001 - what is looked for
        failures.append(f"{type(error).__name__}: {error}")
        accepted = False
    spent_s = time.thread_time() - start
    return {"accepted": accepted, "slowest_s": spent_s, "failures": failures}


def main(args):
    first, second, *paths = args
    if first == "as-it-is":
        content = Path(paths[0]).read_bytes()
        run_all = partial(run_one, int(second), content)
    else:
        run_all = partial(run, int(first), second, load_seeds(map(Path, paths)))
    limit_memory()
    before = peak_bytes()
    start = time.perf_counter()
    report = run_all()
    report["wall_s"] = round(time.perf_counter() - start, 2)
    report["grown_bytes"] = peak_bytes() - before
    print(json.dumps(report))  # noqa: T201 - its output
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

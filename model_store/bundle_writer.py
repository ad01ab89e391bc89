"""Writes a planned bundle.

Each file is digested again while it is written: one that is not what the plan
says stops the bundle. Digesting runs beside the writing.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

from model_store.bundle import (
    MANIFEST_NAME,
    SIGNATURE_NAME,
    lay_out,
    list_members,
    total_bytes,
)
from model_store.bundle_output import Output, Written, check_output
from model_store.bundle_plan import CannotBundle, Plan
from model_store.digest import CHUNK_BYTES, Progress
from model_store.errors import UnreadableFile
from model_store.record import SUMS_NAME
from model_store.signature import Signer
from model_store.tar_header import BLOCK_BYTES, pad_to


def write_bundle(
    plan: Plan,
    out: Path,
    *,
    split_bytes: int | None = None,
    signer: Signer | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write a bundle; nothing is left of it where that fails.

    Args:
        plan: What it holds.
        out: The file; must not exist. Parts get `.001`, `.002`, … behind it.
        split_bytes: Every part is smaller than this; None means one file. A
            bundle that fits is not split.
        signer: Signs it; None leaves it unsigned.
        progress: Told of the bytes of files as they are written.

    Raises:
        CannotWrite: The place is taken, not writable or too small.
        CannotBundle: A file is not as planned.
        UnreadableFile: A file cannot be read.
    """
    signature = None if signer is None else signer.sign(plan.sums)
    members = list_members(plan.manifest, plan.manifest_raw, plan.sums, signature)
    places = list(lay_out(members))
    size_bytes = total_bytes(places[-1])
    part_bytes = check_output(out, size_bytes, split_bytes)
    own = {SUMS_NAME: plan.sums, MANIFEST_NAME: plan.manifest_raw}
    if signature is not None:
        own[SIGNATURE_NAME] = signature
    digests = {file.path: file.sha256 for file in plan.manifest.files}
    with Output(out, part_bytes) as output, ThreadPoolExecutor(2) as pool:
        for place in places:
            path = place.member.path
            output.write(place.header)
            content = own.get(path, plan.contents.get(path))
            if content is not None:
                output.write(content)
                _tell(progress, len(content) if path in digests else 0)
            else:
                copy = _Copy(plan.sources[path], place.member.size_bytes, pool)
                copy.run(output.write, digests[path], progress)
            output.write(bytes(pad_to(place.end, BLOCK_BYTES)))
        output.write(bytes(size_bytes - output.position))
        return output.publish()


class _Copy:
    """Copies one file into the bundle, digesting beside the writing."""

    def __init__(self, source: Path, size_bytes: int, pool: ThreadPoolExecutor) -> None:
        self._source = source
        self._size_bytes = size_bytes
        self._pool = pool

    def run(
        self, write: Callable[[bytes], None], expected: str, progress: Progress | None
    ) -> None:
        """Copy all; the file must be what was planned."""
        digest = sha256()
        pending: list[Future[None]] = []
        done = 0
        for block in self._blocks():
            for future in pending:
                future.result()
            pending = [
                self._pool.submit(digest.update, block),
                self._pool.submit(write, block),
            ]
            done += len(block)
            _tell(progress, len(block))
        for future in pending:
            future.result()
        if done != self._size_bytes or digest.hexdigest() != expected:
            raise CannotBundle(
                self._source,
                f"it has {done} bytes with the SHA-256 {digest.hexdigest()}, expected "
                f"were {self._size_bytes} with {expected}",
                "It changed or is damaged: see 'cloister verify'.",
            )

    def _blocks(self) -> Iterator[bytes]:
        """Give the content, at most one byte more than planned."""
        left = self._size_bytes + 1
        try:
            with self._source.open("rb", buffering=0) as file:
                while block := file.read(min(CHUNK_BYTES, left)):
                    left -= len(block)
                    yield block
        except OSError as error:
            raise UnreadableFile(self._source, error.strerror or str(error)) from error


def _tell(progress: Progress | None, n_bytes: int) -> None:
    if progress is not None:
        progress(n_bytes)

"""Whether a model's files are still what they were, asked before each load.

    off    only the quarantine counts
    quick  size and modification time are as recorded
    load   every byte is as recorded, each time
    start  every byte once when the server starts, then quick

A file without a record and without a line in a SHA256SUMS is served: there is
nothing to hold against it. A record outside the store, or in a store that is
mounted read-only, may have lost its time on the way (a copy, an image); it
cannot be corrected there, so such a file is hashed once and remembered for as
long as it stays as it is.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, get_args

from model_store.catalog import StoredModel
from model_store.chunks import tell_ranges
from model_store.digest import Progress
from model_store.errors import StoreError
from model_store.layout import Store
from model_store.names import printable
from model_store.quarantine import FileIdentity, identify, is_ours, tell_quarantine
from model_store.record import read_damage
from model_store.sizes import format_bytes
from model_store.verify import (
    FileCheck,
    Verdict,
    check_quickly,
    has_reference,
    verify_file,
)
from server.config import VerifyPolicy
from server.core.errors import ModelLoadFailed, ShuttingDown

POLICIES: Final = get_args(VerifyPolicy)


class LoadGuard:
    """Refuses models whose files are not what they were. Any thread may ask.

    Args:
        policy: How closely is looked; see the head of this file.
        store: Whose damaged files are quarantined.
    """

    def __init__(self, policy: VerifyPolicy, store: Store) -> None:
        self._policy = policy
        self._store = store
        self._lock = threading.Lock()
        self._remembered: dict[Path, tuple[FileIdentity, FileCheck]] = {}

    async def admit(self, model: StoredModel) -> None:
        """Let a model through to be loaded; cancelling ends the reading.

        Raises:
            ModelLoadFailed: One of its files must not be loaded.
        """
        is_stopped = threading.Event()

        def go_on(_n_bytes: int) -> None:
            if is_stopped.is_set():
                raise ShuttingDown("The server is stopping. Try again once it is back.")

        try:
            await asyncio.to_thread(self.check, model, go_on)
        finally:
            # The thread outlives a cancelled task, and the exit waits for it.
            is_stopped.set()

    def check(self, model: StoredModel, progress: Progress | None = None) -> None:
        """Judge a model's files; blocks while it reads.

        Args:
            model: As the catalog lists it.
            progress: Told of bytes read; may raise to give up.

        Raises:
            ModelLoadFailed: One of its files must not be loaded.
        """
        for path in model.paths:
            damage = read_damage(path)
            if damage is not None:
                raise _refuse(tell_quarantine(path, model.id, damage))
            if self._policy == "off":
                continue
            try:
                check = self._judge(path, progress)
            except StoreError as error:
                raise _refuse(error.message) from error
            if check.is_failure:
                raise _refuse(_explain(check, model.id))

    def verify_all(
        self, models: Sequence[StoredModel], tell: Callable[[str], None]
    ) -> bool:
        """Read every file of all models once, and tell each outcome in a line.

        Returns:
            Whether all of them may be loaded.
        """
        size_bytes = sum(model.size_bytes for model in models)
        tell(f"Verifying {len(models)} models ({format_bytes(size_bytes)})")
        n_sound = sum(self._verify(model, tell) for model in models)
        return n_sound == len(models)

    def _verify(self, model: StoredModel, tell: Callable[[str], None]) -> bool:
        begin_s = time.monotonic()
        if not any(has_reference(path) for path in model.paths):
            tell(f"  {model.id}: not verified, there is nothing to compare with")
            return True
        try:
            checks = [self._read_whole(path, None) for path in model.paths]
        except StoreError as error:
            tell(f"  {model.id}: NOT SERVED. {error.message}")
            return False
        failed = [check for check in checks if check.is_failure]
        for check in failed:
            tell(f"  {model.id}: NOT SERVED. {_explain(check, model.id)}")
        if not failed:
            took_s = time.monotonic() - begin_s
            size = format_bytes(model.size_bytes)
            tell(f"  {model.id}: sound ({size} in {took_s:.1f} s)")
        return not failed

    def _judge(self, path: Path, progress: Progress | None) -> FileCheck:
        if self._policy == "load":
            return self._read_whole(path, progress)
        check = self._recall(path) or check_quickly(path)
        if check.verdict is Verdict.CHANGED and not self._can_note(path):
            return self._read_whole(path, progress)
        return check

    def _read_whole(self, path: Path, progress: Progress | None) -> FileCheck:
        check = verify_file(path, store=self._store, progress=progress)
        if not self._can_note(path):
            try:
                seen = identify(path)
            except OSError:
                return check
            with self._lock:
                self._remembered[path] = (seen, check)
        return check

    def _recall(self, path: Path) -> FileCheck | None:
        with self._lock:
            remembered = self._remembered.get(path)
        if remembered is None:
            return None
        try:
            is_same = identify(path) == remembered[0]
        except OSError:
            return None
        return remembered[1] if is_same else None

    def _can_note(self, path: Path) -> bool:
        """Tell whether what is found out about a file can be written beside it."""
        return is_ours(self._store, path) and os.access(path.parent, os.W_OK)


def _refuse(text: str) -> ModelLoadFailed:
    return ModelLoadFailed(text, param="model")


def _explain(check: FileCheck, model_id: str) -> str:
    """Say what is wrong with a file and what to do."""
    file = f"The file '{printable(str(check.path))}'"
    reason = printable(check.reason)
    match check.verdict:
        case Verdict.CHANGED:
            return (
                f"{file} is not as it was admitted: {reason}. Compare its bytes by "
                f"`cloister verify {model_id}`; it is served again if they are the "
                "same."
            )
        case Verdict.DAMAGED:
            where = tell_ranges(check.bad_ranges)
            where = f" ({where})" if where else ""
            return (
                f"{file} is damaged: {reason}{where}. Rewrite the bad bytes from a "
                f"good copy by `cloister repair {model_id} --from PATH`."
            )
        case _:
            return (
                f"{file} cannot be checked before loading: {reason}. Look into it by "
                f"`cloister verify {model_id}`."
            )

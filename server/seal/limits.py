"""Resource limits of sealed processes."""

import resource
import sys
from typing import Final

WORKER_FILES: Final = 1024
"""Descriptors of a worker: shards of a model, and what GPU drivers open."""

_NO_CORE_BYTES: Final = 1 if sys.platform == "linux" else 0
"""A core dump holds prompts. On Linux 1 is stronger than 0: a handler that reads
dumps from a pipe is started at 0 and not at 1, and no file is smaller than a page.
Source: linux/fs/coredump.c, coredump_pipe and min_coredump."""


def limit_core() -> None:
    """Forbid core dumps to this process and its children."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (_NO_CORE_BYTES, _NO_CORE_BYTES))
    except ValueError:
        # Whoever started this has set 0 already, and an ordinary user cannot raise
        # that to 1: then 0 must do.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_files(n_files: int = WORKER_FILES) -> None:
    """Lower the number of descriptors; never raises it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_files = n_files if hard == resource.RLIM_INFINITY else min(n_files, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_files, n_files))

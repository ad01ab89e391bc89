"""The cache of wheels of llama-cpp-python.

pip's own cache does not ask with which CMAKE_ARGS a wheel was built, so a bad
build in it would come back for ever. This cache does: a wheel lies at
`<cache>/<key>/<name>.whl`, and the key names everything the build depends on.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows; there two installs at once are not guarded
    fcntl = None  # type: ignore[assignment]


class InstallError(Exception):
    """The installation cannot go on; the text says why and what to do."""


def find_cache(env: Mapping[str, str]) -> Path:
    """Return the folder of cached wheels; it need not exist."""
    if env.get("CLOISTER_WHEEL_CACHE"):
        return Path(env["CLOISTER_WHEEL_CACHE"]).expanduser().absolute()
    cache = env.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "cloister" / "wheels"


def find_wheel(cache: Path, key: str) -> Path | None:
    """Return the cached wheel of a build, if there is one."""
    return next(iter(sorted((cache / key).glob("*.whl"))), None)


def store_wheel(cache: Path, key: str, wheel: Path) -> Path:
    """Copy a wheel into the cache; it appears there whole or not at all.

    Returns:
        Its place in the cache. If the key is taken already, the wheel that was
        there first.
    """
    cache.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".new-", dir=cache))
    try:
        shutil.copyfile(wheel, folder / wheel.name)
        folder.chmod(0o755)
        # Renaming onto a folder that is not empty fails: then it was first.
        with contextlib.suppress(OSError):
            folder.rename(cache / key)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    stored = find_wheel(cache, key)
    if stored is None:
        raise InstallError(
            f"The wheel could not be stored in {cache / key}. Remove that folder, "
            "or name another cache by CLOISTER_WHEEL_CACHE."
        )
    return stored


def drop_wheel(cache: Path, key: str) -> None:
    """Forget a build that turned out to be bad."""
    shutil.rmtree(cache / key, ignore_errors=True)


@contextlib.contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Let one process at a time pass; the others wait and say so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"another install holds {path}; waiting for it …", flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield

"""The door to llama.cpp: its ctypes bindings and its log.

`import llama_cpp` would also import the package's high-level classes, with a
pickle-based disk cache (CVE-2025-69872) and chat handlers that fetch URLs.
None of that may run here, so only the submodule of plain C declarations is
imported, under an empty package that stands in for the real one.
"""

import importlib
import importlib.util
import sys
from collections import deque
from importlib.machinery import ModuleSpec
from typing import Any

_PACKAGE = "llama_cpp"
_KEPT_LOG_LINES = 40
_WARN = 3  # GGML_LOG_LEVEL_WARN; Source: ggml.h, enum ggml_log_level
_ERROR = 4
_CONT = 5  # continues the previous line


def load_bindings() -> Any:  # noqa: ANN401 - the bindings carry no useful types
    """Import llama.cpp's C declarations and nothing else of the package.

    Raises:
        ImportError: llama-cpp-python is not installed, or its shared library
            does not load on this machine.
    """
    if _PACKAGE not in sys.modules:
        spec = importlib.util.find_spec(_PACKAGE)
        if spec is None or spec.submodule_search_locations is None:
            msg = "llama-cpp-python is not installed; run: make install"
            raise ImportError(msg)
        stand_in = ModuleSpec(_PACKAGE, None, is_package=True)
        stand_in.submodule_search_locations = spec.submodule_search_locations
        sys.modules[_PACKAGE] = importlib.util.module_from_spec(stand_in)
    try:
        return importlib.import_module(f"{_PACKAGE}.{_PACKAGE}")
    except (OSError, RuntimeError) as error:
        msg = f"llama.cpp's library does not load: {error}"
        raise ImportError(msg) from error


class NativeLog:
    """Collects llama.cpp's log and keeps its last complaints.

    The callback runs on whatever native thread logs; ctypes holds the
    interpreter lock around it. The object must live as long as the library
    may log, which is until the process ends.
    """

    def __init__(self, llama: Any, *, verbose: bool) -> None:  # noqa: ANN401
        self._lines: deque[str] = deque(maxlen=_KEPT_LOG_LINES)
        self._level = 0
        self._verbose = verbose
        # A ctypes callback is freed with its last Python reference.
        self._callback = llama.llama_log_callback(self._receive)
        llama.llama_log_set(self._callback, None)

    def complaints(self) -> str:
        """Join the last warnings and errors into one line, newest last."""
        return "; ".join(line for line in self._lines if line)

    def clear(self) -> None:
        """Forget what was logged so far."""
        self._lines.clear()

    def _receive(self, level: int, text: bytes, _user: object) -> None:
        if level != _CONT:
            self._level = level
        line = text.decode("utf-8", "replace").rstrip("\n")
        if self._level in (_WARN, _ERROR):
            self._lines.append(line.strip())
        if self._verbose or self._level == _ERROR:
            print(line, file=sys.stderr, flush=True)  # noqa: T201

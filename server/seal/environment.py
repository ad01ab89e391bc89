"""Environment variables of sealed processes.

Nothing relies on the switches: they make libraries answer at once instead of
trying. What a worker gets at all is a short list, so no secret reaches it.
"""

from collections.abc import Mapping, MutableMapping
from typing import Final

SWITCHES: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "DO_NOT_TRACK": "1",
    "PIP_NO_INDEX": "1",
}
_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "ftp_proxy", "all_proxy"})

WORKER_NAMES: Final = frozenset(
    {
        "HOME",
        "LANG",
        "LC_ALL",
        "LD_LIBRARY_PATH",
        "LLAMA_CPP_LIB_PATH",
        "PATH",
        "SYSTEMROOT",
        "TMPDIR",
        "TZ",
        "VIRTUAL_ENV",
    }
)
WORKER_PREFIXES: Final = ("CUDA_", "GGML_", "GOMP_", "HIP_", "KMP_", "OMP_", "ROCR_")


def pin_environment(environment: MutableMapping[str, str]) -> None:
    """Switch off what libraries would do over a network, in place."""
    for name in list(environment):
        if name.lower() in _PROXIES:
            del environment[name]
    environment.update(SWITCHES)


def select_worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Select what native code needs; a worker gets no secrets."""
    return {
        name: value
        for name, value in environment.items()
        if name in WORKER_NAMES or name.startswith(WORKER_PREFIXES)
    }

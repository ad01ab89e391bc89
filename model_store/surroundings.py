"""What a download takes from its surroundings: certificates and variables."""

import contextlib
import os
import ssl
from collections.abc import Iterator
from typing import Final

from model_store.hub_errors import BadHubSetting
from model_store.names import quoted

_HUB_VARIABLES: Final = ("HF_", "HUGGING", "TRANSFORMERS_")
_PINS: Final = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "HF_HOME": os.devnull,  # nothing can be kept below it
}


@contextlib.contextmanager
def pinned_environment() -> Iterator[None]:
    """Let huggingface_hub see none of its variables but ours while it loads."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(_HUB_VARIABLES):
            del os.environ[name]
    os.environ.update(_PINS)
    try:
        yield
    finally:
        for name in _PINS:
            os.environ.pop(name, None)
        os.environ.update(before)


def load_certificates(ca_file: str | None) -> ssl.SSLContext | bool:
    """Load the operator's certificates; True stands for the system's."""
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise BadHubSetting(
            f"the certificates {quoted(ca_file)} cannot be read: {error}",
            "Set SSL_CERT_FILE to a file with certificates in PEM form.",
        ) from error

"""The model that comes with the package, in the folder `builtin` beside this file.

The folder holds `novice.gguf`, its digest as `sha256sum` writes it, its card,
and `novice.expected.json`: what llama.cpp answers to some prompts. It is a
models directory like any other, and only read.
"""

from pathlib import Path
from typing import Final

from model_store.digest import FileDigest, hash_file, parse_sha256
from model_store.errors import BadDigest, DigestMismatch, UnreadableFile

MODEL_ID: Final = "novice"
DIRECTORY: Final = Path(__file__).with_name("builtin")
MODEL_NAME: Final = "novice.gguf"
DIGEST_NAME: Final = "novice.gguf.sha256"
EXPECTED_NAME: Final = "novice.expected.json"

_MAX_DIGEST_BYTES: Final = 4096


def is_present(directory: Path = DIRECTORY) -> bool:
    """Tell whether this installation has the model's file."""
    return (directory / MODEL_NAME).is_file()


def check_digest(directory: Path = DIRECTORY) -> FileDigest:
    """Compare the model's file with the digest that came with it.

    Raises:
        UnreadableFile: One of the two files cannot be read.
        BadDigest: The digest's file does not begin with a SHA-256.
        DigestMismatch: The model's file is another one or damaged.
        FileChanged: It was written meanwhile.
    """
    model = directory / MODEL_NAME
    expected = _read_digest(directory / DIGEST_NAME)
    actual = hash_file(model)
    if actual.sha256 != expected:
        raise DigestMismatch(
            model, expected=expected, actual=actual.sha256, expected_by=DIGEST_NAME
        )
    return actual


def _read_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_DIGEST_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise UnreadableFile(path, error.strerror or str(error)) from error
    words = text.split()
    if not words:
        raise BadDigest(text)
    return parse_sha256(words[0])

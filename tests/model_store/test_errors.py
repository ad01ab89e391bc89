"""The store's errors: their tree, fields and texts."""

from pathlib import Path

import pytest

from model_store import errors


def test_the_drawn_tree_is_the_tree_of_classes():
    drawn = {
        line.split("─ ")[1].split()[0]
        for line in errors.__doc__.splitlines()
        if "─ " in line
    }
    classes = {each.__name__ for each in errors.StoreError.__subclasses__()}
    assert drawn == classes


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            errors.BadGguf(Path("a\n\udcffb.gguf"), "it is 3 bytes long"),
            "bad_gguf",
            (
                "The file 'a\ufffdb.gguf' is not a usable GGUF file: it is 3 bytes "
                "long. Copy or download the file again, or remove it."
            ),
        ),
        (
            errors.UnreadableFile(Path("a.gguf"), "Permission denied"),
            "unreadable_file",
            (
                "The file 'a.gguf' cannot be read: Permission denied. "
                "Check that the file exists, and its permissions and its disk."
            ),
        ),
    ],
)
def test_an_error_says_what_happened_and_what_to_do(error, code, message):
    assert (error.code, error.message, str(error)) == (code, message, message)
    assert message.endswith(error.hint)

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
    # Other modules have errors of their own, which only they raise.
    classes = {
        each.__name__
        for each in errors.StoreError.__subclasses__()
        if each.__module__ == errors.__name__
    }
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
        (
            errors.StoreBusy(Path("/models"), waited_s=30.0),
            "store_busy",
            (
                "The store '/models' is busy: another process has been changing it "
                "for 30 s. Wait until it has finished, then try again."
            ),
        ),
        (
            errors.DiskFull(Path("m"), needed_bytes=2048, free_bytes=5),
            "disk_full",
            (
                "There is no room for 'm': 2.0 KiB (2048 bytes) are needed, 5 bytes "
                "are free. Free some space there, or set CLOISTER_HOME to a folder on "
                "a larger disk; nothing was changed."
            ),
        ),
        (
            errors.NotInStore("lama", ["llama", "lima"]),
            "not_in_store",
            (
                "'lama' is not in the store: no model has that name; did you mean "
                "'llama' or 'lima'. List what is there by `cloister ls`."
            ),
        ),
        (
            errors.Quarantined(Path("m.gguf"), "chunk 3 differs"),
            "quarantined",
            (
                "The file 'm.gguf' is damaged and is not served: chunk 3 differs. "
                "Rewrite its bad parts by `cloister repair`, or remove it by "
                "`cloister rm`."
            ),
        ),
    ],
)
def test_an_error_says_what_happened_and_what_to_do(error, code, message):
    assert (error.code, error.message, str(error)) == (code, message, message)
    assert message.endswith(error.hint)


def test_a_wrong_checksum_shows_both_digests_one_below_the_other():
    error = errors.DigestMismatch(
        Path("m.gguf"), expected="0" * 64, actual="1" * 64, expected_by="--sha256"
    )
    lines = error.message.splitlines()
    assert f"  expected {'0' * 64} (--sha256)" == lines[1]
    assert f"  actual   {'1' * 64}" == lines[2]


def test_codes_are_unique():
    codes = [
        each.code
        for each in errors.StoreError.__subclasses__()
        if each.__module__ == errors.__name__
    ]
    assert len(codes) == len(set(codes))

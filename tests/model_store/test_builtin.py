"""The model that comes with the package: where it is, and whether it is that one."""

import hashlib

import pytest

from model_store import builtin
from model_store.catalog import Catalog
from model_store.errors import BadDigest, DigestMismatch, UnreadableFile

SHIPPED = pytest.mark.skipif(
    not builtin.is_present(), reason=f"{builtin.MODEL_NAME} is not in this checkout"
)
CONTENT = b"GGUF and more"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def folder(tmp_path):
    """A folder as the package's own, with other content."""
    (tmp_path / builtin.MODEL_NAME).write_bytes(CONTENT)
    (tmp_path / builtin.DIGEST_NAME).write_text(f"{DIGEST}  {builtin.MODEL_NAME}\n")
    return tmp_path


def test_it_is_present_where_its_file_is(folder):
    assert builtin.is_present(folder)
    (folder / builtin.MODEL_NAME).unlink()
    assert not builtin.is_present(folder)


def test_the_file_that_its_digest_was_made_of_is_right(folder):
    digest = builtin.check_digest(folder)
    assert (DIGEST, len(CONTENT)) == (digest.sha256, digest.size_bytes)


def test_another_file_is_told_with_both_digests(folder):
    other = b"GGUF and moro"
    (folder / builtin.MODEL_NAME).write_bytes(other)
    with pytest.raises(DigestMismatch) as raised:
        builtin.check_digest(folder)
    assert DIGEST in raised.value.message
    assert hashlib.sha256(other).hexdigest() in raised.value.message
    assert builtin.DIGEST_NAME in raised.value.message


@pytest.mark.parametrize("name", [builtin.MODEL_NAME, builtin.DIGEST_NAME])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(UnreadableFile, match="No such file") as raised:
        builtin.check_digest(folder)
    assert folder / name == raised.value.path


@pytest.mark.parametrize("text", [b"", b" \n", b"abc  novice.gguf", b"\xff" * 64])
def test_a_digest_that_is_none_is_told(folder, text):
    (folder / builtin.DIGEST_NAME).write_bytes(text)
    with pytest.raises(BadDigest, match="64 hexadecimal digits"):
        builtin.check_digest(folder)


def test_the_package_has_its_model_and_all_that_belongs_to_it():
    names = (builtin.MODEL_NAME, builtin.DIGEST_NAME, builtin.EXPECTED_NAME)
    for name in (*names, "novice.md"):
        assert (builtin.DIRECTORY / name).is_file(), f"{name}: see scripts/novice"


@SHIPPED
def test_the_packages_model_is_right_and_small():
    digest = builtin.check_digest()
    assert digest.size_bytes <= 8 * 2**20


@SHIPPED
def test_the_packages_folder_holds_one_model_with_its_name():
    catalog = Catalog([builtin.DIRECTORY])
    catalog.refresh()
    (model,) = catalog.models()
    assert (builtin.MODEL_ID, "llama") == (model.id, model.summary.architecture)
    assert model.summary.chat_template
    assert not model.is_embedding
    assert () == catalog.broken() == catalog.notes()
    assert model == catalog.find("novice.gguf")


@SHIPPED
def test_its_card_is_there_and_is_of_this_very_file():
    card = (builtin.DIRECTORY / "novice.md").read_text(encoding="utf-8")
    assert builtin.check_digest().sha256 in card

"""Which models a command may name."""

import json

import pytest

from model_store import builtin
from server.cli.known_models import open_models, print_json, print_notes
from tests.model_store.conftest import Forge
from tests.model_store.stored_models import make_shelf


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CLOISTER_BUILTIN", "false")
    return make_shelf(tmp_path)


def test_the_store_comes_first_then_the_folders_of_the_settings(shelf, tmp_path):
    shelf.put("p/r/m.gguf", Forge().build())
    for name in ("other", "more"):
        (tmp_path / name / "p" / "r").mkdir(parents=True)
        (tmp_path / name / "p" / "r" / f"{name}.gguf").write_bytes(Forge().build())
    known = open_models({"models_dir": ("other", "more")})
    own = shelf.store.models_dir
    assert (own, tmp_path / "other", tmp_path / "more") == known.directories
    assert ["m", "more", "other"] == [each.id for each in known.catalog.entries()]
    assert tmp_path / "home" == known.store.home


def test_a_home_without_a_store_is_no_error_and_is_not_made(shelf, tmp_path):
    known = open_models({"home": str(tmp_path / "new")})
    assert ((), ()) == (known.directories, known.catalog.notes())
    assert not (tmp_path / "new").exists()


def test_a_folder_that_was_asked_for_and_is_not_there_is_noted(shelf, capsys):
    known = open_models({"models_dir": ("none",)})
    print_notes(known.catalog.notes())
    assert "none' cannot be read: No such file" in capsys.readouterr().err


def test_the_built_in_model_comes_last(shelf, monkeypatch):
    if not builtin.is_present():
        pytest.skip("this checkout has no built-in model")
    monkeypatch.setenv("CLOISTER_BUILTIN", "true")
    assert builtin.DIRECTORY == open_models({}).directories[-1]


def test_json_holds_paths_and_stray_bytes_as_printable_text(tmp_path, capsys):
    print_json({"a": tmp_path, "b": ["x\udcff\n", 1, None, True]})
    assert {"a": str(tmp_path), "b": ["x\ufffd", 1, None, True]} == json.loads(
        capsys.readouterr().out
    )

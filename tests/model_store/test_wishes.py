"""What the user asked for, held against what the source tells."""

import pytest

from model_store.announced import Announced
from model_store.errors import BadSums
from model_store.layout import Store
from model_store.origin import Origin
from model_store.target import Target
from model_store.wishes import (
    Wish,
    choose_digest,
    choose_how,
    choose_target,
    make_name,
    tell_stored_origin,
)

A, B = "a" * 64, "b" * 64


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"x")
    return path


def test_the_users_digest_wins_and_a_disagreement_is_told(file):
    assert (None, []) == choose_digest(file, file.parent, Wish())
    file.with_name("m.gguf.sha256").write_text(A)
    beside = Announced(A, "m.gguf.sha256")
    assert (beside, []) == choose_digest(file, file.parent, Wish())
    asked = Announced(A, "--sha256")
    assert (asked, []) == choose_digest(file, file.parent, Wish(sha256=A))
    chosen, notes = choose_digest(file, file.parent, Wish(sha256=B))
    assert Announced(B, "--sha256") == chosen
    assert [
        f"For 'm.gguf' --sha256 says {B}, but m.gguf.sha256 says {A}; --sha256 is used."
    ] == notes


def test_a_broken_list_stops_only_those_who_gave_no_digest(file):
    (file.parent / "SHA256SUMS").write_text("?")
    with pytest.raises(BadSums):
        choose_digest(file, file.parent, Wish())
    chosen, notes = choose_digest(file, file.parent, Wish(sha256=A))
    assert (A, 1) == (chosen.sha256, len(notes))


def test_a_copy_unless_another_program_owns_the_file(file, tmp_path):
    store = Store(tmp_path / "not" / "yet" / "there")
    assert "copy" == choose_how(store, file, Wish(), is_shared=False)
    assert "hardlink" == choose_how(store, file, Wish(), is_shared=True)
    assert "move" == choose_how(store, file, Wish(mode="move"), is_shared=True)
    gone = tmp_path / "gone.gguf"
    assert "symlink" == choose_how(store, gone, Wish(), is_shared=True)


@pytest.mark.parametrize(
    ("wish", "publisher", "repository", "expected"),
    [
        (Wish(target=Target("x", "y")), "p", "r", "x/y"),
        (Wish(), "p ü", "r/..", "p/r"),
        (Wish(), "", "repo", "local/m"),
        (Wish(), "", "", "local/m"),
    ],
)
def test_the_user_then_the_folders_then_local(wish, publisher, repository, expected):
    chosen = choose_target(wish, publisher, repository, "M-Q8_0.gguf")
    assert expected == str(chosen).replace("r-..", "r")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("m.gguf", "m.gguf"),
        ("M.GGUF", "M.GGUF"),
        ("m.bin", "m.bin.gguf"),
        ("..m\n.gguf", "m.gguf"),
        ("sha256-12", "sha256-12.gguf"),
        ("...", "model.gguf"),
    ],
)
def test_a_name_is_made_that_the_store_accepts(name, expected):
    assert expected == make_name(name)


def test_a_file_of_the_store_keeps_its_folders(tmp_path):
    store = Store(tmp_path / "home")
    file = store.models_dir / "p/r/sub/m.gguf"
    assert Origin("p", "r", is_shared=True) == tell_stored_origin(
        store, file, file.parent
    )
    outside = tmp_path / "m.gguf"
    assert Origin() == tell_stored_origin(store, outside, tmp_path)

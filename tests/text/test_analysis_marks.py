"""Texts are compared by atoms and JSON is found where it begins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.text.analysis_marks import Atoms, iterate_json

TEXTS = st.text("<|>[]/ab_ \n")


@given(TEXTS, st.frozensets(TEXTS, max_size=3))
def test_atoms_joined_are_the_text(text, controls) -> None:
    assert text == "".join(Atoms(controls).split(text))


@given(TEXTS, TEXTS, TEXTS)
def test_what_is_counted_is_in_both(shared, first, second) -> None:
    atoms = Atoms()
    a, b = shared + first, shared + second
    n = atoms.count_prefix(a, b)
    assert a[:n] == b[:n]
    a, b = first + shared, second + shared
    n = atoms.count_suffix(a, b)
    assert a[len(a) - n :] == b[len(b) - n :]


@pytest.mark.parametrize(
    ("first", "second", "prefix", "suffix"),
    [
        ("</call><call>", "</call></all>", "</call>", ""),
        ("<a|><|b|>", "<c|><|b|>", "", "<|b|>"),
        ("[CALL_ID]x", "[CALLS]x", "", "x"),
        ("<f=name", "<f=other", "<f=", ""),
        ("one two", "one too", "one ", ""),
        ("same", "same", "same", "same"),
        ("", "x", "", ""),
    ],
)
def test_tags_and_words_are_never_cut(first, second, prefix, suffix) -> None:
    atoms = Atoms()
    assert len(prefix) == atoms.count_prefix(first, second)
    assert len(suffix) == atoms.count_suffix(first, second)


def test_control_texts_are_atoms_and_tags_whatever_they_look_like() -> None:
    atoms = Atoms({"]~b]", "]~b]x", "!"})
    assert ["a", "]~b]x", "]~b]", "!"] == atoms.split("a]~b]x]~b]!")
    assert atoms.is_tag("]~b]")
    assert not Atoms().is_tag("]~b]")
    assert ["\n", "\n", "a"] == Atoms({"\n\n"}).split("\n\na")
    assert Atoms().is_tag("<x>")
    assert not Atoms().is_tag("word")


def test_json_is_found_with_what_is_inside_of_it() -> None:
    text = '[TOOL] x [{"a": [1]}] {broken {"b": 2}'
    spans = list(iterate_json(text, 0, len(text)))
    assert [[{"a": [1]}], {"a": [1]}, [1], {"b": 2}] == [s.value for s in spans]
    assert ['[{"a": [1]}]', '{"a": [1]}', "[1]", '{"b": 2}'] == [
        text[span.begin : span.end] for span in spans
    ]
    assert [] == list(iterate_json("[" * 100_000, 0, 10))

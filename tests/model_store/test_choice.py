"""Which file of a repository is taken, and the reasons given."""

import pytest

from model_store.choice import (
    ENGINE_BYTES,
    Memory,
    choose,
    estimate_need,
    list_offers,
)
from model_store.hub_errors import NothingFits
from model_store.remote import RemoteFile, RemoteRepository, Wanted

GIB = 2**30
NAME = "acme/m-GGUF"


def make_repository(**sizes_gib):
    """Make a repository of files; `__` in a name stands for what no keyword has."""
    return make_listed(
        {f"m-{name}.gguf": int(size * GIB) for name, size in sizes_gib.items()}
    )


def make_listed(sizes):
    files = tuple(RemoteFile(path, size, "0" * 64) for path, size in sizes.items())
    return RemoteRepository(
        id=NAME, endpoint="https://hub.test", commit="a" * 40, files=files
    )


def take(repository, gib=24, **wanted):
    return choose(repository, Wanted(NAME, **wanted), Memory(int(gib * GIB)))


def test_the_estimate_adds_an_eighth_and_the_engine():
    assert 9 * GIB + ENGINE_BYTES == estimate_need(8 * GIB)


@pytest.mark.parametrize(("total", "usable"), [(64, 56), (4, 3), (0.5, 0)])
def test_the_system_keeps_an_eighth_and_at_least_one_gib(total, usable):
    assert usable * GIB == Memory(int(total * GIB)).usable_bytes


def test_the_balance_of_quality_and_size_is_taken_where_it_fits():
    choice = take(make_repository(Q2_K=2, Q4_K_S=3.9, Q4_K_M=4, Q8_0=8, F16=15))
    assert "Q4_K_M" == choice.offer.quantization
    assert choice.reason == (
        "Q4_K_M: the best balance of quality and size here; it needs about 5.0 GiB "
        "of the 21.0 GiB that this machine can give to a model."
    )


def test_what_does_not_fit_is_passed_over_and_said():
    choice = take(make_repository(Q2_K=2, Q3_K_M=3, Q4_K_M=20), gib=8)
    assert choice.reason == (
        "Q3_K_M: the best that fits, Q4_K_M would need about 23.0 GiB, too much; it "
        "needs about 3.9 GiB of the 7.0 GiB that this machine can give to a model."
    )


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [
        ({"Q2_K": 2, "IQ4_XS": 4, "Q5_0": 5}, "Q5_0"),
        ({"F16": 8, "F32": 16}, "F32"),
        ({"F16": 8, "Q2_K": 2}, "Q2_K"),
        ({"Q6_K": 6, "Q8_0": 8}, "Q6_K"),
        ({"UD-Q4_K_M": 4.1, "Q4_K_M": 4}, "Q4_K_M"),
    ],
)
def test_without_the_best_known_ones_the_largest_that_fits_is_taken(sizes, taken):
    assert taken == take(make_repository(**sizes)).offer.title


def test_the_only_file_is_taken_for_being_the_only_one():
    choice = take(make_listed({"model.gguf": GIB}))
    assert choice.reason.startswith(
        "model.gguf: the only one of the repository; it needs about 1.6 GiB"
    )


def test_nothing_that_fits_says_the_sizes_and_how_to_go_on():
    with pytest.raises(NothingFits) as caught:
        take(make_repository(Q2_K=20, Q4_K_M=40), gib=8)
    assert caught.value.message == (
        "No file of 'acme/m-GGUF' fits: the smallest, Q2_K, needs about 23.0 GiB, "
        "and this machine can give 7.0 GiB to a model. Look for a smaller model. For "
        "another machine say its memory by --memory, or name the file: "
        "acme/m-GGUF:Q2_K."
    )


def test_a_named_quantisation_is_followed_even_if_it_does_not_fit():
    choice = take(make_repository(Q2_K=2, Q8_0=20), gib=8, quantization="q8_0")
    assert choice.reason == (
        "Q8_0: the quantisation that was named; it needs about 23.0 GiB and does not "
        "fit the 7.0 GiB that this machine can give to a model."
    )


def test_a_label_is_told_from_the_plain_quantisation():
    repository = make_repository(**{"UD-Q4_K_M": 4.1, "Q4_K_M": 4, "UD-Q2_K_XL": 2})
    assert "UD-Q4_K_M" == take(repository, quantization="UD-Q4_K_M").offer.title
    assert "Q4_K_M" == take(repository, quantization="Q4_K_M").offer.title
    assert "UD-Q2_K_XL" == take(repository, quantization="Q2_K_XL").offer.title


def test_an_unknown_quantisation_lists_those_that_are_there():
    with pytest.raises(NothingFits, match=r"has no 'Q9'. It has: Q2_K, Q4_K_M\."):
        take(make_repository(Q4_K_M=4, Q2_K=2), quantization="Q9")


def test_different_models_in_one_repository_are_not_chosen_between():
    listed = make_listed({"a-Q4_K_M.gguf": GIB, "b-Q4_K_M.gguf": GIB})
    with pytest.raises(
        NothingFits,
        match=r"holds different models\. Name one of its files: "
        r"acme/m-GGUF/a-Q4_K_M\.gguf, acme/m-GGUF/b-Q4_K_M\.gguf",
    ):
        take(listed)
    with pytest.raises(NothingFits, match="2 models of 'acme/m-GGUF' are 'Q4_K_M'"):
        take(listed, quantization="Q4_K_M")
    assert "b-Q4_K_M.gguf" == take(listed, file="b-Q4_K_M.gguf").files[0].name


def test_a_named_file_of_a_split_model_brings_all_parts_in_order():
    paths = [f"Q8_0/m-Q8_0-0000{n}-of-00003.gguf" for n in (2, 3, 1)]
    listed = make_listed(dict.fromkeys(paths, GIB) | {"m-Q4_K_M.gguf": GIB})
    choice = take(listed, file=paths[0])
    assert sorted(paths) == [file.path for file in choice.files]
    assert 3 * GIB == choice.size_bytes


def test_a_model_that_lacks_parts_is_never_taken():
    listed = make_listed({"m-Q4_K_M-00001-of-00002.gguf": GIB, "m-Q2_K.gguf": GIB})
    assert "Q2_K" == take(listed).offer.title
    with pytest.raises(NothingFits, match="only 1 of the 2 parts of 'm-Q4_K_M'"):
        take(listed, quantization="Q4_K_M")


def test_one_projector_comes_along_the_one_of_the_best_kind():
    listed = make_listed(
        {
            "m-Q4_K_M.gguf": 4 * GIB,
            "mmproj-BF16.gguf": GIB,
            "mmproj-F16.gguf": GIB,
            "mmproj-F32.gguf": 2 * GIB,
            "other/mmproj-F16.gguf": GIB,
            "imatrix.gguf": 1,
        }
    )
    choice = take(listed)
    assert ["m-Q4_K_M.gguf", "mmproj-F16.gguf"] == [f.path for f in choice.files]
    assert estimate_need(5 * GIB) == choice.need_bytes
    assert 1 == len(list_offers(listed))


def test_a_projector_can_be_named_by_itself():
    listed = make_listed({"m-Q4_K_M.gguf": GIB, "mmproj-F16.gguf": GIB})
    choice = take(listed, file="mmproj-F16.gguf")
    assert ["mmproj-F16.gguf"] == [file.path for file in choice.files]


def test_a_repository_without_gguf_files_says_where_to_look():
    with pytest.raises(NothingFits, match=r"has no GGUF file\. Look for a repository"):
        take(make_listed({}))


def test_a_file_that_is_not_there_lists_those_that_are():
    with pytest.raises(NothingFits, match=r"no file 'x.gguf'. It has: acme/m-GGUF/m-Q"):
        take(make_repository(Q2_K=1), file="x.gguf")

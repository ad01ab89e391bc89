"""How file names become ids, and which model a name means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.names import (
    Candidate,
    assign_names,
    fold,
    is_gguf_name,
    parse_file_name,
    printable,
    quoted,
)


@pytest.mark.parametrize(
    ("file_name", "base_id", "quantization", "label"),
    [
        ("Qwen2.5-0.5B-Instruct-Q4_K_M.gguf", "qwen2.5-0.5b-instruct", "Q4_K_M", None),
        ("qwen2.5-0.5b-instruct-q8_0.gguf", "qwen2.5-0.5b-instruct", "Q8_0", None),
        ("Llama-3.2-1B.Q4_K_M.gguf", "llama-3.2-1b", "Q4_K_M", None),
        ("model_Q5_K_S.GGUF", "model", "Q5_K_S", None),
        ("m-IQ4_XS.gguf", "m", "IQ4_XS", None),
        ("m-IQ2_XXS.gguf", "m", "IQ2_XXS", None),
        ("m-IQ4_NL.gguf", "m", "IQ4_NL", None),
        ("m-IQ1_S.gguf", "m", "IQ1_S", None),
        ("m-F16.gguf", "m", "F16", None),
        ("m-BF16.gguf", "m", "BF16", None),
        ("m-fp16.gguf", "m", "F16", "fp16"),
        ("m.f32.gguf", "m", "F32", None),
        ("gpt-oss-20b-MXFP4.gguf", "gpt-oss-20b", "MXFP4", None),
        ("m-UD-Q4_K_XL.gguf", "m", "Q4_K_XL", "ud-q4_k_xl"),
        ("m-UD-IQ1_M.gguf", "m", "IQ1_M", "ud-iq1_m"),
        ("m-Q4_K_L.gguf", "m", "Q4_K_L", None),
        ("m.i1-Q4_K_M.gguf", "m", "Q4_K_M", "i1-q4_k_m"),
        ("m-TQ1_0.gguf", "m", "TQ1_0", None),
        ("m-Q4_0_4_8.gguf", "m", "Q4_0_4_8", None),
        ("m-Q6_K.gguf", "m", "Q6_K", None),
        ("m-Q2_K_S.gguf", "m", "Q2_K_S", None),
        ("m-q4.gguf", "m", "Q4", None),
        ("m-Q4_K_M-00002-of-00003.gguf", "m", "Q4_K_M", None),
        ("all-MiniLM-L6-v2-Q8_0.gguf", "all-minilm-l6-v2", "Q8_0", None),
        ("stories260K.gguf", "stories260k", None, None),
        ("phi-4.gguf", "phi-4", None, None),
        ("Q4_K_M.gguf", "q4_k_m", None, None),
        ("-Q8_0.gguf", "-q8_0", None, None),
        ("My  Model Q4.gguf", "my-model-q4", None, None),
        ("a\n\x1b[31mb\u202e-Q8_0.gguf", "a-[31mb", "Q8_0", None),
        ("caf\udce9.gguf", "caf\ufffd", None, None),
        ("\x01\x02.gguf", "model", None, None),
        ("no extension", "no-extension", None, None),
    ],
)
def test_the_id_is_the_name_without_quantization(
    file_name, base_id, quantization, label
):
    parsed = parse_file_name(file_name)
    expected_label = label or (quantization.lower() if quantization else None)
    assert (base_id, quantization, expected_label) == (
        parsed.base_id,
        parsed.quantization,
        parsed.label,
    )


@pytest.mark.parametrize(
    ("file_name", "stem", "shard"),
    [
        ("m-00001-of-00003.gguf", "m", (1, 3)),
        ("m-01000-of-01000.gguf", "m", (1000, 1000)),
        ("m-00001-of-01001.gguf", "m-00001-of-01001", None),
        ("m-00004-of-00003.gguf", "m-00004-of-00003", None),
        ("m-00000-of-00003.gguf", "m-00000-of-00003", None),
        ("m-1-of-3.gguf", "m-1-of-3", None),
    ],
)
def test_shards_are_told_by_their_names(file_name, stem, shard):
    parsed = parse_file_name(file_name)
    assert (stem, shard) == (parsed.stem, parsed.shard)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.gguf", True), ("A.GGUF", True), ("._a.gguf", False), ("a.gguf.part", False)],
)
def test_only_visible_gguf_names_count(name, expected):
    assert expected == is_gguf_name(name)


@given(st.text(max_size=60))
def test_any_name_gives_an_id_that_can_be_sent(text):
    for clean in (parse_file_name(text + ".gguf").base_id, printable(text)):
        clean.encode()
        assert clean.isprintable()
    assert parse_file_name(text + ".gguf").base_id
    assert len(quoted(text)) <= 82


def candidate(relative, *, label=None, is_embedding=False, is_broken=False):
    *folders, file_name = relative.split("/")
    parsed = parse_file_name(file_name)
    return Candidate(
        file=parsed,
        file_name=file_name,
        publisher=folders[0] if len(folders) > 1 else "",
        repository=folders[-1] if folders else "",
        label=parsed.label or label or "unknown",
        is_embedding=is_embedding,
        is_broken=is_broken,
    )


def ids(*relatives):
    names, _ = assign_names([candidate(each) for each in relatives])
    return [each.id for each in names]


def test_a_single_model_has_the_plain_id():
    assert ids("p/r/M-Q8_0.gguf", "p/r/N-Q8_0.gguf") == ["m", "n"]


def test_models_that_share_an_id_add_the_quantization():
    assert ids("p/r/M-Q8_0.gguf", "p/r/M-Q4_K_M.gguf") == ["m@q8_0", "m@q4_k_m"]


def test_models_that_share_that_too_add_publisher_and_repository():
    assert ids("P/R/M-Q8_0.gguf", "P/S/M-Q8_0.gguf", "p/s/M-Q6_K.gguf") == [
        "p/r/m@q8_0",
        "p/s/m@q8_0",
        "m@q6_k",
    ]


def test_what_is_still_shared_is_numbered():
    assert ids("p/r/M-Q8_0.gguf", "p/r/m-Q8_0.gguf", "p/r/m.Q8_0.gguf") == [
        "p/r/m@q8_0",
        "p/r/m@q8_0-2",
        "p/r/m@q8_0-3",
    ]


def owner(owners, name):
    return owners.get(fold(name))


def test_every_documented_name_finds_the_model():
    _, owners = assign_names(
        [candidate("Qwen/Qwen2.5-GGUF/Qwen2.5-0.5B-Q8_0.gguf", is_embedding=True)]
    )
    for name in (
        "qwen2.5-0.5b",
        "QWEN2.5-0.5B",
        "qwen2.5-0.5b@q8_0",
        "Qwen2.5-0.5B-Q8_0",
        "Qwen2.5-0.5B-Q8_0.gguf",
        "qwen2.5-0.5b-q8_0.gguf",
        "Qwen/Qwen2.5-GGUF",
        "Qwen/Qwen2.5-GGUF/Qwen2.5-0.5B-Q8_0.gguf",
        "text-embedding-qwen2.5-0.5b",
        "text-embedding-qwen2.5-0.5b@q8_0",
    ):
        assert owner(owners, name) == 0, name
    assert owner(owners, "qwen2.5") is None


def test_a_language_model_has_no_embedding_name():
    _, owners = assign_names([candidate("m.gguf")])
    assert owner(owners, "text-embedding-m") is None


def test_a_shared_plain_name_goes_to_the_preferred_quantization():
    files = [
        "p/r/m-F16.gguf",
        "p/r/m-Q2_K.gguf",
        "p/r/m-Q8_0.gguf",
        "p/r/m-Q6_K.gguf",
        "p/r/m-Q5_K_M.gguf",
        "p/r/m-Q4_K_S.gguf",
        "p/r/m-Q4_K_M.gguf",
    ]
    while files:
        _, owners = assign_names([candidate(each) for each in files])
        best = 0 if len(files) <= 2 else len(files) - 1
        assert (best, best) == (owner(owners, "m"), owner(owners, "p/r"))
        files.pop()


def test_a_sound_model_takes_a_shared_name_before_a_broken_one():
    names, owners = assign_names(
        [
            candidate("p/r/m-Q4_K_M.gguf", is_broken=True),
            candidate("p/r/m-F16.gguf"),
        ]
    )
    assert owner(owners, "m") == 1
    assert "m" in names[1].aliases
    assert "m" not in names[0].aliases


def test_a_model_without_known_quantization_still_gets_an_id():
    names, _ = assign_names([candidate("p/r/m.gguf"), candidate("p/r/m-Q8_0.gguf")])
    assert [each.id for each in names] == ["m@unknown", "m@q8_0"]


def test_an_id_is_never_hidden_by_another_models_alias():
    files = ["p/r/m-Q4_K_M.gguf", "p/r/m-Q8_0.gguf", "q/s/m@q8_0-Q6_K.gguf"]
    names, owners = assign_names([candidate(each) for each in files])
    assert [owner(owners, each.id) for each in names] == [0, 1, 2]
    assert len({each.id for each in names}) == 3


PARTS = st.sampled_from(["a", "A", "b-Q8_0", "b.Q8_0", "B-q4_k_m", "c@q8_0", "é"])


@given(st.lists(st.tuples(PARTS, PARTS, PARTS), max_size=12, unique=True))
def test_ids_are_unique_and_aliases_lead_home(triples):
    candidates = [candidate("/".join(each) + ".gguf") for each in triples]
    names, owners = assign_names(candidates)
    assert len({fold(each.id) for each in names}) == len(names)
    for index, each in enumerate(names):
        assert owner(owners, each.id) == index
        assert all(owner(owners, alias) == index for alias in each.aliases)
        assert each.id not in each.aliases
    assert (names, owners) == assign_names(candidates)

"""The files of one model, judged together."""

import hashlib

import pytest

from model_store.catalog import Catalog
from model_store.errors import BadGguf, UnreadableFile
from model_store.names import parse_file_name
from model_store.structure import Part, examine, list_shards
from model_store.summary import FileKind

STRING, UINT32 = 8, 4
SHARDS = [f"m-0000{n}-of-00003.gguf" for n in (1, 2, 3)]


@pytest.fixture
def part(place, tmp_path):
    """Return a function that writes a file and names its origin."""

    def write(name, content=None, **forge):
        path = place(f"p/r/{name}", content, **forge)
        return Part(name=name, path=path, origin=tmp_path / "usb" / name)

    return write


@pytest.fixture
def shards(part, forge):
    """Return a function that writes the three parts of a model."""

    def write(count=3, total=3, **keys):
        return [
            part(
                name,
                keys={
                    "split.no": (UINT32, number),
                    "split.count": (UINT32, count),
                    "split.tensors.count": (UINT32, total),
                }
                | keys,
                tensors=(forge.Tensor(name=f"t{number}"),),
            )
            for number, name in enumerate(SHARDS)
        ]

    return write


def test_the_facts_of_a_model(part):
    template = "{{ messages }}"
    model = part(
        "m-Q8_0.gguf",
        keys={
            "tokenizer.chat_template": (STRING, template),
            "general.license": (STRING, "mit\x07"),
        },
    )
    facts = examine([model])["m-Q8_0.gguf"]
    assert ("llama", "Q8_0", 128, "mit") == (
        facts.architecture,
        facts.quantization,
        facts.n_params,
        facts.licence,
    )
    assert hashlib.sha256(template.encode()).hexdigest() == facts.template_sha256


def test_all_shards_have_the_facts_of_the_whole(shards, place, tmp_path):
    parts = shards()
    facts = examine(parts[::-1])
    assert [3 * 128] * 3 == [facts[name].n_params for name in SHARDS]
    catalog = Catalog([tmp_path / "models"])
    catalog.refresh()
    assert [3 * 128] == [model.summary.n_params for model in catalog.models()]


def test_missing_shards_are_named(shards):
    with pytest.raises(
        BadGguf,
        match=r"usb/m-00003.*one of 3 parts, of which 2 are missing: "
        r"'m-00001-of-00003\.gguf', 'm-00002-of-00003\.gguf'",
    ):
        examine(shards()[2:])


def test_parts_whose_headers_disagree_are_refused(shards):
    with pytest.raises(
        BadGguf, match="its name says part 1 of 3, its header part 1 of 4"
    ):
        examine(shards(count=4))
    with pytest.raises(BadGguf, match="all parts together have 9 tensors, but they"):
        examine(shards(total=9))


def test_a_part_under_the_name_of_a_whole_is_refused(part):
    lone = part("m.gguf", keys={"split.no": (UINT32, 1), "split.count": (UINT32, 2)})
    with pytest.raises(BadGguf, match=r"part 2 of 2, but its name does not end in"):
        examine([lone])


def test_two_models_are_not_one(part):
    with pytest.raises(BadGguf, match=r"usb/n\.gguf.*not a part of the same model as"):
        examine([part("m.gguf"), part("n.gguf")])


def test_a_projector_comes_with_its_model_or_alone(part):
    clip = {"general.architecture": (STRING, "clip")}
    projector = part("mmproj-F16.gguf", keys=clip)
    facts = examine([part("m.gguf"), projector])
    assert FileKind.PROJECTOR is facts["mmproj-F16.gguf"].kind
    assert ("clip", "F16", 128) == (
        facts["mmproj-F16.gguf"].architecture,
        facts["mmproj-F16.gguf"].quantization,
        facts["mmproj-F16.gguf"].n_params,
    )
    assert {"mmproj-F16.gguf"} == set(examine([projector]))


def test_a_model_that_is_called_a_projector_is_refused(part):
    # The catalog goes by the name and would never show it.
    with pytest.raises(BadGguf, match="it holds a model"):
        examine([part("mmproj-m.gguf")])


def test_an_adapter_is_refused(part):
    adapter = part("lora.gguf", keys={"general.type": (STRING, "adapter")})
    with pytest.raises(BadGguf, match="it holds 'adapter' and not a model"):
        examine([adapter])


def test_a_model_without_tensors_is_refused(part):
    with pytest.raises(BadGguf, match="it has no tensors"):
        examine([part("m.gguf", tensors=())])


def test_errors_name_the_origin_and_not_the_staged_file(part, tmp_path):
    for content in (b"GGUF", b"", bytes(100)):
        with pytest.raises(BadGguf, match=r"usb/m\.gguf") as caught:
            examine([part("m.gguf", content)])
        assert "models" not in caught.value.message.replace("GGUF models", "")
    with pytest.raises(BadGguf, match=r"usb/m\.gguf.*block_count"):
        examine([part("m.gguf", keys={"llama.block_count": None})])
    with pytest.raises(UnreadableFile, match=r"usb/n\.gguf"):
        examine([Part("n.gguf", tmp_path / "none", tmp_path / "usb/n.gguf")])


def test_shards_are_listed_in_order():
    assert tuple(SHARDS) == list_shards(parse_file_name(SHARDS[1]))
    assert () == list_shards(parse_file_name("m.gguf"))

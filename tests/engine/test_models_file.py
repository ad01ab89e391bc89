"""The operator's words about single models: read, refused and told."""

import logging
import os

import msgspec
import pytest

from server.core.errors import ModelLoadFailed
from server.core.events import TextDelta
from server.core.requests import Generate, Sampling, TextPrompt
from server.core.sampling import SAMPLER_NAMES
from server.engine.models_file import MAX_BYTES, check_models_file, read_defaults
from tests.engine.conftest import collect, open_pool

GOOD = """
# The one that talks too much.
["tiny-llama".sampling]
temperature = 0.25
top_k = 5
samplers = ["top_k", "temperature"]

["acme/tiny/tiny-mamba".sampling]
min_p = 0
"""


@pytest.fixture
def model(catalog):
    return catalog.find("tiny-llama")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "models.toml"


def with_metadata(model, **sampling):
    summary = msgspec.structs.replace(model.summary, sampling=sampling)
    return msgspec.structs.replace(model, summary=summary)


def refusal(model, path):
    with pytest.raises(ModelLoadFailed) as caught:
        read_defaults(model, path)
    return caught.value.message


def test_a_model_has_what_its_table_says(model, path):
    path.write_text(GOOD)
    expected = {"temperature": 0.25, "top_k": 5, "samplers": ("top_k", "temperature")}
    assert expected == read_defaults(model, path)


def test_any_name_of_a_model_will_do(catalog, path):
    model = catalog.find("tiny-mamba")
    for name in (model.id, *model.aliases, model.id.upper()):
        path.write_text(f'["{name}".sampling]\ntop_k = 3\n')
        assert {"top_k": 3} == read_defaults(model, path)
    assert len(model.aliases) > 0


def test_without_a_file_only_the_metadata_speaks(model, path):
    assert {} == read_defaults(model, None)
    assert {} == read_defaults(model, path)
    assert {"temperature": 0.5} == read_defaults(with_metadata(model, temp=0.5), path)


def test_the_operator_is_heard_before_the_metadata(model, path):
    path.write_text(GOOD)
    found = read_defaults(with_metadata(model, temp=0.5, top_p=0.5), path)
    assert (0.25, 0.5, 5) == (found["temperature"], found["top_p"], found["top_k"])


def test_unusable_metadata_is_told_and_passed_over(model, caplog):
    odd = with_metadata(model, temp=99.0, top_k=7)
    assert {"top_k": 7} == read_defaults(odd, None)
    assert [
        (
            "tiny-llama: its file's general.sampling.temp: 99.0 is outside of 0 to 10. "
            "It is not used."
        )
    ] == caplog.messages


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            '["tiny-llama".sampling]\n\ntemperature = 11\n',
            3,
            (
                "'tiny-llama' cannot have this temperature: 11 is outside of 0 to 10. "
                "Change or remove it."
            ),
        ),
        (
            '["tiny-llama".sampling]\nsamplers = ["top_k", "top_q"]\n',
            2,
            (
                "'tiny-llama' cannot have this samplers[1]: no sampler has this name. "
                f"Known are: {', '.join(SAMPLER_NAMES)}. Change or remove it."
            ),
        ),
        (
            '["tiny-llama".sampling]\ntop_k = 2030-01-01\n',
            2,
            (
                "'tiny-llama' cannot have this top_k: expected an integer, but got "
                "another kind of value. Change or remove it."
            ),
        ),
        (
            '["tiny-llama".sampling]\ntop-p = 0.5\n',
            2,
            "'top-p' is no sampling field. Did you mean top_p?",
        ),
        (
            '["tiny-llama"]\ntemperature = 1\n',
            2,
            (
                "'temperature' is nothing that can be set for a model. Known are: "
                "sampling."
            ),
        ),
        (
            '["tiny-llama".samplings]\ntemperature = 1\n',
            1,
            (
                "'samplings' is nothing that can be set for a model. Did you mean "
                "sampling? If it belongs to the model's name, put the name in quotes: "
                '["qwen2.5-0.5b".sampling].'
            ),
        ),
        (
            '["tiny-llama"]\nsampling = "greedy"\n',
            2,
            "sampling is not a table. Make it one.",
        ),
        (
            'tiny-llama = "greedy"\n',
            1,
            (
                "'tiny-llama' stands outside of a model's table. Write it below a line "
                'like ["name of the model".sampling].'
            ),
        ),
        (
            '["tiny-llama".sampling]\n["TINY-llama".sampling]\n',
            2,
            "'tiny-llama' and 'TINY-llama' are the same model. Keep one of the tables.",
        ),
    ],
)
def test_a_mistake_about_a_model_keeps_it_from_loading(
    model, catalog, path, text, line, message
):
    path.write_text(text)
    assert f"{path}, line {line}: {message}" == refusal(model, path)
    # Another model does not mind.
    assert {} == read_defaults(catalog.find("tiny-mamba"), path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'["tiny-llama"\nx = 1', "Expected ']' at the end of a table declaration"),
        (b'["a".sampling]\ntop_p = high', "Invalid value (at line 2, column 9)"),
        (b"\xff\xfe", "can't decode byte 0xff in position 0"),
        (b"x = " + b"[" * 100_000, "nested too deep. Repair it."),
        (b"#" * (MAX_BYTES + 1), "has more than 1048576 bytes. Make it smaller."),
    ],
)
def test_a_file_that_cannot_be_read_keeps_every_model_from_loading(
    model, path, content, message
):
    path.write_bytes(content)
    told = refusal(model, path)
    assert message in told
    assert str(path) in told
    assert (told,) == check_models_file(path, ())


def test_a_folder_and_a_forbidden_file_are_named(model, path):
    path.mkdir()
    assert f"{path} is not a file. Move it away." == refusal(model, path)
    path.rmdir()
    path.write_text(GOOD)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert "Permission denied. Repair it, or move it away" in refusal(model, path)


def test_mistakes_about_other_models_are_told(model, path, caplog):
    path.write_text(GOOD + '["other".sampling]\ntop_k = "many"\n')
    assert 5 == read_defaults(model, path)["top_k"]
    assert [(logging.WARNING, caplog.messages[0])] == [
        (record.levelno, record.message) for record in caplog.records
    ]
    assert "line 11: 'other' cannot have this top_k: expected an" in caplog.text


def test_the_whole_file_is_checked_at_once(path):
    path.write_text(
        GOOD
        + '["tiny-lama".sampling]\n'
        + "[qwen2.5-0.5b.sampling]\ntop_k = 1\n"
        + '["nothing like it".sampling]\n'
    )
    names = ("tiny-llama", "acme/tiny/tiny-mamba")
    quotes = (
        "If it belongs to the model's name, put the name in quotes: "
        '["qwen2.5-0.5b".sampling].'
    )
    assert (
        f"{path}, line 10: no model is called 'tiny-lama'. Did you mean 'tiny-llama'?",
        (
            f"{path}, line 11: '5-0' is nothing that can be set for a model. Known "
            f"are: sampling. {quotes}"
        ),
        (
            f"{path}, line 13: no model is called 'nothing like it'. cloister ls shows "
            "the names."
        ),
    ) == check_models_file(path, names)
    path.write_text(GOOD)
    assert () == check_models_file(path, names)
    path.unlink()
    assert () == check_models_file(path, names)


@pytest.mark.anyio
async def test_a_load_takes_the_file_as_it_is_then(model, path):
    """Mended, it needs no new start of the server."""
    path.write_text('["tiny-llama".sampling]\ntop_k = -5\n')
    async with open_pool(models_file=path) as pool:
        with pytest.raises(ModelLoadFailed, match="-5 is outside of -1 to 2147483647"):
            async with pool.lease(model):
                pass
        path.write_text('["tiny-llama".sampling]\ntop_k = 1\n')
        # Only the best token is left, however hot the request is.
        request = Generate(
            id="r",
            model=model.id,
            prompt=TextPrompt("The river"),
            max_tokens=12,
            sampling=Sampling(temperature=10.0, repeat_penalty=1.0),
        )
        texts = set()
        for _ in range(2):
            async with pool.lease(model) as instance:
                events = await collect(instance.process.generate(request))
            pieces = [e.text for e in events if isinstance(e, TextDelta)]
            texts.add("".join(pieces))
        assert 1 == len(texts)

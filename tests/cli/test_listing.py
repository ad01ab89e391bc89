"""`cloister ls`, `show`, `rm` and `du`: text, JSON, questions."""

import json
import re
from collections import namedtuple

import click
import pytest

from model_store.errors import NotInStore
from model_store.record import Damage, read_record, write_damage
from server.cli.listing import (
    du_command,
    format_count,
    ls_command,
    rm_command,
    show_command,
)
from tests.cli.calling import call
from tests.model_store.conftest import Forge
from tests.model_store.stored_models import make_shelf

STRING = 8
KEYS = {
    "general.name": (STRING, "Tiny"),
    "general.license": (STRING, "mit"),
    "tokenizer.chat_template": (STRING, "{{ messages }}"),
}
CONTENT = Forge(keys=KEYS).build()


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_shelf(tmp_path)


@pytest.fixture
def path(shelf):
    return shelf.put("Pub/Repo/tiny-Q8_0.gguf", CONTENT, verified_against="--sha256")


@pytest.fixture
def run(shelf):
    def run(command, *args, **options):
        return call(command, *args, home=shelf.store.home, **options)

    return run


def test_ls_has_a_line_for_each_model(run, shelf, path):
    other = shelf.put("p/r/other.gguf", CONTENT)
    write_damage(other, Damage("2026-11-22T10:00:00Z", "rotten", ()))
    done = run(ls_command)
    assert (0, None) == (done.code, done.error)
    header, *rows = [line.split() for line in done.out.splitlines()]
    assert ["MODEL", "KIND", "PARAMETERS", "QUANT", "CONTEXT", "SIZE"] == header[:6]
    size = f"{len(CONTENT)} bytes".split()
    if len(CONTENT) >= 1024:
        size = [f"{len(CONTENT) / 1024:.1f}", "KiB"]
    assert [
        ["other", "llm", "128", "F32", "64", *size, "recorded", "quarantined"],
        ["tiny", "llm", "128", "Q8_0", "64", *size, "recorded", "ready"],
    ] == rows
    assert "other: The file '" in done.err
    assert "quarantined since 2026-11-22T10:00:00Z" in done.err


def test_ls_long_tells_digest_source_and_place(run, path):
    record = read_record(path)
    row = run(ls_command, "--long").out.splitlines()[1]
    assert row.endswith(f"{record.sha256}  --sha256  sideload: /media/usb  {path}")


def test_ls_json_is_one_document(run, path):
    document = json.loads(run(ls_command, "--json").out)
    (model,) = document["models"]
    assert ("tiny", "ready", True, True, [str(path)]) == (
        model["id"],
        model["state"],
        model["is_ours"],
        model["is_recorded"],
        model["paths"],
    )
    (model,) = json.loads(run(ls_command, "--json", "--long").out)["models"]
    (file,) = model["files"]
    assert ("tiny", read_record(path).sha256) == (
        model["id"],
        file["record"]["sha256"],
    )
    assert "chunks" not in file["record"]


def test_ls_of_an_empty_store_says_what_to_do(run):
    done = run(ls_command)
    assert (0, "") == (done.code, done.out)
    assert "There is no model yet. Import one by `cloister import" in done.err
    assert {"models": [], "notes": []} == json.loads(run(ls_command, "--json").out)


def test_show_tells_header_record_and_memory(run, path):
    done = run(show_command, "tiny")
    lines = dict(line.split(None, 1) for line in done.out.splitlines() if " " in line)
    assert ("tiny", "ready", "Tiny", "llama", "128", "64 tokens", "mit") == (
        lines["Model"],
        lines["State"],
        lines["Name"],
        lines["Architecture"],
        lines["Parameters"],
        lines["Context"],
        lines["Licence"],
    )
    assert ("2", "4, of keys and values 4", "32") == (
        lines["Layers"],
        lines["Heads"],
        lines["Embedding"],
    )
    assert "tokens (weights 512 bytes, KV cache " in lines["Memory"]
    assert "; fits into the " in lines["Memory"]
    assert read_record(path).sha256 == lines["SHA-256"]
    assert re.fullmatch(r"template +SHA-256 [0-9a-f]{64}", lines["Chat"])
    assert ("sideload: /media/usb", str(path)) == (lines["source"], lines["File"])
    assert "2026-11-22T00:00:00Z, against --sha256, by copy" == lines["admitted"]
    assert "tiny@q8_0, tiny-Q8_0" in lines["Aliases"]


def test_show_json_has_the_same_as_fields(run, path):
    model = json.loads(run(show_command, "tiny", "--json").out)
    assert ("tiny", 2, 4, "mit", True) == (
        model["id"],
        model["n_layer"],
        model["n_head"],
        model["licence"],
        model["memory"]["fits"],
    )
    assert model["memory"]["weights_bytes"] == 512
    assert 64 == len(model["template_sha256"])


def test_show_of_what_does_not_fit_says_so(run, path):
    done = run(show_command, "tiny", CLOISTER_MEMORY_LIMIT="1MiB")
    assert "; does not fit into the 1.0 MiB that are free" in done.out


def test_show_of_a_broken_model_and_one_without_record(run, shelf, path):
    shelf.put("p/r/broken.gguf", b"GGUF")
    done = run(show_command, "broken")
    assert 0 == done.code
    assert "State           broken\n" in done.out
    assert "is not a usable GGUF file: " in done.out
    assert "Heads           -\n" in done.out
    model = json.loads(run(show_command, "broken", "--json").out)
    assert (None, None) == (model["memory"], model["architecture"])
    path.with_name(path.name + ".record.json").unlink()
    assert "  record        none: not verified\n" in run(show_command, "tiny").out
    assert isinstance(run(show_command, "nothing").error, NotInStore)


def test_rm_needs_yes_where_there_is_no_terminal(run, path):
    error = run(rm_command, "tiny").error
    assert isinstance(error, click.UsageError)
    assert "There is no terminal to ask on. Add --yes to remove tiny (1 file, " in (
        error.message
    )
    assert path.exists()


def test_rm_removes_with_yes(run, shelf, path):
    done = run(rm_command, "tiny", "--yes")
    assert 0 == done.code
    assert done.out.startswith("Removed tiny (1 file, ")
    assert not (shelf.store.models_dir / "Pub").exists()


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_rm_asks_on_a_terminal(run, path, monkeypatch, answer, code):
    # The runner's input says that it is no terminal; nothing else is replaced.
    terminal = namedtuple("terminal", ["isatty"])(lambda: True)  # noqa: PYI024
    module = namedtuple("module", ["stdin"])(terminal)  # noqa: PYI024
    monkeypatch.setattr("server.cli.listing.sys", module)
    done = run(rm_command, "tiny", answers=answer)
    assert code == done.code
    assert "Remove tiny (1 file, " in done.err
    assert path.exists() == bool(code)


def test_rm_names_the_projector_that_it_kept(run, shelf, path):
    projector = {"general.architecture": (STRING, "clip")}
    kept = shelf.put("Pub/Repo/mmproj.gguf", Forge(keys=projector).build())
    shelf.put("Pub/Repo/other.gguf", CONTENT)
    done = run(rm_command, "tiny", "--yes")
    assert f"Kept for another model: {kept}\n" in done.out


def test_du_tells_models_and_folders(run, shelf, path):
    done = run(du_command)
    assert 0 == done.code
    header, row, folder = done.out.splitlines()
    assert ["MODEL", "SIZE", "ON", "DISK"] == header.split()
    assert row.startswith("tiny ")
    assert folder.startswith(f"{shelf.store.models_dir}: models ")
    assert folder.endswith(" free")
    document = json.loads(run(du_command, "--json").out)
    assert len(CONTENT) == document["models"][0]["size_bytes"]
    assert document["directories"][0]["is_store"]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (None, "-"),
        (0, "0"),
        (999, "999"),
        (7_000_000, "7M"),
        (260_000, "260K"),
        (494_032_768, "494M"),
        (7_615_616_512, "7.62B"),
        (999_999_999, "1B"),
        (1_200_000_000_000, "1.2T"),
    ],
)
def test_parameters_are_counted_as_models_are_named(number, expected):
    assert expected == format_count(number)

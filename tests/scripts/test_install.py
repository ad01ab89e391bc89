"""`scripts.install`: what the last run left, and what is wanted."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from scripts.engine_install import Origin
from scripts.install import (
    Stamp,
    digest_project,
    ensure_venv,
    read_stamp,
    read_wanted_version,
)
from scripts.machine import Interpreter
from scripts.wheel_cache import InstallError

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Interpreter(Path("python"), (3, 11), "cpython-311", "cc", "c++", None)


def test_a_stamp_is_read_as_it_was_written(tmp_path):
    stamp = Stamp("digest", Origin("0.3.36", "key", "-DX=1", "", "gcc 12 miscompiles"))
    path = tmp_path / "stamp"
    path.write_text(json.dumps(asdict(stamp)), encoding="utf-8")
    assert stamp == read_stamp(path)


@pytest.mark.parametrize("text", [None, "", "[]", '{"project": "x"}', '{"engine": 3}'])
def test_a_stamp_that_is_missing_or_broken_counts_as_none(tmp_path, text):
    path = tmp_path / "stamp"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert Stamp() == read_stamp(path)


def test_the_project_is_installed_anew_when_it_or_its_place_changes(tmp_path):
    digests = set()
    for name, text in (("a", "x"), ("b", "x"), ("a", "y")):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "pyproject.toml").write_text(text, encoding="utf-8")
        digests.add(digest_project(folder, PYTHON))
        assert digest_project(folder, PYTHON) in digests
    assert 3 == len(digests)


def test_the_version_to_build_is_the_lower_bound(tmp_path):
    file = tmp_path / "pyproject.toml"
    file.write_text(
        '[project]\ndependencies = ["x>=1", "llama-cpp-python >= 1.2.3"]',
        encoding="utf-8",
    )
    assert "1.2.3" == read_wanted_version(file)
    file.write_text('[project]\ndependencies = ["x>=1"]', encoding="utf-8")
    with pytest.raises(InstallError, match="has no 'llama-cpp-python>=' dependency"):
        read_wanted_version(file)


def test_this_project_names_a_version_to_build():
    assert "0.3.36" <= read_wanted_version(ROOT / "pyproject.toml")


def test_an_environment_that_does_not_run_is_named_with_the_way_out(tmp_path):
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    python.chmod(0o755)
    with pytest.raises(InstallError, match=r"does not run or is older than 3\.11"):
        ensure_venv(tmp_path / ".venv")

"""README and CHANGELOG are compared with the program."""

import re
import subprocess
from pathlib import Path

import pytest
from fastapi import FastAPI

from server import __version__
from server.app import create_app
from server.config import list_settings
from tests.fake_engine import FakeEngine

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
API = (ROOT / "server" / "API.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "server" / "README.md").read_text(encoding="utf-8")
TARGETS = sorted(set(re.findall(r"^make ([\w-]+)", README, re.MULTILINE)))


def expected_row(setting):
    default = setting.default
    shown = default if " " in default else f"`{default}`"
    return f"| `{setting.usage}` | {shown} | {setting.help} |"


def test_the_table_of_settings_is_the_programs():
    expected = [expected_row(setting) for setting in list_settings()]
    assert expected == re.findall(r"^\| `--.*$", SETTINGS, re.MULTILINE)


def list_routes(app: FastAPI):
    return {
        (method.upper(), path)
        for path, operations in app.openapi()["paths"].items()
        for method in operations
    }


def test_the_table_of_endpoints_is_the_programs():
    documented = set(re.findall(r"^\| `(GET|POST) (\S+)` \|", API, re.MULTILINE))
    served = {
        (method, path.replace("{model_id}", "{id}"))
        for method, path in list_routes(create_app(engine=FakeEngine()))
    }
    assert served | {("GET", "/openapi.json")} == documented


def test_readme_names_endpoints_that_are_there():
    named = set(re.findall(r"`(GET|POST) (/[^` ]*)`", README))
    documented = set(re.findall(r"`(GET|POST) (/[^` ]*)`", API))
    assert len(named) > 8
    assert named <= documented | {("GET", "/docs"), ("GET", "/redoc")}


def test_readme_is_short():
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("target", TARGETS)
def test_every_make_target_of_readme_exists(target):
    done = subprocess.run(
        ["make", "-n", target], cwd=ROOT, capture_output=True, check=False
    )
    assert 0 == done.returncode


def test_bare_make_lists_every_target_with_a_description():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    listed = subprocess.run(
        ["make"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert targets == re.findall(r"^  make ([\w-]+) +\S", listed, re.MULTILINE)


def test_the_changelog_has_this_version_or_unreleased_changes():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{__version__}]" in changelog or "## [Unreleased]" in changelog

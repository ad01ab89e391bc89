"""The bill of materials names what runs, and what scanners ask about."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.sbom import build, needed_packages

ROOT = Path(__file__).resolve().parents[2]
IS_LONG = bool(os.environ.get("CLOISTER_TEST_LONG"))


def component(name):
    return {
        "bom-ref": f"{name}==1",
        "name": name,
        "externalReferences": [
            {"type": "website", "url": "https://example.org"},
            {"type": "distribution", "url": "https://example.org/a.whl"},
            {"type": "other", "url": f"file://{ROOT}"},
        ],
    }


ENVIRONMENT = {
    "metadata": {"component": component("cloister")},
    "components": [component(name) for name in ("fastapi", "diskcache", "pytest")],
    "dependencies": [
        {"ref": "cloister==1", "dependsOn": ["fastapi==1", "pytest==1"]},
        {"ref": "pytest==1"},
    ],
}


@pytest.fixture
def bill():
    return build(ENVIRONMENT, frozenset({"fastapi", "diskcache"}))


def test_it_names_what_runs_and_no_tools(bill):
    names = [each["name"] for each in bill["components"]]
    assert ["fastapi", "diskcache"] == names[:2]
    assert {"swagger-ui-dist", "redoc"} == set(names[2:])
    assert [{"ref": "cloister==1", "dependsOn": ["fastapi==1"]}] == bill["dependencies"]


def test_it_tells_why_diskcache_is_harmless(bill):
    (statement,) = bill["vulnerabilities"]
    assert "CVE-2025-69872" == statement["id"]
    assert [{"ref": "diskcache==1"}] == statement["affects"]
    assert "not_affected" == statement["analysis"]["state"]
    assert "never imports it" in statement["analysis"]["detail"]
    assert [] == build(ENVIRONMENT, frozenset())["vulnerabilities"]


def test_it_tells_nothing_of_this_machine(bill):
    assert "file:" not in json.dumps(bill)
    assert str(ROOT) not in json.dumps(bill)


def test_what_is_needed_is_followed_to_the_end_without_tools():
    needed = needed_packages(["fastapi>=0.1", "absent-on-this-system>=1"])
    assert {"fastapi", "starlette", "anyio", "pydantic-core"} <= needed
    assert "absent-on-this-system" in needed
    assert "pytest" not in needed


@pytest.mark.skipif(not IS_LONG, reason="a minute: set CLOISTER_TEST_LONG to run it")
@pytest.mark.timeout(400)
def test_the_real_one_is_valid_cyclonedx(tmp_path):
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    path = tmp_path / "cloister.cdx.json"
    command = [sys.executable, ROOT / "scripts" / "sbom.py", "--output", path]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, timeout=300)
    text = path.read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    names = {each["name"].lower() for each in json.loads(text)["components"]}
    assert {"llama_cpp_python", "fastapi", "httptools", "redoc", "diskcache"} <= names
    assert set() == names & {"ruff", "mypy", "schemathesis", "openai"}
    assert sys.prefix not in text

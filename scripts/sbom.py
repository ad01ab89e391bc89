"""Write the bill of materials of what an installed Cloister runs: CycloneDX JSON.

`make sbom` lists the packages of `.venv` by the cyclonedx-bom tool, without any
network. This script then keeps those that Cloister itself needs, adds the
scripts of the documentation pages, which are no Python packages, and a statement
about each package that scanners report and Cloister does not use.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "server" / "static" / "SOURCES.toml"
OUTPUT = ROOT / "build" / "cloister.cdx.json"
MAX_S = 300

Json = dict[str, Any]

# Source: CycloneDX 1.6, "vulnerabilities[].analysis", states and justifications.
STATEMENTS: tuple[Json, ...] = (
    {
        "id": "CVE-2025-69872",
        "package": "diskcache",
        "analysis": {
            "state": "not_affected",
            "justification": "code_not_reachable",
            "detail": (
                "diskcache is installed because llama-cpp-python requires it. It "
                "unpickles what lies in a cache folder. Cloister never imports it: "
                "server/worker/bindings.py loads the C declarations of "
                "llama-cpp-python alone, and import contracts and tests "
                "(tests/meta/test_layers.py, tests/security/test_imports.py) hold that."
            ),
        },
    },
)


def main() -> int:
    """Write the file and say where it lies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    output: Path = parser.parse_args().output
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = tomllib.loads(text)["project"]["dependencies"]
    bom = build(list_environment(), needed_packages(wanted))
    bom["metadata"]["component"]["version"] = version("cloister")
    output.parent.mkdir(parents=True, exist_ok=True)
    document = json.dumps(bom, indent=2, ensure_ascii=False, sort_keys=True)
    output.write_text(document + "\n", encoding="utf-8")
    print(f"{output}: {len(bom['components'])} components")
    return 0


def list_environment() -> Json:
    """List everything that is installed beside this interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "environment.json"
        command = [sys.executable, "-m", "cyclonedx_py", "environment"]
        options = ["--pyproject", str(ROOT / "pyproject.toml")]
        subprocess.run(
            [
                *(*command, *options, "--output-reproducible"),
                *("--output-file", str(target), sys.executable),
            ],
            check=True,
            timeout=MAX_S,
        )
        bom: Json = json.loads(target.read_text(encoding="utf-8"))
    return bom


def needed_packages(wanted: Iterable[str]) -> frozenset[str]:
    """Find what requirements need to run, and all that needs in turn.

    Args:
        wanted: Requirements as `pyproject.toml` writes them.

    Returns:
        Canonical names.
    """
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(line) for line in wanted]
    while waiting:
        needed = waiting.pop()
        key = (canonicalize_name(needed.name), frozenset(needed.extras))
        found.add(key[0])
        if key not in seen:
            seen.add(key)
            waiting += _requirements(*key)
    return frozenset(found)


def _requirements(name: str, extras: Iterable[str]) -> Iterable[Requirement]:
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        return  # needed on other systems only
    for line in lines:
        requirement = Requirement(line)
        marker = requirement.marker
        environments = [{"extra": extra} for extra in ("", *extras)]
        if marker is None or any(marker.evaluate(e) for e in environments):
            yield requirement


def build(environment: Json, needed: frozenset[str]) -> Json:
    """Make the bill of materials out of the list of an environment."""
    components = [
        component
        for component in environment["components"]
        if canonicalize_name(component["name"]) in needed
    ]
    scripts = list_scripts()
    references = {c["bom-ref"] for c in components}
    root = environment["metadata"]["component"]
    kept = references | {root["bom-ref"]}
    dependencies = [
        each | {"dependsOn": [ref for ref in each.get("dependsOn", ()) if ref in kept]}
        for each in environment["dependencies"]
        if each["ref"] in kept
    ]
    return environment | {
        "metadata": environment["metadata"] | {"component": _clean(root)},
        "components": [_clean(component) for component in components] + scripts,
        "dependencies": dependencies,
        "vulnerabilities": [
            _state(statement, components)
            for statement in STATEMENTS
            if _find(statement["package"], components) is not None
        ],
    }


def list_scripts() -> list[Json]:
    """Describe the scripts of the documentation pages as components."""
    sources = tomllib.loads(SOURCES.read_text(encoding="utf-8"))
    return [
        {
            "bom-ref": f"server/static/{name}",
            "type": "library",
            "name": source["package"],
            "version": source["version"],
            "description": f"server/static/{name}, for the documentation pages",
            "licenses": [{"license": {"id": source["licence"]}}],
            "purl": f"pkg:npm/{source['package']}@{source['version']}",
            "hashes": [{"alg": "SHA-256", "content": source["sha256"]}],
        }
        for name, source in sources.items()
    ]


def _clean(component: Json) -> Json:
    """Leave out where on this machine something lies or came from."""
    references = [
        reference
        for reference in component.get("externalReferences", ())
        if not re.match(r"file:", reference["url"])
        and reference["type"] != "distribution"
    ]
    return component | {"externalReferences": references}


def _find(name: str, components: Iterable[Json]) -> Json | None:
    return next((c for c in components if canonicalize_name(c["name"]) == name), None)


def _state(statement: Json, components: Iterable[Json]) -> Json:
    component = _find(statement["package"], components)
    if component is None:
        raise LookupError(statement["package"])
    return {
        "id": statement["id"],
        "affects": [{"ref": component["bom-ref"]}],
        "analysis": statement["analysis"],
    }


if __name__ == "__main__":
    sys.exit(main())

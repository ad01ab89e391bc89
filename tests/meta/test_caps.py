"""Files and functions stay small, and names say what a thing is."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for top in ("server", "model_store", "scripts", "tests")
    for path in (ROOT / top).rglob("*.py")
)
MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400
# All calls of the C API stay in one file, so that ownership is seen at once.
LARGER_FILES = {"server/worker/llama.py": 600}
VAGUE_NAMES = {"base", "common", "helper", "helpers", "manager", "util", "utils"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def count_lines(function: ast.AST) -> int:
    """Count a function's lines from its name on, without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def list_long_functions(source: str) -> list[str]:
    return [
        f"{node.name} has {count_lines(node)} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and count_lines(node) > MAX_FUNCTION_LINES
    ]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_and_its_functions_are_not_too_long(path):
    source = path.read_text(encoding="utf-8")
    limit = LARGER_FILES.get(name_of(path), MAX_FILE_LINES)
    assert len(source.splitlines()) <= limit
    assert [] == list_long_functions(source)


def test_the_measure_finds_a_long_function_and_skips_its_docstring():
    body = "    x = 1\n" * 59
    doc = '    """Do it.\n\n' + "    More.\n" * 30 + '    """\n'
    assert [] == list_long_functions(f"def f():\n{doc}{body}")
    assert ["f has 61 lines"] == list_long_functions(f"def f():\n{body}    x = 1\n")


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_name_is_vague(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    words = {word for part in parts for word in part.lower().split("_")}
    assert set() == words & VAGUE_NAMES


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if name_of(p).startswith("server/")], ids=name_of
)
def test_annotations_are_not_postponed(path):
    # FastAPI, pydantic and msgspec read them at run time.
    lines = path.read_text(encoding="utf-8").splitlines()
    assert "from __future__ import annotations" not in lines

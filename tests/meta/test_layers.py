"""Every module of the server has its place in the order of layers."""

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def read_layers():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    layers = next(c["layers"] for c in contracts if c["type"] == "layers")
    return [re.sub(r"[()\s]", "", part) for row in layers for part in row.split("|")]


def test_each_child_of_server_is_in_exactly_one_layer():
    children = [
        path.stem
        for path in (ROOT / "server").iterdir()
        if (path.is_dir() and (path / "__init__.py").exists())
        or (path.suffix == ".py" and path.stem != "__init__")
    ]
    assert sorted(children) == sorted(read_layers())


def name_engine(source: str) -> bool:
    """Tell whether code imports llama_cpp, or names it to an importer."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module)):
                found = [module]
            case ast.Constant(value=str(text)):
                found = [text]
            case _:
                continue
        if any(name.partition(".")[0] == "llama_cpp" for name in found):
            return True
    return False


def test_only_the_bindings_of_the_worker_reach_the_engine():
    users = [
        path.relative_to(ROOT).as_posix()
        for top in ("server", "model_store")
        for path in (ROOT / top).rglob("*.py")
        if name_engine(path.read_text(encoding="utf-8"))
    ]
    assert ["server/worker/bindings.py"] == users


def test_each_way_to_the_engine_is_seen():
    assert name_engine("import llama_cpp.llama_cpp as c")
    assert name_engine("from llama_cpp import llama_cpp")
    assert name_engine("importlib.import_module('llama_cpp')")
    assert not name_engine("import llama; 'llama_cpp is not imported here'")

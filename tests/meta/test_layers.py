"""Every module of the server has its place in the order of layers."""

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

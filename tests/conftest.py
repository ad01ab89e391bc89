"""Fixtures for material that lies beside the project, not in it."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2] / "shared"


def _require(variable: str, folder: Path) -> Path:
    path = Path(os.environ.get(variable) or folder)
    if not path.is_dir():
        pytest.skip(f"no folder {path}: set {variable} to one to run this test")
    return path


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """Return the folder of real model files, or skip."""
    return _require("CLOISTER_TEST_MODELS", _BESIDE / "models")


@pytest.fixture(scope="session")
def chat_templates() -> Path:
    """Return the folder of real chat templates, or skip."""
    return _require("CLOISTER_TEST_TEMPLATES", _BESIDE / "chat-templates")

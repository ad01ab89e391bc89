"""`scripts.engine_install`: when another engine is put in, and which."""

import pytest

from scripts.engine_install import Origin, Source, needs_engine
from scripts.wheel_cache import InstallError

FOUND = Origin()
CUDA = Origin(version="0.3.36", key="k", cmake_args="-DGGML_CUDA=on")


@pytest.mark.parametrize(
    ("installed", "origin", "env", "expected"),
    [
        (None, FOUND, {}, True),
        ("0.3.35", FOUND, {}, True),
        ("0.3.9", FOUND, {}, True),
        ("0.3.36", FOUND, {}, False),
        ("0.3.40", FOUND, {}, False),
        ("0.3.36", FOUND, {"CMAKE_ARGS": " "}, False),
        ("0.3.36", FOUND, {"CMAKE_ARGS": "-DGGML_CUDA=on"}, True),
        ("0.3.36", CUDA, {"CMAKE_ARGS": "-DGGML_CUDA=on"}, False),
        ("0.3.36", CUDA, {"CMAKE_ARGS": "-DGGML_VULKAN=on"}, True),
        ("0.3.36", CUDA, {}, False),
    ],
)
def test_an_engine_is_replaced_only_if_old_or_asked_for(
    installed, origin, env, expected
):
    assert expected == needs_engine(installed, "0.3.36", origin, env)


def test_a_handed_wheel_is_installed_once_and_again_when_it_changes(tmp_path):
    wheel = tmp_path / "llama_cpp_python-0.3.36-py3-none-any.whl"
    wheel.write_bytes(b"one")
    env = {"CLOISTER_ENGINE_WHEEL": str(wheel)}
    digest = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    origin = Origin(version="0.3.36", wheel=f"{wheel.name} {digest}")
    assert needs_engine("0.3.36", "0.3.36", FOUND, env)
    assert not needs_engine("0.3.36", "0.3.36", origin, env)
    wheel.write_bytes(b"two")
    assert needs_engine("0.3.36", "0.3.36", origin, env)


@pytest.mark.parametrize("name", ["missing.whl", "file.txt"])
def test_a_handed_wheel_that_is_none_is_named(tmp_path, name):
    (tmp_path / "file.txt").touch()
    env = {"CLOISTER_ENGINE_WHEEL": str(tmp_path / name)}
    with pytest.raises(InstallError, match=rf"{name} is not a wheel file\."):
        needs_engine("0.3.36", "0.3.36", FOUND, env)


def test_a_source_reads_as_part_of_a_sentence():
    assert "the engine that was found in .venv" == f"the engine that was {Source.FOUND}"

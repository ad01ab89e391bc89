"""`scripts.machine`: what it says about real programs and files."""

import shutil
import sys
from pathlib import Path

import pytest

from scripts.machine import ask_interpreter, inspect_machine, read_cpu_features
from scripts.wheel_cache import InstallError


@pytest.fixture(scope="module")
def interpreter():
    return ask_interpreter(Path(sys.executable))


def test_an_interpreter_tells_its_version(interpreter):
    assert sys.version_info[:2] == interpreter.version
    assert interpreter.abi.startswith(sys.implementation.cache_tag)


def test_a_program_that_is_no_python_is_none(tmp_path):
    assert ask_interpreter(tmp_path / "missing") is None
    assert ask_interpreter(Path(shutil.which("false"))) is None


@pytest.mark.parametrize(
    "line", ["flags\t\t: avx amx_tile", "Features\t: avx amx_tile"]
)
def test_features_are_read_from_the_first_processor(tmp_path, line):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\n{line}\n{line} other\n", encoding="utf-8")
    assert {"avx", "amx_tile"} == read_cpu_features(cpuinfo)


def test_a_system_without_cpuinfo_has_one_feature_its_name(tmp_path):
    assert len(read_cpu_features(tmp_path / "none")) == 1


def fake_compiler(folder, name, major):
    path = folder / name
    path.write_text(
        f"#!/bin/sh\necho '#define __GNUC__ {major}'\n"
        "echo '#define __GNUC_MINOR__ 0'\n",
        encoding="utf-8",
    )
    path.chmod(0o755)
    return str(path)


def test_the_users_compiler_is_asked_and_cmake_args_win(tmp_path, interpreter):
    in_args = fake_compiler(tmp_path, "a", 21)
    in_env = fake_compiler(tmp_path, "b", 22)
    env = {"CC": in_env, "CXX": in_env, "CMAKE_ARGS": f"-DCMAKE_CXX_COMPILER={in_args}"}
    machine = inspect_machine(interpreter, env)
    assert ("gcc 22.0", in_env) == (str(machine.c), machine.c.command)
    assert ("gcc 21.0", in_args) == (str(machine.cxx), machine.cxx.command)


def test_a_named_compiler_that_is_missing_is_an_error(interpreter):
    with pytest.raises(InstallError, match="CC names the compiler 'no-such-cc'"):
        inspect_machine(interpreter, {"CC": "no-such-cc"})

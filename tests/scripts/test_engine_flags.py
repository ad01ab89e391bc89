"""`scripts.engine_flags`: which flags llama.cpp is built with, and its cache key."""

import shlex

import pytest

from scripts.engine_flags import (
    Compiler,
    Machine,
    decide_flags,
    find_definition,
    read_macros,
    select_isa,
    wheel_key,
)

NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
BOTH = f"-DCMAKE_C_FLAGS='{NO_AMX}' -DCMAKE_CXX_FLAGS='{NO_AMX}'"
GCC_10 = Compiler("gcc", "10.2")
GCC_11 = Compiler("gcc", "11.4")
GCC_12 = Compiler("gcc", "12.2")
GCC_13 = Compiler("gcc", "13.1")
CLANG = Compiler("clang", "14.0")
AMX = frozenset({"sse2", "avx512f", "amx_tile", "amx_int8"})
PLAIN = frozenset({"sse2", "avx512f"})


def make_machine(arch="x86_64", features=AMX, c=GCC_12, cxx=GCC_12):
    return Machine(arch=arch, cpu_features=features, c=c, cxx=cxx)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (make_machine(), (BOTH, "gcc 12 miscompiles it")),
        (make_machine(c=GCC_11, cxx=GCC_11), (BOTH, "gcc 11 miscompiles it")),
        (make_machine(c=CLANG, cxx=GCC_12), (BOTH, "gcc 12 miscompiles it")),
        (make_machine(c=GCC_12, cxx=CLANG), (BOTH, "gcc 12 miscompiles it")),
        (make_machine(c=GCC_10, cxx=GCC_10), ("", None)),
        (make_machine(c=GCC_13, cxx=GCC_13), ("", None)),
        (make_machine(c=CLANG, cxx=CLANG), ("", None)),
        (make_machine(features=PLAIN), ("", None)),
        (make_machine(arch="aarch64", features=frozenset({"sve"})), ("", None)),
        (
            make_machine(c=Compiler("unknown", ""), cxx=Compiler("unknown", "")),
            ("", None),
        ),
    ],
)
def test_amx_is_off_only_where_cpu_has_it_and_compiler_is_bad(machine, expected):
    decision = decide_flags(machine, {})
    assert expected == (decision.cmake_args, decision.amx_off)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"CMAKE_ARGS": " -DGGML_CUDA=on "}, f"{BOTH} -DGGML_CUDA=on"),
        (
            {"CFLAGS": "-O2 -g", "CXXFLAGS": "-O1"},
            f"-DCMAKE_C_FLAGS='-O2 -g {NO_AMX}' -DCMAKE_CXX_FLAGS='-O1 {NO_AMX}'",
        ),
        (
            {"CMAKE_ARGS": "-DCMAKE_C_FLAGS=-O1"},
            f"-DCMAKE_CXX_FLAGS='{NO_AMX}' -DCMAKE_C_FLAGS=-O1",
        ),
        (
            {"CMAKE_ARGS": "-D CMAKE_CXX_FLAGS:STRING='-O1 -g'"},
            f"-DCMAKE_C_FLAGS='{NO_AMX}' -D CMAKE_CXX_FLAGS:STRING='-O1 -g'",
        ),
    ],
)
def test_what_the_user_gives_is_kept_and_comes_last(env, expected):
    assert expected == decide_flags(make_machine(), env).cmake_args


def test_a_user_who_sets_both_variables_is_left_alone():
    args = "-DCMAKE_C_FLAGS=-O1 -DCMAKE_CXX_FLAGS=-O1"
    decision = decide_flags(make_machine(), {"CMAKE_ARGS": args})
    assert (args, None) == (decision.cmake_args, decision.amx_off)


def test_the_flags_survive_the_shell_like_splitting_of_the_build_backend():
    words = shlex.split(
        decide_flags(make_machine(), {"CFLAGS": "-DX='a b'"}).cmake_args
    )
    assert [
        f"-DCMAKE_C_FLAGS=-DX='a b' {NO_AMX}",
        f"-DCMAKE_CXX_FLAGS={NO_AMX}",
    ] == words


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("", None),
        ("-DCMAKE_C_COMPILER=clang", "clang"),
        ("-D CMAKE_C_COMPILER:PATH=/usr/bin/cc -G Ninja", "/usr/bin/cc"),
        ("-DCMAKE_C_COMPILER=a -DCMAKE_C_COMPILER=b", "b"),
        ("-DMY_CMAKE_C_COMPILER=a CMAKE_C_COMPILER=b", None),
    ],
)
def test_a_definition_is_found_in_cmakes_spellings(args, expected):
    assert expected == find_definition(args, "CMAKE_C_COMPILER")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#define __GNUC__ 12\n#define __GNUC_MINOR__ 2\n", ("gcc", "12.2", 12)),
        (
            (
                "#define __GNUC__ 4\n#define __clang__ 1\n#define __clang_major__ 14\n"
                "#define __clang_minor__ 0\n"
            ),
            ("clang", "14.0", 14),
        ),
        ("nonsense", ("unknown", "", 0)),
    ],
)
def test_a_compiler_is_known_by_its_macros(text, expected):
    compiler = read_macros(text)
    assert expected == (compiler.kind, compiler.version, compiler.major)


def test_only_features_that_change_code_are_kept():
    features = ["smep", "sme", "avx2", "ibrs", "vmx", "amx_tile", "asimddp", "fpu"]
    assert ["amx_tile", "asimddp", "avx2", "sme"] == select_isa(features)


def key(version="0.3.36", abi="cpython-311", env=None, **machine):
    return wheel_key(version, abi, make_machine(**machine), env or {})


def test_the_key_is_stable_and_ignores_what_does_not_matter():
    assert key() == key(features=AMX | {"vmx"}, env={"PATH": "/x"})
    assert key() == key(c=Compiler("gcc", "12.2", "/usr/bin/gcc"))
    assert len(key()) == 16


@pytest.mark.parametrize(
    "change",
    [
        {"version": "0.3.37"},
        {"abi": "cpython-312"},
        {"arch": "aarch64"},
        {"features": AMX | {"avx2"}},
        {"cxx": GCC_13},
        {"env": {"CMAKE_ARGS": "-DGGML_CUDA=on"}},
        {"env": {"CFLAGS": "-O1"}},
    ],
)
def test_the_key_changes_with_everything_the_build_depends_on(change):
    assert key() != key(**change)

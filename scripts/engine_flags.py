"""How llama.cpp must be compiled here: decisions only, nothing is run or read.

The one known trap: gcc 12 miscompiles ggml's AMX code. On a CPU with AMX the
engine then dies with a general protection fault at `ldtilecfg`, on the first
quantised prompt of more than a few tokens. ggml builds for the CPU it is built
on, so the flags must be decided before the build. They cost no speed that could
be measured.
"""

import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

NO_AMX = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")

# gcc 12 was seen to fail; 11, the first that knows AMX, shares its code and is
# not trusted either. gcc 10 and older know neither AMX nor these flags. 13 and
# newer, and clang, are not known to be bad. The version decides and not a trial
# compile, because the defect shows only in a full build that is run.
_BAD_GCC = range(11, 13)

# The languages of llama.cpp: CMake's name and the environment's.
_LANGUAGES = (("C", "CFLAGS"), ("CXX", "CXXFLAGS"))

# Parts of a CPU's flag list that can change the code ggml is compiled to.
_ISA = re.compile(
    r"sse|ssse|avx|amx|fma|f16c|bmi|asimd|sve|sme(?!p)|i8mm|bf16|fphp|dotprod|gfni|vnni"
)


@dataclass(frozen=True)
class Compiler:
    """A compiler: `kind` is gcc, clang or unknown, `command` how to call it."""

    kind: str
    version: str
    command: str = ""

    @property
    def major(self) -> int:
        """The first number of the version, 0 where there is none."""
        match = re.match(r"\d+", self.version)
        return int(match[0]) if match else 0

    def __str__(self) -> str:
        return f"{self.kind} {self.version}".strip()


@dataclass(frozen=True)
class Machine:
    """What the build depends on: architecture, CPU features, both compilers."""

    arch: str
    cpu_features: frozenset[str]
    c: Compiler
    cxx: Compiler


@dataclass(frozen=True)
class Decision:
    """The flags of a build.

    `amx_off` says why AMX is switched off, None where it is not.
    """

    cmake_args: str
    amx_off: str | None


def read_macros(text: str, command: str = "") -> Compiler:
    """Tell a compiler by its predefined macros.

    Args:
        text: What `cc -dM -E -x c /dev/null` prints.
        command: How it was called.
    """
    macros = dict(re.findall(r"^#define (\w+) (.*)$", text, re.MULTILINE))
    if "__clang__" in macros:  # clang claims to be gcc as well
        kind, names = "clang", ("__clang_major__", "__clang_minor__")
    elif "__GNUC__" in macros:
        kind, names = "gcc", ("__GNUC__", "__GNUC_MINOR__")
    else:
        return Compiler("unknown", "", command)
    version = ".".join(macros.get(name, "0") for name in names)
    return Compiler(kind, version, command)


def find_definition(cmake_args: str, name: str) -> str | None:
    """Find the value of `-DNAME=…` or `-D NAME:TYPE=…`; the last one counts."""
    pattern = re.compile(rf"(?:-D)?{re.escape(name)}(?::\w+)?=(.*)", re.DOTALL)
    words = shlex.split(cmake_args)
    found = None
    for before, word in zip(["", *words], words, strict=False):
        match = pattern.fullmatch(word)
        if match and (word.startswith("-D") or before == "-D"):
            found = match[1]
    return found


def decide_flags(machine: Machine, env: Mapping[str, str]) -> Decision:
    """Decide CMAKE_ARGS for a build.

    Args:
        machine: Where the build runs and the engine will run.
        env: Its `CMAKE_ARGS`, `CFLAGS` and `CXXFLAGS` are honoured: the first
            comes after ours, so that it wins; the others come before, because
            CMake ignores them once CMAKE_C_FLAGS is given.

    Returns:
        CMAKE_ARGS as a shell would read it, the user's part unchanged at the end.
    """
    users = env.get("CMAKE_ARGS", "").strip()
    bad = [c for c in (machine.c, machine.cxx) if _miscompiles_amx(c)]
    if machine.arch not in {"x86_64", "AMD64"} or not bad:
        return Decision(users, None)
    if "amx_tile" not in machine.cpu_features:
        return Decision(users, None)
    # For both languages even if one compiler is good: ggml decides in C what
    # its C++ part must offer.
    ours = []
    for language, variable in _LANGUAGES:
        name = f"CMAKE_{language}_FLAGS"
        if find_definition(users, name) is None:
            flags = " ".join([*env.get(variable, "").split(), *NO_AMX])
            ours.append(f"-D{name}={shlex.quote(flags)}")
    reason = f"gcc {bad[0].major} miscompiles it" if ours else None
    return Decision(" ".join([*ours, users]).strip(), reason)


def _miscompiles_amx(compiler: Compiler) -> bool:
    return compiler.kind == "gcc" and compiler.major in _BAD_GCC


def select_isa(cpu_features: Iterable[str]) -> list[str]:
    """Keep the features that a compiler can use, sorted.

    The rest of the list (mitigations, virtualisation) changes with the kernel.
    """
    return sorted(feature for feature in cpu_features if _ISA.search(feature))


def wheel_key(version: str, abi: str, machine: Machine, env: Mapping[str, str]) -> str:
    """Name a build: the same key means that the same wheel would come out.

    Args:
        version: Of llama-cpp-python.
        abi: The interpreter's tag, such as cpython-311-x86_64-linux-gnu.
        machine: As for `decide_flags`.
        env: As for `decide_flags`.

    Returns:
        16 hexadecimal digits.
    """
    facts = [
        version,
        abi,
        machine.arch,
        decide_flags(machine, env).cmake_args,
        [env.get(variable, "") for _, variable in _LANGUAGES],
        [str(machine.c), str(machine.cxx)],
        select_isa(machine.cpu_features),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

"""Assembles a seccomp filter: classic BPF, decided by rules, without any call.

A program reads the 64 bytes of `struct seccomp_data` word by word and ends in a
verdict. It goes through these questions in order:

    another architecture?                         kill the process
    an x32 number, or one of x32's own (512-547)?  kill the process
    a number newer than what was looked at?       ENOSYS
    for each rule: this call, and a check holds?  its errno
    else                                          allow

A rule without checks always denies. One with checks denies if any of them holds
and allows the call otherwise. Jumps lead forward by at most 255 instructions, so
every rule carries its own verdict and nothing jumps far.

Values of arguments are compared as their lower 32 bits, which is what the kernel
itself takes of an int or of flags; `IsGiven` looks at all 64 bits of a pointer.

Source: linux/filter.h, linux/bpf_common.h, linux/seccomp.h.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from server.seal.syscalls import HIGHEST_KNOWN, X32_BIT, Architecture

LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
JUMP_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_GREATER: Final = 0x25  # BPF_JMP | BPF_JGT | BPF_K
JUMP_GREATER_EQUAL: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
JUMP_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
RETURN: Final = 0x06  # BPF_RET | BPF_K

KILL_PROCESS: Final = 0x8000_0000
ALLOW: Final = 0x7FFF_0000
_ERRNO: Final = 0x0005_0000

MAX_INSTRUCTIONS: Final = 4096
"""Of one program. Source: linux/bpf_common.h, BPF_MAXINSNS."""

_NUMBER_OFFSET: Final = 0
_ARCH_OFFSET: Final = 4
_ARGS_OFFSET: Final = 16
_WORD_BYTES: Final = 4
_FIRST_X32_NUMBER: Final = 512
_LAST_X32_NUMBER: Final = 547
"""Kernels before 5.4 took these numbers without the bit as well."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; jumps count from the next one."""

    code: int
    k: int
    if_true: int = 0
    if_false: int = 0

    def pack(self) -> bytes:
        """Write it as `struct sock_filter`."""
        return struct.pack("=HBBI", self.code, self.if_true, self.if_false, self.k)


@dataclass(frozen=True, slots=True)
class Differs:
    """The argument, cut down to `mask`, is not `value`."""

    arg: int
    value: int
    mask: int = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Equals:
    """The argument is `value`."""

    arg: int
    value: int


@dataclass(frozen=True, slots=True)
class HasAny:
    """The argument has a bit of `bits`."""

    arg: int
    bits: int


@dataclass(frozen=True, slots=True)
class LacksAll:
    """The argument has no bit of `bits`."""

    arg: int
    bits: int


@dataclass(frozen=True, slots=True)
class IsGiven:
    """The argument is a pointer that is not null."""

    arg: int


Check = Differs | Equals | HasAny | LacksAll | IsGiven


@dataclass(frozen=True, slots=True)
class Rule:
    """A call that is denied, always or where a check holds.

    Args:
        call: Its name.
        why: What it would open, for documents and reports.
        errno: What the caller gets.
        checks: Any of them that holds denies; none means always.
    """

    call: str
    why: str
    errno: int
    checks: tuple[Check, ...] = ()


def assemble(architecture: Architecture, rules: Iterable[Rule]) -> tuple[bytes, int]:
    """Assemble a program.

    Args:
        architecture: Calls that it does not have are left out.
        rules: At most one for each call.

    Returns:
        The packed instructions and their number.

    Raises:
        ValueError: Two rules name one call, or the program is too long.
    """
    program = compile_rules(architecture, rules)
    return b"".join(each.pack() for each in program), len(program)


def compile_rules(
    architecture: Architecture, rules: Iterable[Rule]
) -> tuple[Instruction, ...]:
    """Turn rules into instructions; see `assemble`."""
    program = [
        Instruction(LOAD, _ARCH_OFFSET),
        Instruction(JUMP_EQUAL, architecture.audit, if_true=1),
        Instruction(RETURN, KILL_PROCESS),
        Instruction(LOAD, _NUMBER_OFFSET),
    ]
    if architecture.has_x32:
        program += [
            Instruction(JUMP_GREATER_EQUAL, X32_BIT, if_true=2),
            Instruction(JUMP_GREATER, _LAST_X32_NUMBER, if_true=2),
            Instruction(JUMP_GREATER_EQUAL, _FIRST_X32_NUMBER, if_false=1),
            Instruction(RETURN, KILL_PROCESS),
        ]
    program += [
        Instruction(JUMP_GREATER, HIGHEST_KNOWN, if_false=1),
        Instruction(RETURN, _ERRNO | _ENOSYS),
    ]
    seen: set[str] = set()
    for rule in rules:
        if rule.call in seen:
            raise ValueError(f"two rules for {rule.call}")
        seen.add(rule.call)
        number = architecture.numbers.get(rule.call)
        if number is not None:
            program += _compile_rule(number, rule)
    program.append(Instruction(RETURN, ALLOW))
    if len(program) > MAX_INSTRUCTIONS:
        raise ValueError(f"{len(program)} instructions, {MAX_INSTRUCTIONS} are allowed")
    return tuple(program)


_ENOSYS: Final = 38  # Source: asm-generic/errno.h


def _compile_rule(number: int, rule: Rule) -> list[Instruction]:
    body: list[Instruction] = []
    if rule.checks:
        parts = [_compile_check(check) for check in rule.checks]
        # After all checks come `allow` and, behind it, `deny`.
        end = sum(len(part) for part in parts) + 1
        for part in parts:
            for instruction in part:
                to_deny = end - len(body) - 1
                body.append(_aim(instruction, to_deny))
        body.append(Instruction(RETURN, ALLOW))
    body.append(Instruction(RETURN, _ERRNO | rule.errno))
    return [Instruction(JUMP_EQUAL, number, if_false=len(body)), *body]


_TO_DENY: Final = 255
"""Stands for the way to the rule's verdict until that is known."""


def _aim(instruction: Instruction, to_deny: int) -> Instruction:
    def resolve(jump: int) -> int:
        return to_deny if jump == _TO_DENY else jump

    return Instruction(
        instruction.code,
        instruction.k,
        resolve(instruction.if_true),
        resolve(instruction.if_false),
    )


def _compile_check(check: Check) -> list[Instruction]:
    low = _ARGS_OFFSET + 2 * _WORD_BYTES * check.arg
    match check:
        case Differs(_, value, mask):
            return [
                Instruction(LOAD, low),
                Instruction(AND, mask),
                Instruction(JUMP_EQUAL, value, if_false=_TO_DENY),
            ]
        case Equals(_, value):
            return [
                Instruction(LOAD, low),
                Instruction(JUMP_EQUAL, value, if_true=_TO_DENY),
            ]
        case HasAny(_, bits):
            return [
                Instruction(LOAD, low),
                Instruction(JUMP_ANY_BIT, bits, if_true=_TO_DENY),
            ]
        case LacksAll(_, bits):
            return [
                Instruction(LOAD, low),
                Instruction(JUMP_ANY_BIT, bits, if_false=_TO_DENY),
            ]
        case IsGiven():
            return [
                Instruction(LOAD, low),
                Instruction(JUMP_EQUAL, 0, if_false=_TO_DENY),
                Instruction(LOAD, low + _WORD_BYTES),
                Instruction(JUMP_EQUAL, 0, if_false=_TO_DENY),
            ]

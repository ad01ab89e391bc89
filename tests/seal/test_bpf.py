"""The assembled programs, run by an interpreter of our own."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.seal.bpf import (
    MAX_INSTRUCTIONS,
    Differs,
    Equals,
    HasAny,
    IsGiven,
    LacksAll,
    Rule,
    assemble,
)
from server.seal.syscalls import AARCH64, HIGHEST_KNOWN, X32_BIT, X86_64
from tests.seal.bpf_interpreter import ALLOW, KILL, run

ARCHITECTURES = pytest.mark.parametrize(
    "machine", [X86_64, AARCH64], ids=lambda machine: machine.name
)
CONNECT = Rule("connect", "why", errno.EACCES)


def ask(machine, rules, call, *args):
    code, count = assemble(machine, rules)
    assert 8 * count == len(code)
    number = machine.numbers[call] if isinstance(call, str) else call
    return run(code, arch=machine.audit, number=number, args=args)


@ARCHITECTURES
def test_a_rule_denies_its_call_and_no_other(machine):
    denied = [n for n in range(400) if ask(machine, [CONNECT], n) == errno.EACCES]
    assert [machine.numbers["connect"]] == denied


@ARCHITECTURES
def test_another_architecture_is_killed(machine):
    code, _ = assemble(machine, [])
    for arch in (0, 0x40000003, 0x40000028, machine.audit ^ 1):
        assert KILL == run(code, arch=arch, number=1)
    assert ALLOW == run(code, arch=machine.audit, number=1)


def test_x32_numbers_are_killed_with_and_without_their_bit():
    for number in (X32_BIT, X32_BIT | 41, X32_BIT | 520, 0xFFFFFFFF, 512, 520, 547):
        assert KILL == ask(X86_64, [], number)


@ARCHITECTURES
def test_numbers_newer_than_the_table_are_unknown(machine):
    assert ALLOW == ask(machine, [], HIGHEST_KNOWN)
    for number in (HIGHEST_KNOWN + 1, 511, 548, 4096):
        assert errno.ENOSYS == ask(machine, [], number)


def test_a_call_that_an_architecture_lacks_has_no_rule():
    assert errno.EACCES == ask(X86_64, [Rule("fork", "", errno.EACCES)], "fork")
    with_rule, _ = assemble(AARCH64, [Rule("fork", "", errno.EACCES)])
    assert assemble(AARCH64, [])[0] == with_rule


def test_two_rules_for_one_call_are_refused():
    with pytest.raises(ValueError, match="two rules for connect"):
        assemble(X86_64, [CONNECT, CONNECT])


def test_a_program_that_is_too_long_is_refused():
    many = (IsGiven(0),) * (MAX_INSTRUCTIONS // 4)
    with pytest.raises(ValueError, match=f"{MAX_INSTRUCTIONS} are allowed"):
        assemble(X86_64, [Rule("connect", "", errno.EACCES, many)])


def test_a_pointer_is_looked_at_with_all_its_bits():
    rules = [Rule("sendto", "", errno.EACCES, (IsGiven(4),))]
    assert ALLOW == ask(X86_64, rules, "sendto", 1, 2, 3, 4, 0)
    for pointer in (1, 2**31, 2**32, 2**63):
        assert errno.EACCES == ask(X86_64, rules, "sendto", 0, 0, 0, 0, pointer)


def test_values_are_compared_as_the_kernel_cuts_them():
    # An int of the kernel's is the lower half of the register.
    rules = [Rule("ioctl", "", errno.EACCES, (Equals(1, 0x5412),))]
    assert errno.EACCES == ask(X86_64, rules, "ioctl", 0, 0xDEAD_0000_0000_5412)


CHECKS = st.one_of(
    st.builds(Equals, st.integers(0, 5), st.integers(0, 8)),
    st.builds(Differs, st.integers(0, 5), st.integers(0, 8), st.integers(0, 15)),
    st.builds(HasAny, st.integers(0, 5), st.integers(0, 15)),
    st.builds(LacksAll, st.integers(0, 5), st.integers(0, 15)),
    st.builds(IsGiven, st.integers(0, 5)),
)


def holds(check, args):
    low = args[check.arg] & 0xFFFFFFFF
    match check:
        case Equals(_, value):
            return low == value
        case Differs(_, value, mask):
            return low & mask != value
        case HasAny(_, bits):
            return low & bits != 0
        case LacksAll(_, bits):
            return low & bits == 0
        case IsGiven():
            return args[check.arg] != 0
    raise ValueError(check)


@given(
    st.lists(CHECKS, max_size=20),
    st.tuples(*[st.one_of(st.integers(0, 9), st.just(2**32))] * 6),
    st.sampled_from(["connect", "bind", "listen"]),
)
def test_any_check_that_holds_denies(checks, args, call):
    rules = [
        Rule("bind", "", errno.EPERM),
        Rule("connect", "", errno.EACCES, tuple(checks)),
    ]
    expected = {"bind": errno.EPERM, "listen": ALLOW}.get(call)
    if expected is None:
        denied = not checks or any(holds(check, args) for check in checks)
        expected = errno.EACCES if denied else ALLOW
    assert expected == ask(X86_64, rules, call, *args)

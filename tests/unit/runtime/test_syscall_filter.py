"""The filter of system calls, run as the kernel runs it, on each architecture."""

from __future__ import annotations

import struct
import sys
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_runtime import syscall_filter

ALLOWED, DENIED = 0x7FFF0000, 0x00050001
WORDS = st.sampled_from((0, 1, 2, 3, 7, 0xFFFFFFFF))
CALLS = st.lists(WORDS, min_size=12, max_size=12)
MACHINES = pytest.mark.parametrize("machine", syscall_filter.ARCHITECTURES)


@cache
def encoded(machine: str) -> list[tuple[int, int, int, int]]:
    """The instructions for a machine: code, jumps and value."""
    order = "<" if sys.byteorder == "little" else ">"
    return [*struct.iter_unpack(f"{order}HBBI", syscall_filter.encode_filter(*syscall_filter.ARCHITECTURES[machine]))]


def run_filter(machine: str, number: int, architecture: int, words: list[int]) -> int:
    """The verdict of classic BPF on a system call, as of the kernel's seccomp_data."""
    order = "<" if sys.byteorder == "little" else ">"
    data = struct.pack(f"{order}IIQ12I", number, architecture, 0, *words)
    instructions = encoded(machine)
    assert len(instructions) < 4096, "what the kernel takes"
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = instructions[at]
        at += 1
        if code == 0x06:
            return int(value)
        if code == 0x20:
            (accumulator,) = struct.unpack_from(f"{order}I", data, value)
        else:
            holds = accumulator == value if code == 0x15 else accumulator >= value
            at += if_true if holds else if_false


def allowed(name: str, words: list[int]) -> bool:
    """What the manual pages say of the arguments that mean nobody but the caller."""
    first, second, third_low, third_high, fourth = words[0], words[2], words[4], words[5], words[6]
    match name:
        case "tkill" | "rt_sigqueueinfo" | "rt_tgsigqueueinfo":
            return False
        case "tgkill":
            return first != 1
        case "pidfd_send_signal":
            return (third_low, third_high, fourth) == (0, 0, 0)
        case "setpriority":
            return first != 2 and second == 0
        case "ioprio_set":
            return first != 3 and second == 0
    return first == 0


@MACHINES
@given(words=CALLS)
def test_each_listed_call_is_allowed_of_oneself_alone(machine: str, words: list[int]) -> None:
    architecture, numbers = syscall_filter.ARCHITECTURES[machine]
    assert numbers.keys() == syscall_filter.CONDITIONS.keys()
    for name, number in numbers.items():
        assert run_filter(machine, number, architecture, words) == (ALLOWED if allowed(name, words) else DENIED)


@MACHINES
@given(number=st.integers(0, 0xFFFFFFFF), words=CALLS)
def test_all_other_calls_of_the_architecture_are_allowed(machine: str, number: int, words: list[int]) -> None:
    architecture, numbers = syscall_filter.ARCHITECTURES[machine]
    if number not in numbers.values():
        assert run_filter(machine, number, architecture, words) == (ALLOWED if number < 1 << 30 else DENIED)


@MACHINES
@given(number=st.integers(0, 500), other=st.sampled_from((0x40000003, 0xC000003E, 0xC00000B7, 0x40000028)))
def test_other_architectures_have_no_calls(machine: str, number: int, other: int) -> None:
    """The 32-bit calls of the same processor have other numbers."""
    architecture, _ = syscall_filter.ARCHITECTURES[machine]
    if other != architecture:
        assert run_filter(machine, number, other, [0] * 12) == DENIED

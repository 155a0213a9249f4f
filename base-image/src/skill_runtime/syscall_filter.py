"""The seccomp(2) filter of a skill's processes: they may not change PID 1, which has the same user as they.

PR_SET_DUMPABLE keeps PID 1's memory and files from them. What is left is what Linux allows any process of the same user
without asking whether it may trace the other: limits, priorities, processors, and signals whose sender can be forged.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2
_LOAD_WORD, _JUMP_IF_EQUAL, _JUMP_IF_GREATER_OR_EQUAL, _RETURN = 0x20, 0x15, 0x35, 0x06  # classic BPF
_ALLOW, _DENY = 0x7FFF0000, 0x00050001
"""SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with EPERM."""
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16
_X32_NUMBERS = 0x40000000
"""Numbers from here on are system calls of the x32 ABI on x86_64; no architecture has others as high."""

Condition = tuple[int, bool, int]
"""A 32-bit word of the arguments (two for each), and the value that it must have (true) or must not have (false)."""
_NEVER: tuple[Condition, ...] = ((0, True, 0), (0, False, 0))
_OF_ONESELF: tuple[Condition, ...] = ((0, True, 0),)

CONDITIONS: Mapping[str, tuple[Condition, ...]] = {
    "tkill": _NEVER,
    "tgkill": ((0, False, 1),),
    "rt_sigqueueinfo": _NEVER,
    "rt_tgsigqueueinfo": _NEVER,
    "pidfd_send_signal": ((4, True, 0), (5, True, 0), (6, True, 0)),  # as kill(2): no siginfo, no flags
    "prlimit64": _OF_ONESELF,
    "sched_setparam": _OF_ONESELF,
    "sched_setscheduler": _OF_ONESELF,
    "sched_setaffinity": _OF_ONESELF,
    "sched_setattr": _OF_ONESELF,
    "setpriority": ((0, False, 2), (2, True, 0)),  # not PRIO_USER
    "ioprio_set": ((0, False, 3), (2, True, 0)),  # not IOPRIO_WHO_USER
}
"""When each of these system calls is allowed; all others are, as far as this filter goes."""

ARCHITECTURES: Mapping[str, tuple[int, Mapping[str, int]]] = {
    "x86_64": (
        0xC000003E,
        {
            "tkill": 200,
            "tgkill": 234,
            "rt_sigqueueinfo": 129,
            "rt_tgsigqueueinfo": 297,
            "pidfd_send_signal": 424,
            "prlimit64": 302,
            "sched_setparam": 142,
            "sched_setscheduler": 144,
            "sched_setaffinity": 203,
            "sched_setattr": 314,
            "setpriority": 141,
            "ioprio_set": 251,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "tkill": 130,
            "tgkill": 131,
            "rt_sigqueueinfo": 138,
            "rt_tgsigqueueinfo": 240,
            "pidfd_send_signal": 424,
            "prlimit64": 261,
            "sched_setparam": 118,
            "sched_setscheduler": 119,
            "sched_setaffinity": 122,
            "sched_setattr": 274,
            "setpriority": 140,
            "ioprio_set": 30,
        },
    ),
}
"""The machines that images are built for: the kernel's AUDIT_ARCH constant, and the numbers of system calls."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def restrict_thread() -> None:
    """Put the filter on the calling thread and on what it starts, for ever. Raises OSError.

    On a machine that is not in ARCHITECTURES there is no filter.
    """
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        return
    instructions = encode_filter(*ARCHITECTURES[machine])
    program = _Program(len(instructions) // 8, instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program)),
    ):
        if libc.prctl(*arguments, 0, 0):
            code = ctypes.get_errno()
            raise OSError(code, f"prctl({arguments[0]}): {os.strerror(code)}")


def encode_filter(architecture: int, numbers: Mapping[str, int]) -> bytes:
    """Return the filter as instructions of classic BPF. System calls of other architectures are denied."""
    program = [
        _instruction(_LOAD_WORD, _ARCHITECTURE_OFFSET),
        _instruction(_JUMP_IF_EQUAL, architecture, 1, 0),
        _instruction(_RETURN, _DENY),
        _instruction(_LOAD_WORD, _NUMBER_OFFSET),
        _instruction(_JUMP_IF_GREATER_OR_EQUAL, _X32_NUMBERS, 0, 1),
        _instruction(_RETURN, _DENY),
    ]
    for name, number in numbers.items():
        rule = _encode_rule(CONDITIONS[name])
        program += [_instruction(_JUMP_IF_EQUAL, number, 0, len(rule)), *rule]
    return b"".join((*program, _instruction(_RETURN, _ALLOW)))


def _encode_rule(conditions: Sequence[Condition]) -> list[bytes]:
    rule = []
    for word, equal, value in conditions:
        rule += [
            _instruction(_LOAD_WORD, _ARGUMENTS_OFFSET + 4 * word),
            _instruction(_JUMP_IF_EQUAL, value, int(equal), int(not equal)),
            _instruction(_RETURN, _DENY),
        ]
    return [*rule, _instruction(_RETURN, _ALLOW)]


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return code.to_bytes(2, sys.byteorder) + bytes((if_true, if_false)) + value.to_bytes(4, sys.byteorder)

"""What holds the process in which JavaScript runs. It is read by that process, and imports nothing of crdtdb.

The engine gives scripts no files, network or processes. Should it be broken, the process has none to give: three layers that
don't depend on each other, each from Linux itself, entered once everything is loaded:

- limits: no new file descriptor, no bytes in files, no processes, bounded memory; everywhere
- Landlock: no access to any file by name, no TCP; from Linux 5.13 on
- seccomp: the few system calls that computing needs, every other fails with EPERM; on x86-64 and ARM64

Source: the kernel's documentation of seccomp_filter and of landlock; Drewry, "Dynamic seccomp policies" (2012).
"""

import ctypes
import os
import platform
import resource
import struct

_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_LANDLOCK_VERSION = 1
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # EPERM
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06

_CALLS = {
    "x86_64": (
        0xC000003E,
        {
            "read": 0, "write": 1, "close": 3, "fstat": 5, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12,
            "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24, "mremap": 25, "madvise": 28,
            "setitimer": 38, "getpid": 39, "exit": 60, "gettimeofday": 96, "getrusage": 98, "times": 100, "sigaltstack": 131,
            "gettid": 186, "time": 201, "futex": 202, "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229,
            "exit_group": 231, "getrandom": 318, "rseq": 334,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "close": 57, "lseek": 62, "read": 63, "write": 64, "fstat": 80, "exit": 93, "exit_group": 94, "futex": 98,
            "setitimer": 103, "clock_gettime": 113, "clock_getres": 114, "sched_yield": 124, "restart_syscall": 128,
            "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "times": 153,
            "getrusage": 165, "gettimeofday": 169, "getpid": 172, "gettid": 178, "brk": 214, "munmap": 215, "mremap": 216,
            "mmap": 222, "mprotect": 226, "madvise": 233, "getrandom": 278, "rseq": 293,
        },
    ),
}  # fmt: skip
"""By machine: how seccomp names it, and the numbers of what is allowed: memory, time, and the two pipes that are open."""


def enter(memory: int) -> list[str]:
    """Give everything up, for good; return which layers hold. `memory` bounds the address space in bytes.

    Nothing can be opened or imported after this.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    privileges_are_fixed = libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    layers = []
    if privileges_are_fixed and _landlock(libc):
        layers.append("landlock")
    _limit(memory)
    layers.append("limits")
    if privileges_are_fixed and _seccomp(libc):
        layers.append("seccomp")
    return sorted(layers)


def _limit(memory: int) -> None:
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),  # those that are open stay
    ):
        resource.setrlimit(kind, (most, most))


def _landlock(libc: ctypes.CDLL) -> bool:
    """Allow no file by its name, and no TCP: a set of rules that handles everything and has no rule."""
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    if version < 1:
        return False
    files = (1 << (13 + (version >= 2) + (version >= 3) + (version >= 5))) - 1
    handled = struct.pack("=Q", files)
    if version >= 4:
        handled += struct.pack("=Q", 3)  # bind and connect
    if version >= 6:
        handled += struct.pack("=Q", 3)  # abstract sockets and signals
    rules = libc.syscall(_LANDLOCK_CREATE, handled, ctypes.c_size_t(len(handled)), 0)
    if rules < 0:
        return False
    try:
        return bool(libc.syscall(_LANDLOCK_RESTRICT, rules, 0) == 0)
    finally:
        os.close(rules)


def _seccomp(libc: ctypes.CDLL) -> bool:
    """Refuse every system call that isn't listed."""
    known = _CALLS.get(platform.machine())
    if known is None:
        return False
    architecture, calls = known
    numbers = list(calls.values())
    steps = [(_LOAD, 0, 0, 4), (_JUMP_IF_EQUAL, 0, len(numbers) + 1, architecture), (_LOAD, 0, 0, 0)]
    steps += [(_JUMP_IF_EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    steps += [(_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    filtering = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(program)))
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filtering, 0, 0) == 0)

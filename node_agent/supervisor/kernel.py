"""What the kernel is asked by prctl(2), fallocate(2) and keyctl(2), which the standard library does not know."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_FALLOC_FL_KEEP_SIZE = 1
_FALLOC_FL_PUNCH_HOLE = 2
_KEYCTL_JOIN_SESSION_KEYRING = 1
# The number of keyctl(2), which no C library wraps, for programs of 64 bits.
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "loongarch64": 219, "ppc64le": 271, "s390x": 280}

_libc = ctypes.CDLL(None, use_errno=True)
# With offsets of 64 bits: C libraries name it so, or have no other.
_fallocate = getattr(_libc, "fallocate64", None) or getattr(_libc, "fallocate", None)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parents end, so that a daemon that forks twice stays a descendant.

    Raises:
        OSError: the kernel refuses.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def hide_memory() -> None:
    """Let no other process of the same user trace this one or read its memory, nor the kernel dump it.

    Raises:
        OSError: the kernel refuses.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def die_with(parent: int) -> None:
    """Be killed when the parent dies, at once if it has; to be asked after a change of user, which clears it.

    Raises:
        OSError: the kernel refuses.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def leave_keyring() -> None:
    """Take a session keyring of one's own; before a change of user, whose quota could otherwise prevent it.

    It is inherited as descriptors are: all who have it may read, add and revoke keys in it, whatever their user. So
    commands of two users would share what one of them keeps there, a Kerberos ticket say. PAM does the same for
    whoever logs in (pam_keyinit(8)). A kernel without keys, or a container that may not use them, has nothing to leave.
    """
    number = _SYS_KEYCTL.get(os.uname().machine)
    if number is not None and sys.maxsize > 2**32:
        _libc.syscall(ctypes.c_long(number), ctypes.c_long(_KEYCTL_JOIN_SESSION_KEYRING), None)


def give_back(descriptor: int, offset: int, size_bytes: int) -> bool:
    """Give the room of some bytes of a file back to the disk: they read as zeros, and the file keeps its size.

    Returns whether that was done: not every file system can.
    """
    if _fallocate is None:
        return False
    mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    return bool(_fallocate(descriptor, mode, ctypes.c_int64(offset), ctypes.c_int64(size_bytes)) == 0)


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

"""Descriptors: as many as the process may have are taken, and when none is left, that is said."""

import errno
import os
import resource
from typing import Final

RESERVED: Final = 256
"""Of all descriptors, those that are kept for what else a daemon opens than connections: files, links, sockets."""
_OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})


def connections_within(wanted: int) -> int:
    """Return how many connections there may be, each of which is a descriptor, where so many are wanted.

    The process takes as many descriptors as it may have (`RLIMIT_NOFILE`), of which `RESERVED`, or half of them where
    that is less, are for other things. Whoever gets fewer than it wanted says so where its operator sees it.
    """
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most == resource.RLIM_INFINITY or wanted + RESERVED <= most:
        return wanted
    return max(most - RESERVED, most // 2)


def descriptors_remark() -> str | None:
    """Say that the process has no descriptors left; None while it has."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno not in _OUT_OF_DESCRIPTORS:
            return None
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"no descriptors are left (of {most}), and whatever needs one waits or fails: raise LimitNOFILE"
    return None

"""Directories of a tree that is copied: made beneath one that is there, never through a link."""

import contextlib
import os

from trunkline.files import beneath
from trunkline.files.partial import PERMISSIONS

NEW_MODE = 0o755


def make_directory(name: str, within: int) -> None:
    """Make a directory, or take the one that is there.

    Raises:
        OSError: it cannot be made; something else has the name, or a link (ENOTDIR).
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, NEW_MODE, dir_fd=within)
        return
    os.close(os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within))


def set_attributes(name: str, within: int, mode: int, mtime_ns: int) -> None:
    """Give a directory its permissions and time, once everything is in it.

    Raises:
        OSError: it is none, or not this user's.
    """
    descriptor = os.open(name, beneath.LISTED, dir_fd=within)
    try:
        os.fchmod(descriptor, mode & PERMISSIONS)
        os.utime(descriptor, ns=(mtime_ns, mtime_ns))
    finally:
        os.close(descriptor)

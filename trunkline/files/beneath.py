"""Places beneath a directory, found name by name, so that no symbolic link below it leads anywhere else.

The directory itself is opened as whoever named it wrote it, links included. From there on each name is opened in the
directory before it with O_NOFOLLOW: what another process puts in the way meanwhile cannot lead out, since nothing is
ever looked up twice by a path (CVE-2018-1002100, CVE-2019-1002101 and CVE-2019-11246 of kubectl are what becomes of it
otherwise).
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence

_THROUGH = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
"""To pass through a directory one needs to be able to search it, not to list it."""
_CONTENT = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
LISTED = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def directory(path: str | int, parts: Sequence[str] = ()) -> Iterator[int]:
    """Open the directory `path`, and beneath it `parts` without following a link; a descriptor to pass through.

    A directory that is open already may stand in place of its path: then it is that one, whatever has its path now.

    Raises:
        OSError: it is not there, is none, is a link (ENOTDIR), or may not be searched.
    """
    descriptor = os.dup(path) if isinstance(path, int) else os.open(path, _THROUGH)
    try:
        for part in parts:
            inner = os.open(part, _THROUGH | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def open_regular(name: str, within: int, *, follow: bool = False) -> int:
    """Open a regular file of a directory for reading.

    Raises:
        OSError: it is not there, is a link (ELOOP), or may not be read.
        NotRegular: it is a directory, device, pipe or socket.
    """
    descriptor = os.open(name, _CONTENT | (0 if follow else os.O_NOFOLLOW), dir_fd=within)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise NotRegular
    return descriptor


def look(name: str, within: int, *, follow: bool = False) -> os.stat_result | None:
    """Return what is known of a name in a directory, or None if there is nothing.

    Raises:
        OSError: the directory may not be searched.
    """
    try:
        return os.stat(name, dir_fd=within, follow_symlinks=follow)
    except FileNotFoundError:
        return None


def kind_of(mode: int) -> str:
    """Return what a file of this mode is: `file`, `directory`, `link` or `other`."""
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "other"


def sync_directory(descriptor: int) -> None:
    """Have the names of a directory on the disk, where it may be read and its file system can do that."""
    with contextlib.suppress(PermissionError):
        listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
        try:
            os.fsync(listed)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        finally:
            os.close(listed)


class NotRegular(Exception):  # noqa: N818 - an expected refusal
    """A device, pipe or socket: it has no content that could be copied."""

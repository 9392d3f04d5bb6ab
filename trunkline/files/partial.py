"""A file while it arrives: beside its place under a name of its own, and put there by a rename once it is whole.

It has mode 0600 until then. An interrupted transfer leaves it, and the next one goes on with it; but only with one that
belongs to this user, that nobody else could have opened, and that has no second name, since in a directory like /tmp
anybody may have put something there. A lock keeps two transfers to one place apart.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from typing import Self

from trunkline.files import beneath
from trunkline.files.digests import Progress, hash_prefix, no_progress
from trunkline.files.names import partial_name

PERMISSIONS = 0o777
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MODE = 0o600
_ATTEMPTS = 8
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems say that know no locks; there the hash is what keeps two transfers from being mixed."""


class PartialBusy(Exception):  # noqa: N818 - an expected refusal
    """Another transfer to the same place is going on."""


class WrongDigest(Exception):  # noqa: N818 - an expected refusal
    """What has arrived is not what was sent; it has been removed."""


class PartialFile:
    """What has arrived of one file. `size_bytes` of it are there; until `rehash` or `restart` its hash is not known."""

    def __init__(self, directory: int, name: str, descriptor: int) -> None:
        self._directory = directory
        self._name = name
        self._descriptor = descriptor
        self._hasher: hashlib._Hash | None = None
        self._placed = False
        self.size_bytes = os.fstat(descriptor).st_size

    @classmethod
    def open(cls, directory: int, name: str) -> Self:
        """Take up what there is, or begin; `directory` stays the caller's.

        Raises:
            PartialBusy: another transfer holds it.
            IsADirectoryError: the name is a directory's, or a link's to one.
            NotRegular: it is a device, pipe or socket, or a link to one, which a file must not take the place of.
            OSError: no file can be made there.
        """
        _check_replaceable(name, directory)
        for _ in range(_ATTEMPTS):
            descriptor = _open_own(directory, partial_name(name))
            if descriptor is not None:
                return cls(directory, name, descriptor)
        raise PartialBusy

    @property
    def digest(self) -> bytes:
        """The SHA-256 of what is there."""
        return self._known_hash().digest()

    def rehash(self, progress: Progress = no_progress) -> None:
        """Read what there is, so that its hash is known; raises OSError if it cannot be read."""
        self._hasher = hash_prefix(self._descriptor, self.size_bytes, progress)

    def restart(self) -> None:
        """Forget what there was."""
        os.ftruncate(self._descriptor, 0)
        self._hasher = hashlib.sha256()
        self.size_bytes = 0

    def append(self, content: bytes | memoryview) -> None:
        """Add bytes; raises OSError where the disk does not take them."""
        hasher, view = self._known_hash(), memoryview(content)
        while view:
            written = os.pwrite(self._descriptor, view, self.size_bytes)
            hasher.update(view[:written])
            self.size_bytes += written
            view = view[written:]

    def commit(self, digest: bytes, *, mode: int, mtime_ns: int | None = None) -> None:
        """Put the file in its place, whole and on the disk, with these permissions; whatever was there is replaced.

        Args:
            digest: the SHA-256 that the whole has to have.
            mode: its permissions; no set-user-id, set-group-id or sticky bit is ever given.
            mtime_ns: when it was changed last, in nanoseconds since the epoch; now, if not given.

        Raises:
            WrongDigest: it is another; then the partial file is gone, and the place is as it was.
            OSError: it cannot be put there.
        """
        if digest != self.digest:
            self.discard()
            raise WrongDigest
        os.fchmod(self._descriptor, mode & PERMISSIONS)
        if mtime_ns is not None:
            os.utime(self._descriptor, ns=(mtime_ns, mtime_ns))
        os.fsync(self._descriptor)
        partial = partial_name(self._name)
        os.rename(partial, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        self._placed = True
        beneath.sync_directory(self._directory)

    def discard(self) -> None:
        """Remove it; the place itself is as it was."""
        with contextlib.suppress(OSError):
            os.unlink(partial_name(self._name), dir_fd=self._directory)

    def close(self) -> None:
        """Let go of it, and leave it where it is; one that holds nothing is removed."""
        if not self.size_bytes and not self._placed:
            self.discard()
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _known_hash(self) -> "hashlib._Hash":
        if self._hasher is None:
            raise ValueError("read it first: rehash or restart")
        return self._hasher


def mode_of_new(name: str, within: int, source_mode: int, *, keep: bool, umask: int) -> int:
    """Return the permissions that a copy gets: those of the source if they are to be kept, else as with scp.

    That is, those of the file that it replaces, and where there is none, those of the source without the umask's.
    """
    if keep:
        return source_mode & PERMISSIONS
    present = beneath.look(name, within)
    if present is not None and stat.S_ISREG(present.st_mode):
        return present.st_mode & PERMISSIONS
    return source_mode & PERMISSIONS & ~umask


def received_bytes(name: str, within: int) -> int:
    """Return how much an interrupted transfer has left of a file."""
    present = beneath.look(partial_name(name), within)
    return present.st_size if present is not None and _is_ours(present) else 0


def _check_replaceable(name: str, directory: int) -> None:
    """Let regular files pass, and links that lead to one or nowhere."""
    try:
        present = beneath.look(name, directory, follow=True)
    except OSError:
        return  # a link that leads in a circle, or to where this user must not look
    if present is not None and stat.S_ISDIR(present.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if present is not None and not stat.S_ISREG(present.st_mode):
        raise beneath.NotRegular


def _open_own(directory: int, partial: str) -> int | None:
    """Return the partial file, locked; None where something foreign was in its place, which is gone now."""
    try:
        descriptor = os.open(partial, _FLAGS, _MODE, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            raise
        os.unlink(partial, dir_fd=directory)
        return None
    try:
        return _locked(directory, partial, descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _locked(directory: int, partial: str, descriptor: int) -> int | None:
    opened = os.fstat(descriptor)
    if not _is_ours(opened):
        os.unlink(partial, dir_fd=directory)
        os.close(descriptor)
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PartialBusy from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    present = beneath.look(partial, directory)
    if present is None or (present.st_dev, present.st_ino) != (opened.st_dev, opened.st_ino):
        os.close(descriptor)  # the transfer that held it has just put it in its place
        return None
    return descriptor


def _is_ours(status: os.stat_result) -> bool:
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_uid == os.geteuid()
        and status.st_nlink == 1
        and not status.st_mode & 0o077
    )

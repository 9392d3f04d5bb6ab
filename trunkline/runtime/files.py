"""Files that survive a crash: atomic writes, reading that never waits, and a state directory that one process owns."""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

FORMAT_FILE = "format"
LOCK_FILE = "lock"
_MOST_FORMAT_BYTES = 4096
# How the files are named that are renamed once they are complete, here and in `certs.keyfiles`.
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{16}")


class StateDirectoryError(Exception):
    """The state directory cannot be used; the message says why and what to do."""


class NotARegularFileError(OSError):
    """There is something that holds no bytes of ours: a FIFO, which would be waited for, a socket, a device, …"""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EINVAL, "it is not a regular file: remove it", str(path))


def read_regular(path: Path, *, most_bytes: int) -> bytes:
    """Return the content of the file at `path`, or its first `most_bytes`. Links are followed.

    Raises:
        NotARegularFileError: it is none; it was neither waited for nor read.
        OSError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise NotARegularFileError(path) from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotARegularFileError(path)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(most_bytes)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace the file at `path` by `content`, durably: a reader sees the old bytes or the new, never a part.

    The bytes go to a new file beside it, which is flushed to the disk and renamed; then the directory is flushed.

    Raises:
        OSError: the disk is full, the directory is read-only, …; the old file is untouched and nothing is left over.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write_through(temporary, content, mode)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Flush a directory's entries to the disk (a rename or unlink is durable only then)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_through(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # what the umask took away
        file.write(content)
        file.flush()
        os.fsync(descriptor)


class StateDirectory:
    """A daemon's state directory: made with mode 0700, of a known format, locked to one process while it is open."""

    def __init__(self, path: Path, *, format_name: str) -> None:
        self.path = path
        self._format_name = format_name
        self._lock: int | None = None

    def open(self) -> None:
        """Make, check and lock the directory.

        Raises:
            StateDirectoryError: it cannot be written, another process holds it, or another format is in it.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = self._take_lock()
            self._check_format()
            self._remove_unfinished()
        except OSError as error:
            self.close()
            raise StateDirectoryError(f"state directory {self.path}: {_reason(error)}") from None
        except StateDirectoryError:
            self.close()
            raise

    def close(self) -> None:
        """Give the lock up."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take_lock(self) -> int:
        path = self.path / LOCK_FILE
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno in (errno.EISDIR, errno.ELOOP, errno.ENXIO):  # a directory, a link, a socket
                raise NotARegularFileError(path) from None
            raise
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise NotARegularFileError(path)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise StateDirectoryError(f"state directory {self.path}: another process is using it") from None
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _remove_unfinished(self) -> None:
        """Remove what a killed process had begun to write, which may be secret; what it replaced is whole.

        That is files, here and in the directories here, and directories here that are renamed once they are complete.
        """
        for path in list(self.path.iterdir()):
            is_directory = path.is_dir() and not path.is_symlink()
            if _UNFINISHED.fullmatch(path.name):
                shutil.rmtree(path) if is_directory else path.unlink(missing_ok=True)
            elif is_directory:
                with contextlib.suppress(PermissionError):  # a `lost+found`, for one
                    _remove_unfinished_files(path)

    def _check_format(self) -> None:
        file = self.path / FORMAT_FILE
        try:
            found = read_regular(file, most_bytes=_MOST_FORMAT_BYTES).decode("utf-8", "replace").strip()
        except FileNotFoundError:
            write_atomic(file, f"{self._format_name}\n".encode())
            return
        if found != self._format_name:
            raise StateDirectoryError(
                f"state directory {self.path}: its format is {found[:64]!r}, and this program reads "
                f"{self._format_name!r}; use the release that wrote it, or another directory"
            )


def _remove_unfinished_files(directory: Path) -> None:
    for path in directory.iterdir():
        if _UNFINISHED.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return "permission denied; it must belong to the user that runs the daemon"
    if error.errno == errno.EROFS:
        return "the file system is read-only"
    if error.errno == errno.ENOSPC:
        return "no space left on the device"
    if isinstance(error, NotARegularFileError):
        return f"{Path(error.filename).name}: {error.strerror}"
    return error.strerror or type(error).__name__

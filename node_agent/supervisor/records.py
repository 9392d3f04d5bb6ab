"""The files by which a supervisor is known in its command's directory, and how they are written.

Theory of operation. A command is started by at most one supervisor, whatever crashes: whoever makes `claim.json`
first, by link(2), which never replaces, has the word. A supervisor claims the command before it starts anything, and
gives up where another was faster. An agent that finds a command without a claim, and has nothing to start it from,
claims it itself, so that a supervisor that is still coming up starts nothing. Thus *no claim* means *certainly never
started*.

`started.json` and `ending.json` are complete or absent. The room for the ending is taken before the claim, so that a
full disk keeps nobody from recording how the command ended.
"""

import contextlib
import errno
import json
import os
from typing import Any

CLAIM_FILE = "claim.json"
STARTED_FILE = "started.json"
ENDING_FILE = "ending.json"
STDIN_FILE = "stdin"
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors by which the system says that it has no descriptor or memory at present, whatever there is to open."""
ENDING_BYTES = 8192
MAX_DOCUMENT_BYTES = 64 * 1024

# Of each supervisor of its own, since one that comes too late must not be taken for the one that has the word.
CONTROL_SOCKET = "control.{pid}"

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(path: str | os.PathLike[str]) -> int:
    """Return a descriptor of a command's directory: what is done through it follows a directory that is moved.

    Raises:
        OSError: there is no such directory.
    """
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def claim(directory: int, document: dict[str, Any]) -> bool:
    """Claim a command, once for all; return whether it was free.

    Raises:
        OSError: the disk did not take it; nothing is claimed.
    """
    temporary = f".{CLAIM_FILE}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=directory)
    _write(directory, temporary, _encoded(document))
    try:
        os.link(temporary, CLAIM_FILE, src_dir_fd=directory, dst_dir_fd=directory)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary, dir_fd=directory)
    os.fsync(directory)
    return True


def write_document(directory: int, name: str, document: dict[str, Any]) -> None:
    """Write a document that appears as a whole, durably.

    Raises:
        OSError: the disk did not take it.
    """
    temporary = f".{name}.{os.getpid()}"
    _write(directory, temporary, _encoded(document))
    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)


def read_document(directory: int, name: str) -> dict[str, Any] | None:
    """Return a document of a command's directory, or None if there is none that can be read.

    Raises:
        OSError: nothing can be opened at present (`SHORTAGES`), so that nobody knows whether there is one.
    """
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        if error.errno in SHORTAGES:
            raise
        return None
    with open(descriptor, "rb") as file:
        try:
            document = json.loads(file.read(MAX_DOCUMENT_BYTES))
        except (OSError, ValueError):
            return None
    return document if isinstance(document, dict) else None


class EndingFile:
    """The place of the ending, with the disk's promise that it fits."""

    def __init__(self, directory: int) -> None:
        """Take the place.

        Raises:
            OSError: the disk is full.
        """
        self._directory = directory
        self._temporary = f".{ENDING_FILE}.{os.getpid()}"
        self._descriptor = os.open(self._temporary, _NEW_FILE, 0o600, dir_fd=directory)
        try:
            os.posix_fallocate(self._descriptor, 0, ENDING_BYTES)
        except OSError:
            self.give_up()
            raise

    def write(self, document: dict[str, Any]) -> None:
        """Record the ending, durably; it can be called again after an error.

        Raises:
            FileNotFoundError: the directory was deleted.
            OSError: the disk did not take it.
        """
        os.pwrite(self._descriptor, _encoded(document).ljust(ENDING_BYTES), 0)
        os.fsync(self._descriptor)
        os.rename(self._temporary, ENDING_FILE, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        os.fsync(self._directory)

    def give_up(self) -> None:
        """Give the place back."""
        os.close(self._descriptor)
        with contextlib.suppress(OSError):
            os.unlink(self._temporary, dir_fd=self._directory)


def _write(directory: int, name: str, content: bytes) -> None:
    descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=directory)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory)
        raise


def _encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()

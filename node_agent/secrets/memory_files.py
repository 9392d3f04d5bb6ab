"""Secrets as files: a private directory for each command, on a file system that is memory and never a disk.

The directory belongs to the agent, and the command's group can enter it but neither list nor change it (0710); each
file belongs to the command's user alone (0600). So the agent needs nobody's leave to remove them, and there is nothing
in the directory that it did not put there. That the file system is tmpfs or ramfs is asked of the kernel, statfs(2), of
the directory once it is open. Their memory can be swapped (tmpfs) unless swap is off, encrypted, or `noswap` is set.
"""

import contextlib
import ctypes
import hashlib
import os
import secrets
import stat
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from node_agent.commands.accounts import Account
from trunkline.runtime.logs import Logger

TMPFS_MAGIC = 0x01021994
RAMFS_MAGIC = 0x858458F6
STATFS_BYTES = 256
NAME_BYTES = 12


class NoPlaceInMemory(Exception):  # noqa: N818 - a state of the world, not a mistake
    """Secrets cannot be given as files here; the message says why and what to do."""


class MemoryFiles:
    """Makes and removes the private directories; the methods block on the (memory) file system."""

    def __init__(self, candidates: Sequence[Path], log: Logger) -> None:
        self._candidates = tuple(candidates)
        self._log = log
        self._base: Path | None = None
        self._reason = "the agent has not looked for a place yet"

    def open(self, kept: Collection[Path] = ()) -> None:
        """Choose the first candidate that is in memory and ours, and empty it but for the directories in `kept`."""
        for candidate in self._candidates:
            try:
                self._base = _prepared(candidate, kept)
            except (OSError, NoPlaceInMemory) as error:
                self._reason = f"{candidate}: {error.strerror if isinstance(error, OSError) else error}"
                continue
            self._log.info("secrets.directory", path=str(candidate))
            return
        self._log.warning(
            "secrets.no_directory", reason=self._reason, consequence="commands get secrets in the environment only"
        )

    def close(self) -> None:
        """Remove the base directory, if no command's is left in it."""
        if self._base is not None:
            with contextlib.suppress(OSError):
                self._base.rmdir()

    def make(self, files: Mapping[str, bytes], account: Account) -> Path:
        """Write the files into a new private directory, and return it.

        Raises:
            NoPlaceInMemory: there is no place for them, or it is full.
        """
        if self._base is None:
            raise NoPlaceInMemory(
                f"there is no directory in memory for secrets ({self._reason}): set [secrets] directory of the agent"
            )
        directory = self._base / secrets.token_hex(NAME_BYTES)
        try:
            directory.mkdir(mode=0o700)
            for name, content in files.items():
                _write(directory / name, content, account)
            if account.switched:
                os.chown(directory, -1, account.gid)
                directory.chmod(0o710)
        except OSError as error:
            self.remove(directory)
            raise NoPlaceInMemory(f"secrets cannot be written to {self._base}: {error.strerror}") from None
        return directory

    def remove(self, directory: Path) -> None:
        """Remove a command's directory with everything in it."""
        try:
            _clear(directory)
            directory.rmdir()
        except FileNotFoundError:
            pass
        except OSError as error:
            self._log.error("secrets.not_removed", path=str(directory), reason=error.strerror)


def candidates_for(configured: Path | None, state_directory: Path) -> list[Path]:
    """Return where to look: what is configured and nothing else, or the usual places under a name of this agent's."""
    if configured is not None:
        return [configured]
    name = f"trunkline-{hashlib.sha256(os.fsencode(state_directory.absolute())).hexdigest()[:16]}"
    return [Path("/run/trunkline-node-agent") / name, Path("/dev/shm") / name]  # noqa: S108 - checked before use


def is_in_memory(descriptor: int) -> bool:
    """Whether an open file or directory is on tmpfs or ramfs (statfs(2): `f_type` is the first word)."""
    libc = ctypes.CDLL(None, use_errno=True)
    answer = ctypes.create_string_buffer(STATFS_BYTES)
    if libc.fstatfs(ctypes.c_int(descriptor), answer) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    kind = ctypes.c_long.from_buffer(answer).value & 0xFFFFFFFF
    return kind in (TMPFS_MAGIC, RAMFS_MAGIC)


def _prepared(path: Path, kept: Collection[Path]) -> Path:
    """Make the directory if there is none, see that it is ours and in memory, and empty it but for what is kept."""
    _refuse_disk(path)
    if not path.parent.exists():
        path.parent.mkdir()
        path.parent.chmod(0o711)
    path.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            raise NoPlaceInMemory("it belongs to another user")
        if not is_in_memory(descriptor):
            raise NoPlaceInMemory("it is on a disk; secrets are written to tmpfs or ramfs only")
        # Commands of other users pass through it to their own directory, whose name they are told.
        os.fchmod(descriptor, 0o711 if os.geteuid() == 0 else 0o700)
    finally:
        os.close(descriptor)
    for entry in path.iterdir():
        if entry not in kept and entry.is_dir() and not entry.is_symlink():
            _clear(entry)
            entry.rmdir()
    return path


def _refuse_disk(path: Path) -> None:
    """Refuse before anything is made, where the nearest directory that exists is on a disk."""
    nearest = next(parent for parent in (path, *path.parents) if parent.is_dir())
    descriptor = os.open(nearest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not is_in_memory(descriptor):
            raise NoPlaceInMemory("it is on a disk; secrets are written to tmpfs or ramfs only")
    finally:
        os.close(descriptor)


def _clear(directory: Path) -> None:
    for entry in list(directory.iterdir()):
        if stat.S_ISDIR(entry.lstat().st_mode):
            raise OSError(f"{entry} is a directory")
        entry.unlink()


def _write(path: Path, content: bytes, account: Account) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(content)
        if account.switched:
            os.fchown(descriptor, account.uid, account.gid)

"""What `trunkline cp` does with each of its sources: finds where it goes, and has it copied."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trunkline.cli.exits import CommandFailed
from trunkline.cli.local_input import LocalInput
from trunkline.cli.patient_output import patient
from trunkline.cli.remote_output import output_to
from trunkline.client.copy_listener import CopyListener
from trunkline.client.copying import Copied, Copier
from trunkline.client.file_calls import MOST_ENTRIES, FileCalls, RemotePlace
from trunkline.client.persistence import persistently
from trunkline.client.streams import stream_in, stream_out
from trunkline.files import beneath, directories
from trunkline.files.names import NameRefused, check_name, shown
from trunkline.files.partial import PartialBusy
from trunkline.files.trees import TooManyEntries, TreeEntry, walk


@dataclass(frozen=True, slots=True)
class Choices:
    """What was chosen for all sources; `several` says that there is more than one, so they need a directory."""

    recursive: bool
    keep: bool
    several: bool
    umask: int


class Copies:
    """Copies sources, one after the other."""

    def __init__(self, choices: Choices, listener: CopyListener) -> None:
        self._choices = choices
        self._listener = listener
        self.copied = Copied()

    # From a node

    async def fetch(self, calls: FileCalls, path: str, target: str) -> None:
        """Copy a path of a node to here; raises TrunklineError or CommandFailed."""
        place, copier = RemotePlace(path), self._copier(calls)
        entry = await persistently(lambda: calls.entry(place), self._listener)
        name = _last_name(path)
        if entry.kind == "directory":
            self._check_recursive(path)
            with _local_errors(target), _new_root(target, name, several=self._choices.several) as root:
                await copier.download_tree(place, root)
                if self._choices.keep:
                    directories.set_attributes(".", root, entry.mode, entry.mtime_ns)
            return
        with _local_errors(target):
            directory, name = _new_file(target, name, several=self._choices.several)
            with beneath.directory(directory) as within:
                await copier.download_file(place, within, name, entry.size_bytes)

    async def show(self, calls: FileCalls, path: str) -> None:
        """Write a file of a node to our standard output; a terminal is shown control characters."""
        output = output_to(patient(sys.stdout.buffer))

        async def write(content: bytes) -> None:
            output.write(content)
            await output.passed()

        try:
            await stream_out(calls, RemotePlace(path), write, self._listener)
        finally:
            output.close()
        await output.passed()
        self.copied.files += 1

    # To a node

    async def send(self, calls: FileCalls, source: str, path: str) -> None:
        """Copy a path of this machine to a node; raises TrunklineError or CommandFailed."""
        with _local_errors(source):
            status, name = _look(source)
            is_directory = stat.S_ISDIR(status.st_mode)
            if is_directory:
                self._check_recursive(source)
            place = await self._place_there(calls, path, name)
            if is_directory:
                await self._send_tree(calls, source, status, place)
            else:
                descriptor = _open_source(source)
                try:
                    await self._copier(calls).upload_file(descriptor, place)
                finally:
                    os.close(descriptor)

    async def take(self, calls: FileCalls, path: str) -> None:
        """Copy our standard input to a file of a node."""
        if path.endswith("/"):
            raise CommandFailed("standard input has no name: name the file on the node", os.EX_USAGE)
        given = LocalInput(sys.stdin.fileno(), b"", ended=False)
        await stream_in(calls, given.pieces(), RemotePlace(path), self._listener)
        self.copied.files += 1

    async def _send_tree(self, calls: FileCalls, source: str, status: os.stat_result, place: RemotePlace) -> None:
        with beneath.directory(source) as root:
            entries = await asyncio.to_thread(_listed, root)
            await persistently(lambda: calls.make_directory(place), self._listener)
            await self._copier(calls).upload_tree(entries, root, place)
        if self._choices.keep:
            kept = TreeEntry("", "directory", mode=status.st_mode & 0o777, mtime_ns=status.st_mtime_ns)
            await persistently(lambda: calls.make_directory(place, kept), self._listener)

    async def _place_there(self, calls: FileCalls, path: str, name: str | None) -> RemotePlace:
        place = RemotePlace(path)
        there = await persistently(lambda: calls.target(place, name), self._listener)
        if there.into and name is not None:
            return place.inside(name)
        if there.kind != "directory" and (self._choices.several or path.endswith("/")):
            raise CommandFailed(f"{shown(path)} is no directory on the node", os.EX_CANTCREAT)
        return place

    # Both

    def _copier(self, calls: FileCalls) -> Copier:
        return Copier(calls, self._choices.keep, self._choices.umask, self._listener, self.copied)

    def _check_recursive(self, path: str) -> None:
        if not self._choices.recursive:
            raise CommandFailed(f"{shown(path)} is a directory: copy it with --recursive", os.EX_USAGE)


def _last_name(path: str) -> str | None:
    """The name that a copy gets in a directory; None where the path ends in none, as `/` and `..` do."""
    name = path.rstrip("/").rpartition("/")[2]
    try:
        check_name(name)
    except NameRefused:
        return None
    return name


@contextmanager
def _new_root(target: str, name: str | None, *, several: bool) -> Iterator[int]:
    """Make the directory that a tree is copied to, and open it; what has its path afterwards is no matter."""
    if os.path.isdir(target):  # noqa: PTH112
        above = target
    elif several:
        raise CommandFailed(f"{shown(target)} is no directory", os.EX_CANTCREAT)
    else:
        above, _, name = target.rstrip("/").rpartition("/")
        above = above or ("/" if target.startswith("/") else ".")
    with beneath.directory(above) as within:
        if name is not None:
            directories.make_directory(name, within)
        with beneath.directory(within, () if name is None else (name,)) as root:
            yield root


def _new_file(target: str, name: str | None, *, several: bool) -> tuple[str, str]:
    """Return the directory that a file is copied to, and its name there."""
    if os.path.isdir(target):  # noqa: PTH112
        if name is None:
            raise CommandFailed("the path on the node does not end in a name: name the file here", os.EX_USAGE)
        return target, name
    if several or target.endswith("/"):
        raise CommandFailed(f"{shown(target)} is no directory", os.EX_CANTCREAT)
    above, _, last = target.rpartition("/")
    return above or ("/" if target.startswith("/") else "."), last


def _look(source: str) -> tuple[os.stat_result, str | None]:
    """Return what a path of this machine leads to, and the name that it has there; a link keeps its own."""
    return Path(source).stat(), _last_name(os.path.abspath(source))  # noqa: PTH100


def _open_source(source: str) -> int:
    above, _, name = source.rpartition("/")
    with beneath.directory(above or ("/" if source.startswith("/") else ".")) as within:
        return beneath.open_regular(name, within, follow=True)


def _listed(directory: int) -> list[TreeEntry]:
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return list(walk(descriptor, MOST_ENTRIES))
    finally:
        os.close(descriptor)


@contextmanager
def _local_errors(path: str) -> Iterator[None]:
    """Say of what goes wrong on this machine what it is."""
    try:
        yield
    except beneath.NotRegular:
        raise CommandFailed(f"{shown(path)} is neither a file nor a directory", os.EX_DATAERR) from None
    except PartialBusy:
        raise CommandFailed(f"another transfer to {shown(path)} is going on here", os.EX_TEMPFAIL) from None
    except TooManyEntries:
        raise CommandFailed(f"there are more than {MOST_ENTRIES} files in {shown(path)}", os.EX_DATAERR) from None
    except OSError as error:
        status = os.EX_NOINPUT if isinstance(error, FileNotFoundError) else os.EX_IOERR
        raise CommandFailed(f"{shown(path)}: {error.strerror or error}", status) from None

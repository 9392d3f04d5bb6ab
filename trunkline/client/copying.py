"""Files and directories copied between this machine and a node.

Theory of operation. A tree is listed first, without following a link in it. Its directories are made in the order of
the listing, so each is there before what it holds; files follow, some at once. Every name is one that stays where it
is put, and every place is found name by name from the top of the tree, at both ends, so that neither what a node lists
nor what lies on this disk leads out of it. Here the top is opened once for all: who may rename it, as another user may
in a directory of theirs, cannot put anything else in its place. What cannot be copied is left out and told, and the
rest goes on; what concerns all of it (the policy, a full disk, no way to the node) ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from trunkline.client.copy_listener import CopyListener
from trunkline.client.downloads import ContentDiffers, Download
from trunkline.client.errors import ApiError
from trunkline.client.file_calls import FileCalls, PathTooLong, RemotePlace
from trunkline.client.persistence import persistently
from trunkline.client.uploads import Upload
from trunkline.files import beneath, directories, links
from trunkline.files.partial import PartialBusy
from trunkline.files.trees import TreeEntry
from trunkline.runtime.threads import in_thread

AT_ONCE = 4
_ENDS_ALL = frozenset({"POLICY_DENIED", "RESOURCE_EXHAUSTED", "NODE_INITIALISING", "NODE_NOT_READY"})


@dataclass(slots=True)
class Copied:
    """What was copied, and how much was left out."""

    files: int = 0
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Copier:
    """Copies with the same choices; `keep` is permissions and times, `umask` this process's."""

    calls: FileCalls
    keep: bool
    umask: int
    listener: CopyListener
    copied: Copied = field(default_factory=Copied)

    # One file

    async def download_file(self, place: RemotePlace, within: int, name: str, size_bytes: int) -> None:
        """Copy a file of the node to a directory of this machine; raises as `Download.run`."""
        shown = place.below or place.path
        self.listener.begun(shown, size_bytes)
        await Download(self.calls, place, within, name, self.keep, self.umask, self.listener).run()
        self.copied.files += 1
        self.listener.ended(shown)

    async def upload_file(self, source: int, place: RemotePlace) -> None:
        """Copy an open file of this machine to the node; raises as `Upload.run`."""
        shown = place.below or place.path
        self.listener.begun(shown, os.fstat(source).st_size)
        await Upload(self.calls, source, place, self.keep, self.listener).run()
        self.copied.files += 1
        self.listener.ended(shown)

    # Trees

    async def download_tree(self, place: RemotePlace, root: int) -> None:
        """Copy what is beneath a directory of the node to beneath one that is open here.

        Raises:
            TrunklineError, OSError: what ends all of it.
        """
        entries = await persistently(lambda: self.calls.tree(place), self.listener)

        async def file(entry: TreeEntry) -> None:
            with beneath.directory(root, _parts(entry)[:-1]) as within:
                await self.download_file(place.inside(entry.path), within, _parts(entry)[-1], entry.size_bytes)

        async def directory(entry: TreeEntry) -> None:
            with beneath.directory(root, _parts(entry)[:-1]) as within:
                await in_thread(directories.make_directory, _parts(entry)[-1], within)

        async def link(entry: TreeEntry) -> None:
            with beneath.directory(root, _parts(entry)[:-1]) as within:
                await in_thread(links.make_link, _parts(entry)[-1], within, entry.target)

        await self._copy(entries, _Ways(file, directory, link))
        for entry in self._kept_directories(entries):
            with self._leaving_out(entry), beneath.directory(root, _parts(entry)[:-1]) as within:
                await in_thread(directories.set_attributes, _parts(entry)[-1], within, entry.mode, entry.mtime_ns)

    async def upload_tree(self, entries: Sequence[TreeEntry], root: int, place: RemotePlace) -> None:
        """Copy what was listed beneath an open directory of this machine to beneath one of the node.

        Raises:
            TrunklineError, OSError: what ends all of it.
        """

        async def file(entry: TreeEntry) -> None:
            *above, name = _parts(entry)
            with beneath.directory(root, above) as within:
                source = beneath.open_regular(name, within)
            try:
                await self.upload_file(source, place.inside(entry.path))
            finally:
                os.close(source)

        async def directory(entry: TreeEntry) -> None:
            await persistently(lambda: self.calls.make_directory(place.inside(entry.path)), self.listener)

        async def link(entry: TreeEntry) -> None:
            await persistently(lambda: self.calls.make_link(place.inside(entry.path), entry.target), self.listener)

        await self._copy(entries, _Ways(file, directory, link))
        for entry in self._kept_directories(entries):
            with self._leaving_out(entry):
                there = place.inside(entry.path)
                await persistently(lambda: self.calls.make_directory(there, entry), self.listener)  # noqa: B023

    async def _copy(self, entries: Sequence[TreeEntry], ways: _Ways) -> None:
        room = asyncio.Semaphore(AT_ONCE)
        async with _all_or_first_error() as group:
            for entry in entries:
                if entry.problem:
                    self._leave_out(entry, entry.problem)
                elif entry.kind == "directory":
                    with self._leaving_out(entry):
                        await ways.directory(entry)
                elif entry.kind == "file":
                    await room.acquire()
                    group.create_task(self._file(entry, ways, room))
                elif entry.kind == "link":
                    await self._link(entry, ways)
                else:
                    self._leave_out(entry, "it is neither a file nor a directory")

    async def _file(self, entry: TreeEntry, ways: _Ways, room: asyncio.Semaphore) -> None:
        try:
            with self._leaving_out(entry):
                await ways.file(entry)
        finally:
            room.release()

    async def _link(self, entry: TreeEntry, ways: _Ways) -> None:
        if not links.stays_inside(entry.path.count("/"), entry.target):
            self._leave_out(entry, "the link leads out of the directory")
            return
        with self._leaving_out(entry):
            await ways.link(entry)

    def _kept_directories(self, entries: Sequence[TreeEntry]) -> Iterator[TreeEntry]:
        """Directories from the innermost on, if they are to get what their originals have."""
        if self.keep:
            yield from (entry for entry in reversed(entries) if entry.kind == "directory" and not entry.problem)

    @contextlib.contextmanager
    def _leaving_out(self, entry: TreeEntry) -> Iterator[None]:
        try:
            yield
        except (PathTooLong, PartialBusy, beneath.NotRegular, ContentDiffers) as error:
            self._leave_out(entry, str(error) or "it cannot be copied")
        except ApiError as error:
            if error.error_code in _ENDS_ALL or error.status >= 500 or error.status in (401, 429):
                raise
            self._leave_out(entry, error.message)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._leave_out(entry, error.strerror or str(error))

    def _leave_out(self, entry: TreeEntry, reason: str) -> None:
        self.copied.left_out += 1
        self.listener.left_out(entry.path, reason)


_Way = Callable[[TreeEntry], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Ways:
    """How one entry of each kind is copied."""

    file: _Way
    directory: _Way
    link: _Way


def _parts(entry: TreeEntry) -> list[str]:
    return entry.path.split("/")


@contextlib.asynccontextmanager
async def _all_or_first_error() -> AsyncIterator[asyncio.TaskGroup]:
    """A group of tasks whose first error is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    found = errors.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found

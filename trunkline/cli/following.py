"""Following commands to their ends: both outputs of each, its state, and cancellation from here."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from trunkline.cli.delivery_notes import DeliveryNotes
from trunkline.cli.ending_signals import ending_signals
from trunkline.cli.output_copier import OutputCopier, by_node, together
from trunkline.cli.remote_output import OutputFor
from trunkline.client.commands import CommandApi
from trunkline.client.errors import TrunklineError
from trunkline.client.records.commands import Command

T = TypeVar("T")

CANCEL_SECONDS = 15.0


class Interruption:
    """Whether the user asked for the end: the first SIGINT or SIGTERM cancels remotely, the second ends at once.

    With `by_hang_up` the end of the terminal, SIGHUP, asks for it too. Otherwise it ends only us.
    """

    def __init__(self, *, by_hang_up: bool = False) -> None:
        self._by_hang_up = by_hang_up
        self.requested = asyncio.Event()
        self.insisted = asyncio.Event()
        self.signal_number = 0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Take the signals inside the block."""
        loop = asyncio.get_running_loop()
        numbers = ending_signals() if self._by_hang_up else (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self.interrupt, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def interrupt(self, number: int) -> None:
        """Take one signal."""
        if self.requested.is_set():
            self.insisted.set()
        self.signal_number = number
        self.requested.set()

    @property
    def status(self) -> int:
        """The exit status of an interrupted command: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + self.signal_number


async def unless_insisted(work: Coroutine[Any, Any, T], interruption: Interruption) -> T | None:
    """The result of `work`, or `None` if the user asks for the end twice before it is there."""
    return await _unless(interruption.insisted, work)


async def unless_interrupted(work: Coroutine[Any, Any, T], interruption: Interruption) -> T | None:
    """The result of `work`, or `None` if the user asks for the end before it is there."""
    return await _unless(interruption.requested, work)


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    working = asyncio.create_task(work)
    happening = asyncio.create_task(event.wait())
    try:
        await asyncio.wait([working, happening], return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        working.cancel()
        happening.cancel()
        await asyncio.gather(working, happening, return_exceptions=True)


async def follow_all(
    api: CommandApi, commands: Sequence[Command], outputs: OutputFor, interruption: Interruption, notes: DeliveryNotes
) -> list[Command]:
    """Stream all outputs until every command has ended; an interruption cancels them all remotely.

    Why a delivery waits is told to `notes`.

    Raises:
        OSError: whoever read our output has gone, or it cannot be written; the commands were asked to end.
        TrunklineError: the control plane cannot say how a command ended.
    """
    following = _follow(api, commands, outputs, notes)
    ended = await until_interrupted(following, lambda: _cancel_all(api, commands), interruption)
    return list(commands) if ended is None else ended


async def until_interrupted(
    following: Coroutine[Any, Any, T], cancel: Callable[[], Awaitable[object]], interruption: Interruption
) -> T | None:
    """The result of `following`; an interruption cancels remotely, and does not wait for it for ever: then None.

    Raises:
        OSError: whoever read our output has gone, or it cannot be written; it was cancelled remotely.
        TrunklineError: as `following`.
    """
    working = asyncio.create_task(following)
    requested = asyncio.create_task(interruption.requested.wait())
    try:
        await asyncio.wait([working, requested], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await cancel()
            await _wait_for_end(working, interruption)
        return await working if working.done() else None
    except OSError:
        await cancel()
        raise
    finally:
        working.cancel()
        requested.cancel()
        await asyncio.gather(working, requested, return_exceptions=True)


async def _follow(
    api: CommandApi, commands: Sequence[Command], outputs: OutputFor, notes: DeliveryNotes
) -> list[Command]:
    return await together([_Follower(api, command, outputs, notes).run() for command in commands])


async def _cancel_all(api: CommandApi, commands: Sequence[Command]) -> None:
    """Ask for the end of every command; what cannot be asked now is the control plane's to sort out."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CANCEL_SECONDS):
            await asyncio.gather(*(api.cancel(command.command_id) for command in commands), return_exceptions=True)


async def _wait_for_end(following: asyncio.Task[T], interruption: Interruption) -> None:
    insisted = asyncio.create_task(interruption.insisted.wait())
    try:
        await asyncio.wait([following, insisted], timeout=CANCEL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        insisted.cancel()


class _Follower:
    """One command: its two outputs and its end."""

    def __init__(self, api: CommandApi, command: Command, outputs: OutputFor, notes: DeliveryNotes) -> None:
        self._api = api
        self._command = command
        self._notes = notes
        self._copier = OutputCopier(api, command, by_node(outputs))

    async def run(self) -> Command:
        """Stream until the command has ended and its outputs have.

        The outputs end with the command, so their end is when its state is asked for; that it has ended without them,
        because its node is gone, is found by asking now and then. What cannot be had of an output is told.
        """
        copying = asyncio.create_task(self._copier.copy())
        ending = asyncio.create_task(self._end())
        try:
            await asyncio.wait([copying, ending], return_when=asyncio.FIRST_COMPLETED)
            ended = ending.result() if ending.done() else None
            await asyncio.wait([copying])
            problem = _problem(copying)
            ended = ended or await self._end()
            if problem is not None:
                self._notes.output_failed(ended, problem)
            return ended
        finally:
            copying.cancel()
            ending.cancel()
            await asyncio.gather(copying, ending, return_exceptions=True)

    async def _end(self) -> Command:
        """Wait for the command's end."""
        last = self._command
        async for last in self._api.watch(self._command.command_id):
            self._notes.note(last)
        self._copier.ended = True
        return last


def _problem(copying: asyncio.Task[None]) -> TrunklineError | None:
    """Why an output is not whole; whatever else went wrong is raised."""
    error = copying.exception()
    if error is None or isinstance(error, TrunklineError):
        return error
    raise error

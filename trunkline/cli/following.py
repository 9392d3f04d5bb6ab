"""Following commands to their ends: both outputs of each, its state, and cancellation from here."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator, Sequence

from trunkline.cli.remote_output import Output, OutputFor
from trunkline.client.commands import CommandApi, OutputStream
from trunkline.client.errors import ApiError, TrunklineError
from trunkline.client.records import Command

CANCEL_SECONDS = 15.0
SILENCE_SECONDS = 10.0
_NOT_YET_SECONDS = 0.2
_CHECK_SECONDS = 0.5
_NOT_YET = frozenset({404, 409})


class Interruption:
    """Whether the user asked for the end: the first SIGINT or SIGTERM cancels remotely, the second ends at once."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.insisted = asyncio.Event()
        self.signal_number = 0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Take the signals inside the block."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
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
        """The exit status of an interrupted command: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal_number


async def follow_all(
    api: CommandApi, commands: Sequence[Command], outputs: OutputFor, interruption: Interruption
) -> list[Command]:
    """Stream all outputs until every command has ended; an interruption cancels them all remotely.

    Raises:
        BrokenPipeError: whoever read our output has gone; the commands were asked to end.
        TrunklineError: the control plane cannot say how a command ended.
    """
    following = asyncio.ensure_future(asyncio.gather(*(_Follower(api, command, outputs).run() for command in commands)))
    requested = asyncio.ensure_future(interruption.requested.wait())
    try:
        await asyncio.wait({following, requested}, return_when=asyncio.FIRST_COMPLETED)
        if not following.done():
            await _cancel_all(api, commands)
            await _wait_for_end(following, interruption)
        return await following if following.done() else list(commands)
    except BrokenPipeError:
        await _cancel_all(api, commands)
        raise
    finally:
        for task in (following, requested):
            task.cancel()
        await asyncio.gather(following, requested, return_exceptions=True)


async def _cancel_all(api: CommandApi, commands: Sequence[Command]) -> None:
    """Ask for the end of every command; what cannot be asked now is the control plane's to sort out."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CANCEL_SECONDS):
            await asyncio.gather(*(api.cancel(command.command_id) for command in commands), return_exceptions=True)


async def _wait_for_end(following: asyncio.Future[list[Command]], interruption: Interruption) -> None:
    insisted = asyncio.ensure_future(interruption.insisted.wait())
    try:
        await asyncio.wait({following, insisted}, timeout=CANCEL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        insisted.cancel()


class _Follower:
    """One command: its two outputs and its end."""

    def __init__(self, api: CommandApi, command: Command, outputs: OutputFor) -> None:
        self._api = api
        self._command = command
        self._outputs = outputs
        self._pieces = 0

    async def run(self) -> Command:
        """Stream until the command has ended and its outputs have."""
        copying = asyncio.gather(self._copy("stdout"), self._copy("stderr"))
        ending = asyncio.ensure_future(self._api.wait(self._command.command_id))
        try:
            await asyncio.wait({copying, ending}, return_when=asyncio.FIRST_EXCEPTION)
            await self._finish_copying(copying, ending)
            return await ending
        finally:
            copying.cancel()
            ending.cancel()
            await asyncio.gather(copying, ending, return_exceptions=True)

    async def _finish_copying(self, copying: asyncio.Future[list[None]], ending: asyncio.Future[Command]) -> None:
        """Wait for the outputs as long as they come, once the command has ended."""
        await asyncio.wait({ending})
        while not copying.done():
            before = self._pieces
            await asyncio.wait({copying}, timeout=SILENCE_SECONDS)
            if self._pieces == before:
                return
        with contextlib.suppress(TrunklineError):  # the state says more about a node that is gone
            copying.result()

    async def _copy(self, stream: OutputStream) -> None:
        output = self._outputs(self._command.node or self._command.node_id, stream)
        try:
            await self._copy_into(output, stream)
        finally:
            output.close()

    async def _copy_into(self, output: Output, stream: OutputStream) -> None:
        while True:
            try:
                async for piece in self._api.output(self._command.command_id, stream, follow=True):
                    self._pieces += 1
                    output.write(piece)
            except ApiError as error:
                if error.status not in _NOT_YET or self._pieces:
                    raise
                await asyncio.sleep(_NOT_YET_SECONDS)  # the node has not heard of the command yet
            else:
                return

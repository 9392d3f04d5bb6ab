"""Copying both outputs of one command to where they go, however long they take and whatever breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from trunkline.cli.remote_output import Output, OutputFor
from trunkline.client.command_output import OutputStream
from trunkline.client.commands import CommandApi
from trunkline.client.errors import ApiError, TrunklineError
from trunkline.client.records.commands import Command

T = TypeVar("T")
CommandOutputs = Callable[[Command, OutputStream, int], Output]
"""Gives where a command's stream goes, of which the first byte will be that at the offset."""

_NOT_YET_SECONDS = 0.2
_NOT_YET = frozenset({404, 409})


class OutputCopier:
    """The outputs of one command.

    Attributes:
        ended: set from outside once the command has ended: then a node that is away is not waited for any more.
    """

    def __init__(self, api: CommandApi, command: Command, outputs: CommandOutputs) -> None:
        self._api = api
        self._command = command
        self._outputs = outputs
        self.ended = False

    async def copy(self, *, stdout_offset: int = 0, stderr_offset: int = 0) -> None:
        """Copy both to their ends, from these bytes on.

        Raises:
            TrunklineError: what was copied is not whole.
        """
        await together([self._copy("stdout", stdout_offset), self._copy("stderr", stderr_offset)])

    async def _copy(self, stream: OutputStream, offset: int) -> None:
        output = self._outputs(self._command, stream, offset)
        try:
            await self._copy_into(output, stream, offset)
        finally:
            output.close()
        await output.passed()

    async def _copy_into(self, output: Output, stream: OutputStream, offset: int) -> None:
        """Copy an output to its end; as long as the command has not ended, a node that is away is waited for."""
        while True:
            ended = self.ended
            try:
                async for piece in self._api.output(self._command.command_id, stream, offset=offset, follow=True):
                    offset += len(piece)
                    output.write(piece)
                    await output.passed()
            except TrunklineError as error:
                if ended or not (error.retry or _not_yet(error, offset)):
                    raise
                await asyncio.sleep(_NOT_YET_SECONDS)
            else:
                return


async def together(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all; the first error ends the others and is raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def by_node(outputs: OutputFor) -> CommandOutputs:
    """Outputs that are told apart by their nodes."""
    return lambda command, stream, _: outputs(command.node or command.node_id, stream)


def _not_yet(error: TrunklineError, offset: int) -> bool:
    """Whether the node has not heard of the command yet."""
    return isinstance(error, ApiError) and error.status in _NOT_YET and offset == 0

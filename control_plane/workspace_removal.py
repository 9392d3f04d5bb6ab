"""Removing what is left of deleted workspaces, a bounded piece in each transaction.

A workspace ends in one short transaction, and nothing of it is found from then on (`storage.workspaces.end`). In it may
be a history of a million commands: whoever has to write waits for one piece of that, not for all of it. What is left is
found in the database, so one that was killed in between goes on at its next start.
"""

import asyncio

from control_plane.forgetting_pieces import forget_all
from control_plane.outputs.files import OutputFiles
from control_plane.storage.beginning import begun
from control_plane.storage.database import Database
from control_plane.storage.forgetting import forget_deleted
from trunkline.runtime.logs import Logger


class WorkspaceRemoval:
    """Removes deleted workspaces, from the start on, and then whenever it is asked to look."""

    def __init__(self, *, database: Database, outputs: OutputFiles, log: Logger) -> None:
        self._database = database
        self._outputs = outputs
        self._log = log
        self._asked = asyncio.Event()

    async def run(self) -> None:
        """Remove what there is to remove, for ever; where the database is away, later."""
        while True:
            self._asked.clear()
            await begun(self.finish, self._log, "workspace.not_removed")
            await self._asked.wait()

    def look_again(self) -> None:
        """Look now: a workspace was deleted."""
        self._asked.set()

    async def finish(self) -> None:
        """Remove everything that is left of deleted workspaces, piece by piece.

        Raises:
            StorageError: not everything is removed; asked again, it goes on.
        """
        await forget_all(self._database, self._outputs, forget_deleted)

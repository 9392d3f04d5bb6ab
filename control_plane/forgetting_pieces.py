"""Forgetting in pieces: a bounded transaction after the other, between which others write."""

from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.outputs.files import OutputFiles
from control_plane.storage.database import Database
from control_plane.storage.forgetting import Forgotten
from trunkline.runtime.threads import in_thread


async def forget_all(
    database: Database, outputs: OutputFiles, forget: Callable[[AsyncSession], Awaitable[Forgotten]]
) -> None:
    """Forget until nothing is left, each time what one call of `forget` takes, and the files of its outputs after it.

    Raises:
        StorageError: not everything is forgotten; asked again, it goes on.
    """
    more = True
    while more:
        async with database.write() as session:
            forgotten = await forget(session)
        await in_thread(outputs.remove, forgotten.outputs)
        more = forgotten.more

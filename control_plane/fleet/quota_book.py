"""The quotas of all workspaces as relays are told them: one JSON text, which every feed sends when it has changed."""

import json

from control_plane.storage import workspaces
from control_plane.storage.database import Database


class QuotaBook:
    """Holds the text; `refresh` after every change."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.text = "{}"

    async def refresh(self) -> None:
        """Read what is set."""
        async with self._database.read() as session:
            stated = {one.workspace_id: one.quotas for one in await workspaces.bounded(session)}
        self.text = json.dumps(stated, sort_keys=True, separators=(",", ":"))

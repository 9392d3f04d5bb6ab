"""What the first process of a container inherits: processes whose parents have ended, and which it has to wait for.

Whatever the agent starts is waited for by who has started it, moments after its end. So a child that is dead at two
looks in a row is nobody's, and stays in the table of processes unless it is waited for here.
"""

import asyncio
import contextlib
import os

from node_agent.supervisor.tree import descendants, start_ticks, state_and_parent

LOOK_SECONDS = 30.0


class Orphans:
    """Waits for dead children that nobody else waits for."""

    def __init__(self) -> None:
        self._dead: set[tuple[int, int | None]] = set()

    async def run(self) -> None:
        """Look for ever, as the first process; any other inherits nothing, and this returns at once."""
        while os.getpid() == 1:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> int:
        """Wait for those that were dead at the look before as well; returns how many those are."""
        ours = "Z", os.getpid()
        dead = {(pid, start_ticks(pid)) for pid in descendants(os.getpid()) if state_and_parent(pid) == ours}
        left = dead & self._dead
        for pid, _ in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._dead = dead - left
        return len(left)

"""Readiness after a restart: the relay waits a while for the nodes that had links here before it ended.

A load balancer that sends calls to a relay whose nodes are still on their way gets 502 for them. So how many nodes
there were is kept in a file, and the condition `nodes` is met once nearly as many are back, or when the wait is over:
nodes that are gone for good must not keep a relay from its work. A relay that never had nodes is ready at once.

From the same number comes what each listener is told beforehand: over how long all of them are to spread their return,
should this relay go, so that they come no faster than it sets up TLS.
"""

import asyncio
from collections.abc import Awaitable
from pathlib import Path

from trunkline.channel.upgrade import LONGEST_RETURN_SECONDS
from trunkline.runtime.files import read_regular, write_atomic
from trunkline.runtime.lifecycle import Condition
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread

NODES_FILE = "nodes"
MISSING_SHARE = 0.02
"""Of the nodes that there were, how many need not be back; of fewer than fifty, none."""
REMEMBER_SECONDS = 30.0
MAX_DIGITS = 9
RETURN_SLACK = 1.25
"""By how much longer the return is spread than it takes, so that chance does not fill the line."""


class NodesReturn:
    """Keeps the number of nodes, and the condition."""

    def __init__(self, state_directory: Path, condition: Condition, log: Logger, *, per_second: float) -> None:
        """Read how many there were; `per_second` is how many links the relay sets up in a second of a storm."""
        self._path = state_directory / NODES_FILE
        self._condition = condition
        self._log = log
        self._per_second = per_second
        self._kept = self._read()
        self._wanted = self._kept - int(self._kept * MISSING_SHARE)
        self._nodes = 0
        self._enough = asyncio.Event()
        self._closed = False
        self._writing = asyncio.Lock()
        self.counted(0)

    def counted(self, nodes: int) -> None:
        """Hear how many nodes have a link now."""
        if self._closed:
            return
        self._nodes = nodes
        if nodes >= self._wanted:
            self._enough.set()

    @property
    def return_within_seconds(self) -> int:
        """Over how long the nodes are to spread their return; 0 where there are so few that it does not matter."""
        seconds = round(max(self._kept, self._nodes) / self._per_second * RETURN_SLACK)
        return min(seconds, LONGEST_RETURN_SECONDS)

    async def run(self, return_seconds: float) -> None:
        """Wait for the nodes for at most so long, and for as long as they were told to take; then keep their number.

        Never returns; it is cancelled.
        """
        try:
            async with asyncio.timeout(return_seconds + self.return_within_seconds):
                self._condition.unmet(f"waiting for the {self._wanted} nodes that had links here")
                await self._enough.wait()
        except TimeoutError:
            self._log.warning("relay.nodes_missing", back=self._nodes, before=self._kept)
        self._condition.met()
        while True:
            await asyncio.sleep(REMEMBER_SECONDS)
            await self._remember()

    def close(self) -> Awaitable[None]:
        """Keep the number of now: those that leave from here on do because the relay ends.

        It stands from the moment of the call, and is on the disk once that was awaited.
        """
        self._closed = True
        return self._remember()

    async def _remember(self) -> None:
        """Bring the number to the disk, where it has changed."""
        async with self._writing:
            nodes = self._nodes
            if nodes == self._kept:
                return
            try:
                await in_thread(write_atomic, self._path, f"{nodes}\n".encode())
            except OSError as error:
                self._log.warning("relay.nodes_not_kept", reason=error.strerror)
            else:
                self._kept = nodes

    def _read(self) -> int:
        """Return the number that was kept; 0 if there is none that can be read."""
        try:
            text = read_regular(self._path, most_bytes=2 * MAX_DIGITS).decode("ascii").strip()
        except (OSError, ValueError):
            return 0
        return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else 0

"""The file workers of the node: one for each transfer, kept for a moment for the next of the same user."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator

from node_agent.commands.accounts import Account
from node_agent.files.worker_process import WorkerProcess

IDLE_SECONDS = 10.0
STOP_SECONDS = 5.0
MOST_IDLE = 8


class Workers:
    """Lends workers out; everything is called on the event loop."""

    def __init__(self, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._idle: defaultdict[Account, list[WorkerProcess]] = defaultdict(list)
        self._ending: set[asyncio.Task[None]] = set()
        self._stopped = False

    @contextlib.asynccontextmanager
    async def lent(self, account: Account) -> AsyncIterator[WorkerProcess]:
        """Lend a worker that is this user for the time of the block; if that is left by an error, the worker ends.

        Raises:
            WorkerGone: none can be started.
        """
        waiting = self._idle[account]
        worker = waiting.pop() if waiting else await WorkerProcess.start(account)
        try:
            yield worker
        except BaseException:
            self._end(worker)
            raise
        self._keep(account, worker)

    async def stop(self) -> None:
        """End all of them; those that cannot be killed yet are not waited for."""
        self._stopped = True
        for workers in self._idle.values():
            for worker in workers:
                self._end(worker)
        self._idle.clear()
        if self._ending:
            await asyncio.wait(self._ending, timeout=STOP_SECONDS)

    def _keep(self, account: Account, worker: WorkerProcess) -> None:
        if self._stopped or sum(map(len, self._idle.values())) >= MOST_IDLE:
            self._end(worker)
            return
        self._idle[account].append(worker)
        asyncio.get_running_loop().call_later(self._idle_seconds, self._end_idle, account, worker)

    def _end_idle(self, account: Account, worker: WorkerProcess) -> None:
        """End one that nobody uses at this moment."""
        if worker in self._idle[account]:
            self._idle[account].remove(worker)
            self._end(worker)

    def _end(self, worker: WorkerProcess) -> None:
        ending = asyncio.create_task(worker.end())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

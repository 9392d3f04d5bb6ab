"""The runs of this node's commands: so many at a time, the others in a queue, all of them left or ended together."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from node_agent.commands.command import Command
from node_agent.commands.meter import CommandMeter
from node_agent.commands.records import CommandStore
from node_agent.commands.run import CommandRun
from node_agent.commands.secret_source import SecretSource
from node_agent.commands.start_plan import StartPlan
from node_agent.commands.supervisor_process import SupervisorProcess
from node_agent.policy import CommandRules
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger


class CommandRuns:
    """Runs commands as slots become free. All methods belong to the event loop's thread."""

    def __init__(
        self,
        store: CommandStore,
        secrets: SecretSource,
        rules: Callable[[], CommandRules],
        meter: CommandMeter,
        clock: Clock,
        log: Logger,
        *,
        grace_seconds: float,
    ) -> None:
        self._store = store
        self._secrets = secrets
        self._rules = rules
        self._meter = meter
        self._clock = clock
        self._log = log
        self._grace_seconds = grace_seconds
        # What their start needs is on the disk: it may be megabytes each.
        self._waiting: deque[Command] = deque()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._runs: dict[str, CommandRun] = {}
        self._reserved: set[str] = set()
        self._stopping = False

    @property
    def running(self) -> int:
        """How many commands run."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many commands are in the queue."""
        return len(self._waiting)

    def reserve(self, command: Command) -> bool:
        """Keep a free slot for a command that will be started in a moment; return whether there was one."""
        if self._stopping or self._waiting or not self._free():
            return False
        self._reserved.add(command.command_id)
        return True

    def give_back(self, command: Command) -> None:
        """Free the slot that was kept for a command, which will not be started."""
        self._reserved.discard(command.command_id)
        self.start_next()

    def add(self, command: Command, plan: StartPlan | None) -> None:
        """Start a command in the slot that is kept for it, or when it is its turn, by the plan that the store has."""
        if command.command_id in self._reserved:
            self._reserved.discard(command.command_id)
            self._start(command, plan)
        else:
            self._waiting.append(command)
            self.start_next()

    def adopt(self, command: Command, supervisor: SupervisorProcess) -> None:
        """Follow a command that runs already."""
        run = self._new_run(command)
        self._running[command.command_id] = asyncio.create_task(self._watched(command, run.adopt(supervisor)))

    def withdraw(self, command: Command) -> bool:
        """Take a command out of the queue; return whether it was in it."""
        if command not in self._waiting:
            return False
        self._waiting.remove(command)
        return True

    def stdin_grown(self, command: Command) -> None:
        """Tell a command that runs that there is more of its standard input, or that it is complete."""
        run = self._runs.get(command.command_id)
        if run is not None:
            run.stdin_grown()

    def start_next(self) -> None:
        """Start what waits, as far as there are free slots."""
        while self._waiting and self._free() and not self._stopping:
            self._start(self._waiting.popleft(), None)

    async def leave(self) -> None:
        """Leave all commands to the next agent: those that run go on, and the others' plans are on the disk."""
        self._stopping = True
        for run in self._runs.values():
            run.leave()
        if self._running:
            await asyncio.wait(self._running.values())

    async def end(self) -> None:
        """End what runs, and wait for that; what waits is left to the next agent."""
        self._stopping = True
        for run in self._runs.values():
            run.end()
        if self._running:
            await asyncio.wait(self._running.values())

    def kill(self) -> None:
        """Cut the grace of what is being ended: there is no more time."""
        for run in self._runs.values():
            run.kill()

    def _free(self) -> bool:
        return len(self._running) + len(self._reserved) < self._rules().max_concurrent

    def _start(self, command: Command, plan: StartPlan | None) -> None:
        run = self._new_run(command)
        self._running[command.command_id] = asyncio.create_task(self._watched(command, run.start(plan)))

    def _new_run(self, command: Command) -> CommandRun:
        run = CommandRun(
            command,
            self._store,
            self._secrets,
            self._clock,
            self._log,
            max_output_bytes=self._rules().max_output_bytes,
            grace_seconds=self._grace_seconds,
        )
        self._runs[command.command_id] = run
        return run

    async def _watched(self, command: Command, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            del self._running[command.command_id], self._runs[command.command_id]
            if command.state.terminal:
                self._meter.ended(command.state)
            self.start_next()

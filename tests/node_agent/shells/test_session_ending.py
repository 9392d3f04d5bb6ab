"""How a session ends: what its caller is told, in whatever order the ends of the program become known."""

import asyncio
from typing import cast

from node_agent.commands.accounts import find_account
from node_agent.rules.limits import Limits
from node_agent.shells.causes import EndCause
from node_agent.shells.opening import Opening
from node_agent.shells.program import Program
from node_agent.shells.request import ShellRequest, plan_of
from node_agent.shells.session import SessionBounds, ShellSession
from trunkline.channel.shell_flow import ShellEnding, ShellFlow, ShellRole
from trunkline.channel.shell_frames import ShellEndingKind

OPENING = Opening("sh-1", "alice", "token-1", "0" * 64, "root", terminal=False, time=0.0)
BOUNDS = SessionBounds(away_seconds=60, idle_seconds=60, longest_seconds=60)


class Caller:
    """The stream of a caller, and what it is told; the owner of the session as well."""

    def __init__(self) -> None:
        self._flow = ShellFlow(ShellRole.CALLER)
        self._flow.connected()
        self.endings: list[ShellEnding] = []

    def hello(self) -> bytes:
        return self._flow.data_to_send()

    def write(self, data: bytes) -> None:
        self.endings += [event for event in self._flow.receive_data(data) if isinstance(event, ShellEnding)]

    def finish(self) -> None: ...

    def abort(self) -> None: ...

    def session_ended(self, session: ShellSession, cause: EndCause) -> None: ...

    def session_over(self, session: ShellSession) -> None: ...


async def test_outputs_that_end_just_before_the_status_is_heard_of_do_not_hide_it(until):
    account = await asyncio.to_thread(find_account, None)
    asked = ShellRequest(argv=["sh", "-c", "exit 3"], terminal=False)
    program = await Program.start(account, plan_of(asked, account, "/bin/sh", "one", Limits()), 24, 80)
    real, known = program.status, asyncio.get_running_loop().create_future()
    program.status = cast(asyncio.Task[int | None], known)
    caller = Caller()
    session = ShellSession(OPENING, program, BOUNDS, caller, asyncio.get_running_loop())
    session.attach(caller)
    session.received(caller, caller.hello())
    await until(lambda: all(output.ended for output in session._outputs))
    known.set_result(await real)
    session._put_out(False, b"")  # as a turn of the loop does that has heard of the outputs' end, and not yet of this
    await until(lambda: bool(caller.endings))
    assert caller.endings == [ShellEnding(ShellEndingKind.EXITED, 3)]
    session.cut()

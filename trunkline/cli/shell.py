"""`trunkline shell`: a terminal on a node, or a program between pipes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial

import click

from trunkline.channel.shell_frames import ShellEndingKind
from trunkline.cli.ending_signals import ending_signals
from trunkline.cli.examples import examples
from trunkline.cli.exits import INTERRUPTED, printable
from trunkline.cli.local_side import LocalSide
from trunkline.cli.session import Invocation, Session, connected_stream
from trunkline.cli.terminal import raw_terminal, terminal_size
from trunkline.client.node import Node
from trunkline.client.shells import RemoteShell, ShellListener, ShellRequest


@click.command("shell", epilog=examples("shell vm-1", "shell vm-1 --user app -- top"))
@click.argument("node", metavar="NODE")
@click.option("--user", metavar="NAME", help="The user on the node, if the owner's policy allows it.")
@click.option("--terminal/--no-terminal", "-t/-T", "terminal", default=None,
              help="Whether the node gives it a terminal (default: if our input and output are one).")  # fmt: skip
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD [ARG]...]")
@connected_stream
def shell(invocation: Invocation, node: str, user: str | None, terminal: bool | None, argv: tuple[str, ...]) -> int:
    """Open a shell, or CMD, on NODE, and exit with its status.

    On a terminal `~.` at the beginning of a line leaves and ends it. A connection that breaks is taken up again within
    a minute, and nothing is lost by that.
    """
    ours = sys.stdin.isatty() and sys.stdout.isatty()
    remote_terminal = ours if terminal is None else terminal
    raw = ours and remote_terminal
    rows, columns = terminal_size(sys.stdin.fileno())
    request = ShellRequest(
        argv=argv,
        terminal=remote_terminal,
        term=os.environ.get("TERM") or None,
        rows=rows,
        columns=columns,
        user=user,
    )

    async def work(session: Session) -> int:
        return await _run(session.control_plane.node(session.workspace.name, node), request, raw=raw)

    return invocation.call(work)


async def _run(node: Node, request: ShellRequest, *, raw: bool) -> int:
    local = LocalSide(raw=raw)
    remote = RemoteShell(node, request, ShellListener(local.show, local.read_on, local.attached, local.cut))
    signals = _Signals(remote)
    # The signals come first: whatever ends us from then on, the terminal is put back.
    terminal = raw_terminal(sys.stdin.fileno()) if raw else contextlib.nullcontext()
    with signals.watching(), terminal, local.serving(remote):
        ending = await remote.run()
    if ending.kind is ShellEndingKind.EXITED:
        return ending.value
    if ending.kind is ShellEndingKind.KILLED:
        return 128 + ending.value
    if signals.received:
        return 128 + signals.received
    if not local.left:
        local.tell(f"the shell was ended: {printable(ending.reason)}")
        return os.EX_UNAVAILABLE
    return INTERRUPTED


class _Signals:
    """What our own signals mean to the remote shell."""

    def __init__(self, shell: RemoteShell) -> None:
        self._shell = shell
        self.received = 0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Take the signals inside the block."""
        loop = asyncio.get_running_loop()
        numbers: dict[signal.Signals, Callable[[], None]] = {
            number: partial(self._leave, number) for number in ending_signals()
        }
        numbers |= {signal.SIGWINCH: self._resized, signal.SIGINT: self._interrupted}
        for number, act in numbers.items():
            loop.add_signal_handler(number, act)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _resized(self) -> None:
        self._shell.resize(*terminal_size(sys.stdin.fileno()))

    def _interrupted(self) -> None:
        """Ctrl-C where our terminal makes a signal of it: the shell's own the first time, leaving the second."""
        if self.received:
            self._leave(signal.SIGINT)
        else:
            self.received = signal.SIGINT
            self._shell.signal("INT")

    def _leave(self, number: signal.Signals) -> None:
        self.received = number
        self._shell.leave()

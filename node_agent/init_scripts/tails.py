"""The end of what a command wrote, as text for people."""

from node_agent.commands.command import Command
from node_agent.commands.ledger import CommandLedger
from node_agent.commands.records import OutputStream

TAIL_BYTES = 2048


async def tail_of(ledger: CommandLedger, command: Command, stream: OutputStream) -> str | None:
    """Return the last `TAIL_BYTES` of a command that has ended, or None where there is nothing to be read."""
    spool = command.spool(stream, ledger.store)
    if not spool.size_bytes:
        return None
    tail = bytearray()
    try:
        with spool.reader() as reader:
            async for chunk in reader.chunks(max(0, spool.size_bytes - TAIL_BYTES), follow=False):
                tail += chunk
    except OSError:
        return None
    return bytes(tail[-TAIL_BYTES:]).decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")

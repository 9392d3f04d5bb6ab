"""Bringing a command our standard input while its output is followed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from trunkline.cli.delivery_notes import tell
from trunkline.cli.exits import line_of
from trunkline.cli.local_input import LocalInput
from trunkline.client.commands import CommandApi
from trunkline.client.errors import TrunklineError


@contextlib.asynccontextmanager
async def input_sent(api: CommandApi, command_id: str, following: LocalInput | None) -> AsyncIterator[None]:
    """Send an input inside the block, and stop at its end, which is when the command has ended.

    An input that cannot be brought is told, and the command cancelled: it would wait for the rest for ever.
    """
    if following is None:
        yield
        return
    sending = asyncio.create_task(_send(api, command_id, following), name="trunkline-stdin")
    try:
        yield
    finally:
        sending.cancel()
        await asyncio.wait([sending])


async def _send(api: CommandApi, command_id: str, following: LocalInput) -> None:
    try:
        # A node that is away is waited for, as long as the command has not ended.
        await api.send_input(command_id, following.pieces(), patience_seconds=None)
    except (TrunklineError, OSError) as error:
        reason = line_of(error) if isinstance(error, TrunklineError) else error.strerror
        tell(f"its standard input could not be brought, so it is cancelled: {reason}")
        with contextlib.suppress(TrunklineError):
            await api.cancel(command_id)

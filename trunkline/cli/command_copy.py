"""Copying a part of one command's output to our standard output."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass

from trunkline.cli.command_status import cut_of
from trunkline.cli.delivery_notes import DeliveryNotes, tell
from trunkline.cli.patient_output import patient
from trunkline.cli.remote_output import output_to
from trunkline.cli.session import Session
from trunkline.cli.timed_output import OutputTimes, TimedOutput
from trunkline.client.command_output import OutputStream
from trunkline.client.errors import OutputNotKept


@dataclass(frozen=True, slots=True)
class Part:
    """Which bytes of which output, and how they are shown; see `CommandApi.output`."""

    command_id: str
    stream: OutputStream
    offset: int
    tail: int | None
    length: int | None
    kept: bool
    follow: bool
    timestamps: bool


async def copy_part(session: Session, part: Part) -> bool:
    """Copy it; returns whether it is whole. What is not kept of it is told."""
    api = session.commands
    noting = asyncio.create_task(DeliveryNotes().watch(api, part.command_id)) if part.follow else None
    try:
        return await _copy(session, part)
    finally:
        if noting is not None:
            noting.cancel()
            await asyncio.wait([noting])


async def _copy(session: Session, part: Part) -> bool:
    api, destination, whole = session.commands, output_to(patient(sys.stdout.buffer)), True
    times = OutputTimes(
        lambda at: api.output_times(part.command_id, part.stream, offset=at, kept=part.kept), time.monotonic
    )
    timed = TimedOutput(destination, times, part.offset)

    def note(cut: OutputNotKept) -> None:
        nonlocal whole
        whole, timed.offset = False, cut.end
        tell(str(cut))

    pieces = api.output(
        part.command_id,
        part.stream,
        offset=part.offset,
        tail_bytes=part.tail,
        length_bytes=part.length,
        follow=part.follow,
        kept=part.kept,
        on_cut=note,
    )
    async for piece in pieces:
        if part.timestamps:
            await timed.write(piece)
        else:
            destination.write(piece)
        await destination.passed()
    destination.close()
    await destination.passed()
    if part.length is None and (cut := cut_of(await api.get(part.command_id))) is not None:
        tell(cut)
    return whole

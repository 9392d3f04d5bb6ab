"""Waiting for the control plane, and a user who does not want to."""

from __future__ import annotations

import asyncio
import signal

from trunkline.cli.following import Interruption, unless_insisted


async def test_one_interruption_waits_for_what_was_sent_and_two_do_not() -> None:
    interruption, answer = Interruption(), asyncio.Event()

    async def submit() -> str:
        await answer.wait()
        return "submitted"

    patient = asyncio.create_task(unless_insisted(submit(), interruption))
    interruption.interrupt(signal.SIGINT)
    await asyncio.sleep(0)
    answer.set()
    assert await patient == "submitted"
    answer.clear()
    impatient = asyncio.create_task(unless_insisted(submit(), interruption))
    interruption.interrupt(signal.SIGINT)
    assert await impatient is None
    assert interruption.status == 130

"""Waiting for the control plane, and a user who does not want to."""

from __future__ import annotations

import asyncio
import errno
import signal

import pytest

from trunkline.cli.following import Interruption, unless_insisted, until_interrupted


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


@pytest.mark.parametrize("error", [BrokenPipeError(errno.EPIPE, "Broken"), OSError(errno.ENOSPC, "No space left")])
async def test_nothing_goes_on_whose_output_nobody_gets(error: OSError) -> None:
    cancelled = []

    async def follow() -> None:
        raise error

    async def cancel() -> None:
        cancelled.append(True)

    with pytest.raises(OSError, match=error.strerror):
        await until_interrupted(follow(), cancel, Interruption())
    assert cancelled

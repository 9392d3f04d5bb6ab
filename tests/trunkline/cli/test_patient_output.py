"""Output whose reader stands still, or has gone, while the loop has other things to do."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import signal
import tty
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO, cast

import pytest

from trunkline.cli.copies import Choices, Copies
from trunkline.cli.following import Interruption, until_interrupted
from trunkline.cli.output_copier import OutputCopier
from trunkline.cli.patient_output import PatientOutput, passed, patient
from trunkline.cli.remote_output import output_to
from trunkline.client.commands import CommandApi
from trunkline.client.copy_listener import CopyListener
from trunkline.client.file_calls import FileCalls, RemotePlace
from trunkline.client.records.commands import Command

CONTENT = bytes(range(256)) * 1024


@pytest.fixture
def pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The end to read and the end to write."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as read_end, open(writing, "wb") as write_end:  # noqa: PTH123
        yield read_end, write_end


async def test_what_a_pipe_has_no_room_for_is_passed_on_as_it_is_read(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    read_end, write_end = pipe
    output = patient(write_end)
    output.write(CONTENT)
    waiting = asyncio.create_task(passed(output))
    await asyncio.sleep(0)
    assert not waiting.done()
    received = bytearray()
    while len(received) < len(CONTENT):
        received += await asyncio.to_thread(read_end.read, 10_000)
    await waiting
    assert received == CONTENT


async def test_a_reader_who_goes_is_told_of_to_whoever_waits_and_to_the_next_who_writes(
    pipe: tuple[BinaryIO, BinaryIO],
) -> None:
    read_end, write_end = pipe
    output = patient(write_end)
    output.write(CONTENT)
    waiting = asyncio.create_task(passed(output))
    await asyncio.sleep(0)
    read_end.close()
    with pytest.raises(BrokenPipeError):
        await waiting
    with pytest.raises(BrokenPipeError):
        output.write(b"more")


async def test_a_file_takes_all_of_it_and_what_is_no_file_is_written_as_it_is(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        patient(file).write(CONTENT)
    assert (tmp_path / "file").read_bytes() == CONTENT
    memory = io.BytesIO()
    assert patient(memory) is memory


async def test_a_terminal_whose_reader_stands_still_takes_what_it_has_room_for() -> None:
    near, far = pty.openpty()
    tty.setraw(far)
    output = PatientOutput(far)
    output.write(CONTENT)
    waiting = asyncio.create_task(output.passed())
    await asyncio.sleep(0)
    received = 0
    while received < len(CONTENT):
        received += len(await asyncio.to_thread(os.read, near, 65_536))
    await waiting
    for descriptor in (output._descriptor, near, far):
        os.close(descriptor)


async def test_an_interruption_is_heard_while_the_reader_stands_still(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    class Endless:
        async def output(self, command_id: str, stream: str, **options: object) -> AsyncIterator[bytes]:
            while True:
                yield CONTENT

    destination, asked, interruption = patient(pipe[1]), asyncio.Event(), Interruption()
    command = Command.model_validate({"command_id": "c-1", "state": "RUNNING"})
    copier = OutputCopier(cast(CommandApi, Endless()), command, lambda *_: output_to(destination))

    async def cancel() -> None:
        asked.set()
        interruption.interrupt(signal.SIGINT)

    loop = asyncio.get_running_loop()
    loop.call_soon(loop.call_soon, interruption.interrupt, signal.SIGINT)
    await until_interrupted(copier.copy(), cancel, interruption)
    assert asked.is_set()


async def test_a_copy_from_a_pipe_that_says_nothing_can_be_ended(
    pipe: tuple[BinaryIO, BinaryIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_end, write_end = pipe
    monkeypatch.setattr("sys.stdin", read_end)
    begun = asyncio.Event()

    class Takes:
        async def put(self, place: RemotePlace, pieces: AsyncIterator[bytes], query: object) -> None:
            async for _ in pieces:
                begun.set()

    write_end.write(b"a beginning")
    write_end.flush()
    listener = cast(CopyListener, SimpleNamespace(moved=lambda count: None))
    copies = Copies(Choices(recursive=False, keep=False, several=False, umask=0o022), listener)
    taking = asyncio.create_task(copies.take(cast(FileCalls, Takes()), "/tmp/target"))
    await begun.wait()
    taking.cancel()
    done, _ = await asyncio.wait([taking], timeout=30)
    write_end.close()
    assert done

"""A command's record on its way to the disk."""

import asyncio

import pytest

from node_agent.commands.command import Command
from node_agent.commands.records import RECORD_FILE, CommandRecord, CommandStore, parse_record
from node_agent.commands.states import CommandEvent, CommandState
from tests.support.still_disk import a_disk_that_stands_still


async def test_a_saver_that_goes_while_the_disk_is_slow_is_not_overtaken_and_what_it_saved_is_saved_again(tmp_path):
    store = CommandStore(tmp_path)
    record = CommandRecord(
        command_id="c", fingerprint="f", argv=["true"], submit_time=1, submitted_by="me", run_id="r", boot_id="b"
    )
    command = Command(record, recorded=True)
    store.create(record)
    command.happened(CommandEvent.STARTED, 2.0)
    with a_disk_that_stands_still() as disk:
        saving = asyncio.create_task(command.save(store))
        await disk.asked()
        saving.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not saving.done(), "what is saved next might come to the disk before it"
        disk.move()
        with pytest.raises(asyncio.CancelledError):
            await saving
        assert command.unsaved, "it was not heard whether the disk took it"
        command.happened(CommandEvent.EXITED_WELL, 3.0)
        await command.save(store)
    stored = parse_record((store.directory_of("c") / RECORD_FILE).read_bytes())
    assert (stored.state, command.unsaved) == (CommandState.SUCCEEDED, False)

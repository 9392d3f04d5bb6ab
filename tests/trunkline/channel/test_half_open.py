"""A way between two ends that dies without a word: with the settings as they come, each notices within 15 seconds."""

import asyncio

import pytest

from node_agent.settings import LinkSettings
from relay.settings import LimitsSettings
from tests.support.links import LinkPair, open_recorder
from tests.support.virtual_time import in_virtual_time
from trunkline.channel.errors import ErrorCode


@pytest.mark.parametrize("keepalive_seconds", [LimitsSettings().keepalive_seconds, LinkSettings().keepalive_seconds])
@pytest.mark.parametrize("busy", [False, True])
def test_both_ends_notice(keepalive_seconds: float, busy: bool):
    @in_virtual_time
    async def notice() -> None:
        pair = LinkPair(keepalive_seconds=keepalive_seconds)
        await asyncio.sleep(100)
        assert not pair.client.lost
        for transport in (pair.client_transport, pair.server_transport):
            transport.pause_reading()
        if busy:
            for link in (pair.client, pair.server):
                open_recorder(link).stream.write(b"is anybody there?")
        await asyncio.sleep(15)
        assert pair.client.lost
        assert pair.server.lost
        await asyncio.sleep(1)
        for owner in (pair.client_owner, pair.server_owner):
            assert [error.code for error in owner.losses] == [ErrorCode.PEER_SILENT]
        await pair.close()

    notice()

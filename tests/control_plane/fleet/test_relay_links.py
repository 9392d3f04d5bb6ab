"""The control plane speaks to no relay whose certificate was revoked, and cuts the link to one that is revoked."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from certs.trust import TrustVerdict
from control_plane.fleet.relay_links import RelayLinks
from tests.support.identities import IdentityKit
from tests.support.link_server import LinkServer, link_server
from trunkline.channel.session import Role
from trunkline.channel.upgrade import LinkRequest
from trunkline.client.errors import Unreachable
from trunkline.client.node_sender import NodeSender
from trunkline.runtime.clock import SystemClock

HOST = "vm-1.finance.trunk.internal"


class Plane:
    """The links, and what is revoked."""

    def __init__(self, kit: IdentityKit) -> None:
        self.revoked: set[str] = set()
        self.links = RelayLinks(
            client_tls=lambda: kit.client_tls(kit.control_plane),
            verdict=lambda serial: TrustVerdict(False, "certificate", serial) if serial in self.revoked else None,
            clock=SystemClock(),
            log=structlog.get_logger(),
        )


@pytest.fixture
def kit(tmp_path: Path) -> IdentityKit:
    return IdentityKit(tmp_path)


@pytest.fixture
async def relay(kit: IdentityKit) -> AsyncIterator[tuple[LinkServer, str]]:
    identity = kit.issue_relay()
    async with link_server(kit.server_tls(identity).context, role=Role.SERVER) as server:
        yield server, identity.chain.serial


async def test_a_revoked_relay_is_told_nothing(kit: IdentityKit, relay: tuple[LinkServer, str]):
    server, serial = relay
    plane = Plane(kit)
    plane.revoked.add(serial)
    sender = plane.links.sender(server.url)
    with pytest.raises(Unreachable, match=f"the relay's certificate {serial} is revoked") as refused:
        await sender.request("GET", HOST, "/", token="t", timeout_seconds=30)
    assert refused.value.never_sent
    assert server.requests == []
    await sender.close()


async def test_the_link_to_a_relay_that_is_revoked_is_cut(kit: IdentityKit, relay: tuple[LinkServer, str]):
    server, serial = relay
    plane = Plane(kit)
    sender = plane.links.sender(server.url)
    assert isinstance(sender, NodeSender)
    await sender.connect()
    [link] = server.links
    plane.links.cut_ended()
    plane.revoked.add("another")
    plane.links.cut_ended()
    assert not link.lost
    plane.revoked.add(serial)
    plane.links.cut_ended()
    async with asyncio.timeout(30):
        await link.closed
    with pytest.raises(Unreachable):
        await sender.request("GET", HOST, "/", token="t", timeout_seconds=30)
    assert len(server.requests) == 1
    await sender.close()


async def test_a_relay_that_is_revoked_while_it_keeps_its_answer_back_gets_no_link(
    kit: IdentityKit, relay: tuple[LinkServer, str]
):
    server, serial = relay
    plane = Plane(kit)

    async def revoke(request: LinkRequest) -> None:
        plane.revoked.add(serial)
        plane.links.cut_ended()

    server.before_answer = revoke
    sender = plane.links.sender(server.url)
    with pytest.raises(Unreachable, match=f"the relay's certificate {serial} is revoked") as refused:
        await sender.request("GET", HOST, "/", token="t", timeout_seconds=30)
    assert refused.value.never_sent
    [link] = server.links
    async with asyncio.timeout(30):
        await link.closed
    await sender.close()

import asyncio

import pytest

from certs.fingerprints import sha256_hex
from node_agent.clock_offset import ClockOffset
from node_agent.identity.control_plane import ControlPlane, ControlPlaneRefused, ControlPlaneUnreachable
from node_agent.identity.control_plane_tls import ControlPlaneTls
from tests.support.agent_control_plane import AgentControlPlane, error
from tests.support.http_proxy import HttpProxy
from tests.support.identities import IdentityKit
from trunkline.channel.proxy_connect import ProxyAddress
from trunkline.runtime.clock import ManualClock, SystemClock

PATH = "/api/2.0/bootstrap/challenge"


def client(url, *, ca_file=None, root_sha256=None, proxy=None, clock=None, offset=None):
    tls = ControlPlaneTls(ca_file, root_sha256)
    return ControlPlane(
        url,
        tls,
        proxy=proxy,
        request_seconds=5,
        clock=clock or SystemClock(),
        clock_offset=offset or ClockOffset(),
    )


async def test_an_answer_and_an_error(asking, control_plane):
    assert "nonce" in await asking.call(PATH)
    control_plane.faults[PATH] = [lambda document: error(403, "PERMISSION_DENIED")]
    with pytest.raises(ControlPlaneRefused) as refused:
        await asking.call(PATH)
    assert (refused.value.status, refused.value.error_code, refused.value.permanent) == (403, "PERMISSION_DENIED", True)


async def test_the_clock_is_compared(control_plane, kit):
    import time

    offset = ClockOffset()
    await client(control_plane.url, ca_file=kit.ca_file, clock=ManualClock(time.time() - 100), offset=offset).call(PATH)
    assert offset.seconds == pytest.approx(100, abs=2)


async def test_nobody_there(kit):
    with pytest.raises(ControlPlaneUnreachable):
        await client("https://localhost:1", ca_file=kit.ca_file).call(PATH)


async def test_a_server_that_another_authority_vouches_for_is_not_asked(control_plane, tmp_path):
    (tmp_path / "other").mkdir()
    other = IdentityKit(tmp_path / "other")
    with pytest.raises(ControlPlaneUnreachable, match="not trusted"):
        await client(control_plane.url, ca_file=other.ca_file).call(PATH)
    assert control_plane.asked == []


async def test_a_pinned_root(kit, tmp_path):
    async with AgentControlPlane(kit).serve(presented_roots=True) as control_plane:
        pinned = client(control_plane.url, root_sha256=sha256_hex(kit.roots[0]))
        assert "nonce" in await pinned.call(PATH)
        with pytest.raises(ControlPlaneUnreachable):
            await client(control_plane.url, root_sha256="0" * 64).call(PATH)


async def test_through_a_proxy_that_wants_credentials(control_plane, kit):
    proxy = HttpProxy(authorization="Basic dTpw")
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        address = ProxyAddress("http", "127.0.0.1", port, "Basic dTpw")
        assert "nonce" in await client(control_plane.url, ca_file=kit.ca_file, proxy=address).call(PATH)
        assert proxy.requests[0][0].startswith("CONNECT localhost:")
        refused = ProxyAddress("http", "127.0.0.1", port)
        with pytest.raises(ControlPlaneUnreachable):
            await client(control_plane.url, ca_file=kit.ca_file, proxy=refused).call(PATH)

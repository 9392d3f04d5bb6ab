import asyncio
import contextlib
import time
from email.utils import formatdate

import pytest
from aiohttp import web

from certs.fingerprints import sha256_hex
from certs.trust import TrustVerdict
from node_agent.identity.control_plane import ControlPlane
from node_agent.identity.control_plane_tls import ControlPlaneTls
from node_agent.identity.returning import least_pause_seconds
from tests.support.agent_control_plane import AgentControlPlane, error
from tests.support.http_proxy import HttpProxy, http_proxy
from tests.support.identities import IdentityKit, none_ended
from trunkline.channel.proxy_connect import ProxyAddress
from trunkline.client.clock_offset import ClockOffset
from trunkline.client.control_plane_answers import ClockSkewed, ControlPlaneRefused, ControlPlaneUnreachable
from trunkline.runtime.clock import ManualClock, SystemClock

PATH = "/api/2.0/bootstrap/challenge"


def client(
    url, *, ca_file=None, root_sha256=None, proxy=None, clock=None, offset=None, verdict=none_ended, request_seconds=30
):
    tls, clock = ControlPlaneTls(ca_file, root_sha256), clock or SystemClock()
    return ControlPlane(
        url,
        tls,
        proxy=proxy,
        request_seconds=request_seconds,
        clock=clock,
        clock_offset=offset or ClockOffset(clock),
        verdict=verdict,
    )


async def test_an_answer_and_an_error(asking, control_plane):
    assert "nonce" in await asking.call(PATH)
    control_plane.faults[PATH] = [lambda document: error(403, "PERMISSION_DENIED")]
    with pytest.raises(ControlPlaneRefused) as refused:
        await asking.call(PATH)
    assert (refused.value.status, refused.value.error_code, refused.value.permanent) == (403, "PERMISSION_DENIED", True)


@pytest.mark.parametrize("status", [200, 403])
async def test_the_number_of_the_trust_document_is_heard_in_answers_and_refusals(asking, control_plane, status):
    told = []
    asking.on_trust_sequence(told.append)

    def answer(stated):
        headers = {"Trunkline-Trust-Sequence": stated}
        return lambda document: web.json_response({}, status=status, headers=headers)

    control_plane.faults[PATH] = [answer(text) for text in ("7", "", "-1", "8 ", "x", "9" * 17, "1.5", "\u0663")]
    for _ in range(8):
        with contextlib.suppress(ControlPlaneRefused):
            await asking.call(PATH)
    assert told == [7, 8]


async def test_a_control_plane_that_states_no_number_is_an_older_one(asking, control_plane):
    told = []
    asking.on_trust_sequence(told.append)
    control_plane.faults[PATH] = [lambda document: web.json_response({})]
    await asking.call(PATH)
    assert told == []


async def test_the_clock_is_compared(control_plane, kit):
    clock = ManualClock(now=int(time.time()) - 100)
    control_plane.date = formatdate(clock.now() + 100, usegmt=True)
    offset = ClockOffset(clock)
    asking = client(control_plane.url, ca_file=kit.ca_file, clock=clock, offset=offset)
    await asking.call(PATH)
    assert offset.seconds == 100.5, "the Date names the second that it was made in"
    with pytest.raises(ClockSkewed, match="clock_skew: this machine's clock is 100 s behind"):
        asking.require_clock()


@pytest.mark.parametrize("seconds", [-59.0, 0.0, 59.0])
async def test_a_minute_either_way_is_no_complaint(control_plane, kit, seconds):
    clock = ManualClock(now=int(time.time()) + seconds)
    control_plane.date = formatdate(clock.now() - seconds, usegmt=True)
    asking = client(control_plane.url, ca_file=kit.ca_file, clock=clock)
    await asking.call(PATH)
    asking.require_clock()


async def test_a_certificate_out_of_its_time_says_that_the_clock_may_be_wrong(control_plane, kit, monkeypatch):
    """What OpenSSL sees as the time cannot be told to it, so the server's certificate is the one that is out of it."""
    old = IdentityKit.__new__(IdentityKit)
    old.__dict__.update(kit.__dict__, now=kit.now - 60 * 86400)
    expired = old.issue_control_plane()
    async with AgentControlPlane(kit).serve(identity=expired) as serving:
        with pytest.raises(ClockSkewed, match="clock_skew: the control plane's certificate is not valid at"):
            await client(serving.url, ca_file=kit.ca_file).call(PATH)


async def test_nobody_there(kit):
    with pytest.raises(ControlPlaneUnreachable):
        await client("https://localhost:1", ca_file=kit.ca_file).call(PATH)


async def test_a_server_that_another_authority_vouches_for_is_not_asked(control_plane, tmp_path):
    (tmp_path / "other").mkdir()
    other = IdentityKit(tmp_path / "other")
    with pytest.raises(ControlPlaneUnreachable, match="not trusted"):
        await client(control_plane.url, ca_file=other.ca_file).call(PATH)
    assert control_plane.asked == []


@pytest.mark.parametrize("proxied", [False, True])
async def test_whoever_has_the_key_of_a_revoked_certificate_is_told_nothing(control_plane, kit, proxied):
    revoked = TrustVerdict(False, "certificate", kit.control_plane.serial)
    proxy = HttpProxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    async with server:
        address = ProxyAddress("http", "127.0.0.1", server.sockets[0].getsockname()[1]) if proxied else None
        asking = client(
            control_plane.url,
            ca_file=kit.ca_file,
            proxy=address,
            verdict=lambda serial: revoked if serial == revoked.id else None,
        )
        with pytest.raises(ControlPlaneUnreachable, match=f"its certificate {revoked.id} was revoked"):
            await asking.call(PATH)
    assert control_plane.asked == []


async def test_a_relays_certificate_for_the_same_name_is_not_the_control_planes(kit):
    async with AgentControlPlane(kit).serve(identity=kit.issue_relay("rl-two", "*.example", "localhost")) as serving:
        with pytest.raises(ControlPlaneUnreachable, match="not the control plane's but a relay's"):
            await client(serving.url, ca_file=kit.ca_file).call(PATH)
        assert serving.asked == []


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


async def test_a_proxy_that_does_not_answer_is_named_without_its_password(control_plane, kit):
    async with http_proxy(silent=True) as proxy:
        address = ProxyAddress("http", "127.0.0.1", proxy.port, "Basic dTpw")
        asking = client(control_plane.url, ca_file=kit.ca_file, proxy=address, request_seconds=0.05)
        with pytest.raises(ControlPlaneUnreachable) as caught:
            await asking.call(PATH)
    way = f"through the proxy http://127.0.0.1:{proxy.port}"
    assert str(caught.value) == f"cannot reach the control plane {control_plane.url} {way}: no answer in time"


@pytest.mark.parametrize(
    ("field", "seconds"), [("7", 7.0), ("900", 60.0), ("-1", 0.0), ("1.5", 0.0), ("Thu, 01 Jan", 0.0), (None, 0.0)]
)
async def test_it_is_left_alone_for_as_long_as_it_says_but_a_minute_at_most(asking, control_plane, field, seconds):
    answer = error(429, "RESOURCE_EXHAUSTED")
    if field is not None:
        answer.headers["Retry-After"] = field
    control_plane.faults[PATH] = [lambda document: answer]
    with pytest.raises(ControlPlaneRefused) as refused:
        await asking.call(PATH)
    assert refused.value.retry_after_seconds == least_pause_seconds(refused.value) == seconds

import asyncio
import json
from typing import Any

import pytest

from certs.identities import Identity
from certs.trust import TrustVerdict
from relay.control_plane.client import ControlPlaneClient, IdentityReplaced
from tests.support.identities import IdentityKit, none_ended
from tests.support.scripted_control_plane import ScriptedControlPlane
from trunkline.client.control_plane_answers import MAX_ANSWER_BYTES, ControlPlaneRefused, ControlPlaneUnreachable


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("identities"))


@pytest.fixture
async def control_plane(kit: IdentityKit):
    fake = ScriptedControlPlane()
    async with fake.serve(kit.server_tls().context):
        yield fake


@pytest.fixture
async def client(kit: IdentityKit, control_plane: ScriptedControlPlane):
    made = ControlPlaneClient(control_plane.url, kit.client_tls(kit.issue_relay()), verdict=none_ended)
    yield made
    await made.close()


async def test_a_request_and_its_answer(client: ControlPlaneClient, control_plane: ScriptedControlPlane):
    control_plane.answer("POST", "/x", lambda document: (200, {"got": document}))
    assert await client.call("POST", "/x", {"a": 1}) == {"got": {"a": 1}}


@pytest.mark.parametrize(
    ("status", "permanent"), [(400, True), (404, True), (409, True), (429, False), (500, False), (503, False)]
)
async def test_a_refusal(client: ControlPlaneClient, control_plane: ScriptedControlPlane, status, permanent):
    control_plane.answer("GET", "/x", lambda _: (status, {"error_code": "SOME_CODE", "message": "no, because"}))
    with pytest.raises(ControlPlaneRefused, match=r"no, because \(SOME_CODE\)") as caught:
        await client.call("GET", "/x")
    assert (caught.value.status, caught.value.permanent) == (status, permanent)


async def test_redirects_are_not_followed(client: ControlPlaneClient, control_plane: ScriptedControlPlane):
    control_plane.answer("GET", "/x", lambda _: (302, {}))
    with pytest.raises(ControlPlaneRefused, match="status 302"):
        await client.call("GET", "/x")


@pytest.mark.parametrize("answer", [[1], "text", None])
async def test_an_answer_that_is_no_object(
    client: ControlPlaneClient, control_plane: ScriptedControlPlane, answer: Any
):
    control_plane.answer("GET", "/x", lambda _: (200, answer))
    with pytest.raises(ControlPlaneUnreachable, match="not a JSON object"):
        await client.call("GET", "/x")


async def test_an_answer_without_end(client: ControlPlaneClient, control_plane: ScriptedControlPlane):
    control_plane.answer("GET", "/x", lambda _: (200, {"x": "y" * MAX_ANSWER_BYTES}))
    with pytest.raises(ControlPlaneUnreachable, match="larger than"):
        await client.call("GET", "/x")


async def test_what_is_no_stream_of_events_is_not_followed(
    kit: IdentityKit, client: ControlPlaneClient, control_plane: ScriptedControlPlane
):
    control_plane.answer("GET", "/x", lambda _: (200, {}))
    with pytest.raises(ControlPlaneUnreachable, match="no stream of events"):
        async with client.follow("/x", silence_seconds=1.0):
            pass


async def test_nobody_there(kit: IdentityKit):
    client = ControlPlaneClient("https://localhost:1", kit.client_tls(), verdict=none_ended)
    with pytest.raises(ControlPlaneUnreachable, match=r"cannot reach the control plane https://localhost:1: .*refused"):
        await client.call("GET", "/x")
    await client.close()


async def test_a_stranger_is_not_believed(kit: IdentityKit, tmp_path):
    stranger = IdentityKit(tmp_path)
    fake = ScriptedControlPlane()
    async with fake.serve(stranger.server_tls().context):
        client = ControlPlaneClient(fake.url, kit.client_tls(), verdict=none_ended)
        with pytest.raises(
            ControlPlaneUnreachable,
            match=r"certificate is not trusted: .+; name the file of its roots \(control_plane\.ca_file\)",
        ):
            await client.call("POST", "/x", {"secret": "value"})
        await client.close()
    assert json.dumps(fake.asked) == "[]"


async def test_under_a_name_that_its_certificate_has_not_it_is_told_which_there_are_and_no_other_roots(
    kit: IdentityKit,
):
    fake = ScriptedControlPlane()
    async with fake.serve(kit.server_tls().context):
        url = fake.url.replace("localhost", "127.0.0.1")
        client = ControlPlaneClient(url, kit.client_tls(), verdict=none_ended)
        with pytest.raises(ControlPlaneUnreachable, match=r"IP address mismatch.*identity\.dns_names") as refused:
            await client.call("GET", "/x")
        await client.close()
    assert "roots" not in str(refused.value)


async def test_a_stream_that_is_followed_ends_with_the_identity_it_was_opened_with(
    kit: IdentityKit, client: ControlPlaneClient, control_plane: ScriptedControlPlane
):
    control_plane.greeting = [b": hello\n\n"]
    closing: list[Any] = []

    async def follow() -> None:
        async with client.follow("/api/2.0/trust-document/events", silence_seconds=10.0) as pieces:
            assert await anext(pieces)
            client.swap(kit.client_tls(kit.issue_relay()), closing.append)
            await closing[0]
            await anext(pieces)

    with pytest.raises(IdentityReplaced):
        await follow()


async def test_a_renewed_identity_is_used_from_the_next_request_on(
    kit: IdentityKit, client: ControlPlaneClient, control_plane: ScriptedControlPlane
):
    control_plane.answer("GET", "/x", lambda _: (200, {}))
    await client.call("GET", "/x")
    closing: list[Any] = []
    client.swap(kit.client_tls(kit.issue_relay()), closing.append)
    await closing[0]
    assert await client.call("GET", "/x") == {}


async def test_whoever_waits_for_the_next_piece_of_a_stream_learns_of_the_swap(
    kit: IdentityKit, client: ControlPlaneClient, control_plane: ScriptedControlPlane
):
    control_plane.greeting = [b": hello\n\n"]
    waits = asyncio.Event()

    async def follow() -> None:
        async with client.follow("/api/2.0/trust-document/events", silence_seconds=60.0) as pieces:
            assert await anext(pieces)
            waits.set()
            await anext(pieces)

    following = asyncio.create_task(follow())
    await waits.wait()
    await asyncio.sleep(0)
    closing: list[Any] = []
    client.swap(kit.client_tls(kit.issue_relay()), closing.append)
    await closing[0]
    async with asyncio.timeout(30):
        with pytest.raises(IdentityReplaced):
            await following


class Ended:
    """Serial numbers of certificates that a trust document ends, as its holder is asked for them."""

    def __init__(self, *identities: Identity, locked: bool = False) -> None:
        self.serials = {identity.serial for identity in identities}
        self.locked = locked

    def __call__(self, serial: str) -> TrustVerdict | None:
        return TrustVerdict(self.locked, "certificate", serial) if serial in self.serials else None


@pytest.mark.parametrize(("locked", "word"), [(False, "was revoked"), (True, "is locked")])
async def test_whoever_has_the_key_of_an_ended_certificate_is_told_nothing(
    kit: IdentityKit, control_plane: ScriptedControlPlane, locked: bool, word: str
):
    client = ControlPlaneClient(control_plane.url, kit.client_tls(), verdict=Ended(kit.control_plane, locked=locked))
    with pytest.raises(ControlPlaneUnreachable, match=f"its certificate {kit.control_plane.serial} {word}"):
        await client.call("POST", "/x", {"secret": "value"})
    await client.close()
    assert control_plane.asked == []


async def test_a_relays_certificate_for_the_same_name_is_not_the_control_planes(kit: IdentityKit):
    fake = ScriptedControlPlane()
    async with fake.serve(kit.server_tls(kit.issue_relay("rl-two", "*.example", "localhost")).context):
        client = ControlPlaneClient(fake.url, kit.client_tls(kit.issue_relay()), verdict=none_ended)
        with pytest.raises(ControlPlaneUnreachable, match="its certificate is not the control plane's but a relay's"):
            await client.call("POST", "/x", {"secret": "value"})
        await client.close()
    assert fake.asked == []


async def test_a_certificate_that_ends_leaves_no_connection_that_was_made_with_it(kit: IdentityKit):
    fake, ended, closing = ScriptedControlPlane(), Ended(), list[Any]()
    fake.greeting = [b": hello\n\n"]
    fake.answer("GET", "/x", lambda _: (200, {}))
    tls = kit.server_tls()
    async with fake.serve(tls.context):
        client = ControlPlaneClient(fake.url, kit.client_tls(), verdict=ended)

        async def follow() -> None:
            async with client.follow("/api/2.0/trust-document/events", silence_seconds=60.0) as pieces:
                assert await anext(pieces)
                assert await client.call("GET", "/x") == {}
                client.cut_ended(closing.append)
                assert closing == []
                ended.serials.add(kit.control_plane.serial)
                with pytest.raises(ControlPlaneUnreachable, match="was revoked"):
                    await client.call("GET", "/x")  # on the connection that was kept
                client.cut_ended(closing.append)
                await closing[0]
                await anext(pieces)

        with pytest.raises(IdentityReplaced):
            await follow()
        tls.swap(kit.issue_control_plane(), kit.roots)
        assert await client.call("GET", "/x") == {}
        client.cut_ended(closing.append)
        assert len(closing) == 1
        await client.close()

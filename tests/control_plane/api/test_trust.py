"""The trust document: what is in it, its feed, and that a revocation is in it before it is acknowledged."""

import asyncio
import json
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from certs.trust import TrustDocument, verify_trust_document
from control_plane.api import trust
from control_plane.api.callers import Caller
from control_plane.storage.audit import Actor
from tests.support.control_planes import SEALING_KEY, EnrolledRelay, RunningControlPlane, running_control_plane

EVENTS = "/api/2.0/trust-document/events"


async def document(plane: RunningControlPlane) -> TrustDocument:
    text = (await plane.ok("GET", "/api/2.0/trust-document", token=None))["trust_document"]
    return verify_trust_document(text, plane.authority.roots, plane.foundation.clock.now())


async def test_every_answer_states_the_number_of_the_newest_document(plane: RunningControlPlane):
    """Also to a node that is refused: it is how a node finds out that its relays keep a document back."""
    node = await plane.node("vm-1")
    unlocked = await plane.call("POST", "/api/2.0/nodes/self/reports", {}, identity=node.identity)
    lock = {"kind": "node", "id": node.node_id, "reason": "looked into", "lifetime_seconds": 600}
    await plane.ok("POST", "/api/2.0/locks", lock)
    secrets = {"sealing_key": SEALING_KEY}
    refused = await plane.call("POST", "/api/2.0/nodes/self/secrets", secrets, identity=node.identity)
    unknown = await plane.call("GET", "/no/such/path", token=None)
    now = str(plane.control_plane.identities.trust.sequence)
    assert refused.status == 403
    assert [answer.headers["Trunkline-Trust-Sequence"] for answer in (refused, unknown)] == [now, now]
    assert int(unlocked.headers["Trunkline-Trust-Sequence"]) < int(now)


async def test_who_holds_the_newest_document_is_not_sent_it_again(plane: RunningControlPlane):
    await plane.node("vm-1")
    current = plane.control_plane.identities.trust.sequence
    assert await plane.ok("GET", f"/api/2.0/trust-document?sequence={current}", token=None) == {"sequence": current}
    for held in (current - 1, current + 1):
        answer = await plane.ok("GET", f"/api/2.0/trust-document?sequence={held}", token=None)
        assert answer == {"sequence": current, "trust_document": plane.control_plane.identities.trust.text}


async def test_the_answer_with_the_document_is_made_once_for_all_who_ask(plane: RunningControlPlane):
    published = plane.control_plane.identities.trust
    [get] = [route.handler for route in plane.control_plane.routes if route.path == "/api/2.0/trust-document"]
    request, caller = make_mocked_request("GET", "/api/2.0/trust-document"), Caller(Actor("anonymous"))

    async def body() -> bytes:
        answer = await get(request, caller)
        assert isinstance(answer, web.Response)
        assert isinstance(answer.body, bytes)
        return answer.body

    first = await body()
    assert await body() is first
    await plane.ok("POST", "/api/2.0/revocations", {"kind": "token", "id": "t-1"})
    assert json.loads(await body()) == {"sequence": published.sequence, "trust_document": published.text}


class Feed:
    """One relay's feed, event by event."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self) -> tuple[str, str]:
        async with asyncio.timeout(30):
            event = (await self._response.content.readuntil(b"\n\n")).decode().strip().split("\n")
        return event[0].removeprefix("event: "), event[1].removeprefix("data: ")

    async def next_document(self) -> str:
        while True:
            kind, text = await self.next()
            if kind == "trust_document":
                return text


async def follow(plane: RunningControlPlane, relay: EnrolledRelay) -> tuple[aiohttp.ClientResponse, Feed]:
    response = await plane.session(relay.identity).get(plane.url + EVENTS)
    assert (response.status, response.content_type) == (200, "text/event-stream")
    return response, Feed(response)


async def test_what_it_says(plane: RunningControlPlane):
    found = await document(plane)
    assert found.trust_domain == "trunkline.test"
    assert found.name_suffix == "trunk.internal"
    assert len(found.roots) == 1
    assert [key.algorithm for key in found.token_keys] == ["ES256"]


async def test_it_names_the_relays_in_service(plane: RunningControlPlane):
    assert (await document(plane)).relays == ()
    relay = await plane.relay("relay-1", port=None)
    before = await document(plane)
    assert before.relays == ()
    for port in (8443, 9443, 9443):
        await plane.ok("PUT", "/api/2.0/relays/self", {"port": port}, identity=relay.identity)
    placed = await document(plane)
    assert placed.relays == ("https://relay-1.test:9443",)
    assert placed.sequence == before.sequence + 2
    await plane.ok("DELETE", f"{plane.account}/relays/{relay.relay_id}")
    assert (await document(plane)).relays == ()


async def test_the_feed_begins_with_the_document_and_then_beats(
    plane: RunningControlPlane, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trust, "HEARTBEAT_SECONDS", 0.05)
    relay = await plane.relay()
    response, feed = await follow(plane, relay)
    assert await feed.next() == ("trust_document", plane.control_plane.identities.trust.text)
    assert await feed.next() == ("quotas", "{}")
    assert await feed.next() == ("heartbeat", str(plane.control_plane.identities.trust.sequence))
    assert await feed.next() == ("heartbeat", str(plane.control_plane.identities.trust.sequence))
    response.close()


async def test_the_feed_says_who_has_quotas(plane: RunningControlPlane, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trust, "HEARTBEAT_SECONDS", 0.05)
    made = await plane.workspace("finance")
    response, feed = await follow(plane, await plane.relay())
    await feed.next_document()
    assert await feed.next() == ("quotas", "{}")
    quotas = {"workspace": {"calls_per_second": 5}}
    await plane.ok("PUT", f"{plane.account}/workspaces/finance/quotas", quotas)
    while (said := await feed.next())[0] != "quotas":
        assert said[0] == "heartbeat"
    assert json.loads(said[1]) == {made["workspace_id"]: quotas | {"sender": {}}}
    response.close()


async def test_a_revocation_reaches_every_follower_at_once(plane: RunningControlPlane, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trust, "HEARTBEAT_SECONDS", 60.0)  # nothing but the revocation makes the feed go on
    relays = [await plane.relay(f"relay-{number}") for number in range(3)]
    feeds = [await follow(plane, relay) for relay in relays]
    for _, feed in feeds:
        await feed.next_document()
    answer = await plane.ok("POST", "/api/2.0/revocations", {"kind": "token", "id": "jti-1"})
    for response, feed in feeds:
        found = verify_trust_document(await feed.next_document(), plane.authority.roots, time.time())
        assert found.sequence == answer["sequence"]
        assert "jti-1" in found.revocations.token_ids
        response.close()


async def test_the_feed_ends_when_the_control_plane_drains(plane: RunningControlPlane, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trust, "HEARTBEAT_SECONDS", 60.0)
    response, feed = await follow(plane, await plane.relay())
    await feed.next_document()
    plane.foundation.draining.set()
    async with asyncio.timeout(30):
        await response.content.read()
    assert response.content.at_eof()


@pytest.mark.parametrize(
    ("kind", "name"),
    [("token", "abc"), ("certificate", "1f"), ("node", "nd-" + "a" * 20), ("workspace", "ws-" + "a" * 20)],
)
async def test_revocations_are_in_the_document_and_survive_a_restart(tmp_path: Path, kind: str, name: str):
    async with running_control_plane(tmp_path) as plane:
        before = (await document(plane)).sequence
        first = await plane.ok("POST", "/api/2.0/revocations", {"kind": kind, "id": name})
        again = await plane.ok("POST", "/api/2.0/revocations", {"kind": kind, "id": name})
        assert first == again == {"sequence": before + 1}
    async with running_control_plane(tmp_path) as plane:
        found = await document(plane)
        assert found.sequence == before + 1
        revoked = found.revocations
        named = [*revoked.token_ids, *revoked.certificates, *revoked.nodes, *revoked.workspaces]
        assert named == [name]


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "token"},
        {"kind": "planet", "id": "x"},
        {"kind": "node", "id": "vm-1"},
        {"kind": "certificate", "id": "xyz"},
        {"kind": "certificate", "id": "0"},
        {"kind": "token", "id": "a b"},
        {"kind": "token", "id": "x", "why": "because"},
    ],
)
async def test_bad_revocations(plane: RunningControlPlane, body: dict[str, str]):
    assert (await plane.call("POST", "/api/2.0/revocations", body)).status == 400


async def test_serial_numbers_in_other_spellings(plane: RunningControlPlane):
    await plane.ok("POST", "/api/2.0/revocations", {"kind": "certificate", "id": "0x00AB"})
    [listed] = (await plane.ok("GET", "/api/2.0/revocations?kind=certificate"))["revocations"]
    assert listed["id"] == "ab"


async def test_a_new_svid_signs_the_same_number_again(plane: RunningControlPlane):
    before = await document(plane)
    text = plane.control_plane.identities.trust.text
    await plane.control_plane.identities.own.renew()
    assert plane.control_plane.identities.trust.text != text
    assert (await document(plane)).sequence == before.sequence

"""A database from before an authority was prepared takes what that has issued, by a document that it has signed."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from certs.chains import verify_chain
from certs.identities import Identity
from certs.trust import verify_trust_document
from control_plane.settings import ControlPlaneSettings
from control_plane.take_back import take_back
from tests.support.control_planes import EnrolledNode, EnrolledRelay, running_control_plane, settings_for
from tests.support.rotations import Rotator
from trunkline.runtime.clock import SystemClock

RENEWED = "and what an authority has issued that this database does not know"


class LaterClock(SystemClock):
    """What happens after the backup happens later."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def now(self) -> float:
        return super().now() + self._seconds


@dataclass
class Lost:
    """What was lost: machines with certificates of the new authority, and documents that it and the old one signed."""

    node: EnrolledNode
    relay: EnrolledRelay
    activated: Path
    rolled_back: Path

    @property
    def identities(self) -> list[Identity]:
        return [self.node.identity, self.relay.identity]


@pytest.fixture
def settings(tmp_path: Path) -> ControlPlaneSettings:
    return settings_for(tmp_path)


@pytest.fixture
async def lost(tmp_path: Path, settings: ControlPlaneSettings) -> Lost:
    """Back up, rotate as far as is shown, and roll back; then restore."""
    async with running_control_plane(tmp_path, settings=settings) as plane:
        node, relay = await plane.node(), await plane.relay()
    shutil.copytree(tmp_path / "state", tmp_path / "backup")
    found = Lost(node, relay, tmp_path / "activated.jws", tmp_path / "rolled-back.jws")
    async with running_control_plane(tmp_path, settings=settings, clock=LaterClock(20)) as plane:
        rotator = Rotator(plane, "ca")
        for step in ("prepare", "activate"):
            await rotator.take(step, force=True, reason="test")
        found.activated.write_text(plane.control_plane.identities.trust.text)
        found.node, found.relay = await rotator.renew(node), await rotator.renew(relay)  # type: ignore[assignment]
    async with running_control_plane(tmp_path, settings=settings, clock=LaterClock(40)) as plane:
        for step in ("rollback", "retire"):
            await Rotator(plane, "ca").take(step, force=True, reason="test")
        found.rolled_back.write_text(plane.control_plane.identities.trust.text)
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "backup").rename(tmp_path / "state")
    return found


async def refused(tmp_path: Path, settings: ControlPlaneSettings, lost: Lost) -> None:
    async with running_control_plane(tmp_path, settings=settings, clock=LaterClock(50)) as plane:
        for machine, kind in zip(lost.identities, ("nodes", "relays"), strict=True):
            answer = await plane.call("POST", f"/api/2.0/{kind}/self/renew", {}, identity=machine)
            assert (answer.status, "trusted no more" in answer.document["message"]) == (401, True)


async def test_machines_renew_what_a_forgotten_authority_has_issued(tmp_path, settings, lost, capsys):
    await refused(tmp_path, settings, lost)
    await take_back(lost.activated, settings)
    assert RENEWED in capsys.readouterr().out
    async with running_control_plane(tmp_path, settings=settings, clock=LaterClock(50)) as plane:
        roots, now = plane.foundation.signers.seats.roots, plane.foundation.clock.now()
        document = verify_trust_document(plane.control_plane.identities.trust.text, roots, now)
        assert (len(document.roots), set(document.roots)) == (1, set(roots))
        for machine in (lost.node, lost.relay):
            renewed = await Rotator(plane, "ca").renew(machine)
            assert verify_chain(renewed.identity.chain, roots, now)
        assert len(await plane.audit(action="certificate.take_back")) == 2
        [event] = await plane.audit(action="trust_document.take_back")
        assert "authority" in event["details"]
        assert (await Rotator(plane, "ca").look())["phase"] == "steady"
        await Rotator(plane, "ca").take("prepare")


async def test_it_is_taken_up_while_the_control_plane_runs(tmp_path, settings, lost):
    async with running_control_plane(tmp_path, settings=settings, clock=LaterClock(50)) as plane:
        other = await plane.relay("relay-2")
        body = {"trust_document": lost.activated.read_text()}
        await plane.ok("POST", "/api/2.0/trust-document/held", body, identity=other.identity)
        await Rotator(plane, "ca").renew(lost.node)


async def test_a_node_that_was_revoked_since_stays_out(tmp_path, settings, lost):
    await take_back(lost.activated, settings)
    async with running_control_plane(tmp_path, settings=settings, clock=LaterClock(50)) as plane:
        await plane.ok("POST", "/api/2.0/revocations", {"kind": "node", "id": lost.node.node_id})
        answer = await plane.call("POST", "/api/2.0/nodes/self/listen-token", {}, identity=lost.node.identity)
        assert (answer.status, answer.document["message"]) == (401, "this node was revoked")


async def test_one_that_a_newer_document_does_not_name_is_ended(tmp_path, settings, lost):
    for held in (lost.activated, lost.rolled_back, lost.activated):
        await take_back(held, settings)
    await refused(tmp_path, settings, lost)


async def test_the_authority_that_signs_now_was_not_forgotten(tmp_path, settings, lost, capsys):
    await take_back(lost.rolled_back, settings)
    assert RENEWED not in capsys.readouterr().out
    await refused(tmp_path, settings, lost)

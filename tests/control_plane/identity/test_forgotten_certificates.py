"""A database that was restored from a backup takes the certificates on record again that were issued since."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from certs.chains import CertificateChain
from certs.encoding import encode_base64url
from certs.identities import Identity, build_csr
from certs.keyfiles import generate_key
from control_plane.identity.renewals import Renewals
from control_plane.storage.audit import Actor
from control_plane.storage.records.nodes import Node
from tests.support.control_planes import EnrolledNode, EnrolledRelay, RunningControlPlane, running_control_plane
from trunkline.runtime.clock import SystemClock

NEW_SEALING_KEY = encode_base64url(b"n" * 32)
OTHER_SEALING_KEY = encode_base64url(b"x" * 32)
SECRETS = "/api/2.0/nodes/self/secrets"


@asynccontextmanager
async def enrolled(directory: Path) -> AsyncIterator[tuple[RunningControlPlane, EnrolledNode, EnrolledRelay]]:
    """A control plane with a node and a relay, of which a backup is made."""
    async with running_control_plane(directory) as plane:
        node, relay = await plane.node(), await plane.relay()
    shutil.copytree(directory / "state", directory / "backup")
    async with running_control_plane(directory) as plane:
        yield plane, node, relay


@asynccontextmanager
async def restored(directory: Path) -> AsyncIterator[RunningControlPlane]:
    shutil.rmtree(directory / "state")
    shutil.copytree(directory / "backup", directory / "state")
    async with running_control_plane(directory) as plane:
        yield plane


async def renewed(plane: RunningControlPlane, who: str, identity: Identity, **body: Any) -> Identity:
    """Renew the certificate of a node or relay, and confirm the next."""
    key = generate_key()
    answer = await plane.ok("POST", f"/api/2.0/{who}/self/renew", {"csr": build_csr(key), **body}, identity=identity)
    successor = Identity(key, CertificateChain.from_pem(answer["certificate_chain"]))
    confirm = "/api/2.0/bootstrap/confirm" if who == "nodes" else "/api/2.0/relays/self/confirm"
    await plane.ok("POST", confirm, {}, identity=successor)
    return successor


async def test_a_node_that_renewed_since_the_backup_is_given_its_secrets_and_a_listen_token(tmp_path: Path):
    async with enrolled(tmp_path) as (plane, node, _):
        identity = await renewed(plane, "nodes", node.identity, sealing_key=NEW_SEALING_KEY)
    async with restored(tmp_path) as plane:
        await plane.ok("POST", SECRETS, {"sealing_key": NEW_SEALING_KEY}, identity=identity)
        await plane.ok("POST", "/api/2.0/nodes/self/listen-token", {}, identity=identity)
        # The key that came with the certificate is learnt once.
        other = await plane.call("POST", SECRETS, {"sealing_key": OTHER_SEALING_KEY}, identity=identity)
        assert other.status == 409
        [event] = await plane.audit(action="certificate.take_back")
        assert event["details"] == {"certificate": identity.serial, "subject_id": node.node_id}
        # A copy of the disk that has the former key is told so.
        former = await plane.call("POST", SECRETS, {"sealing_key": encode_base64url(b"s" * 32)}, identity=node.identity)
        assert former.status == 409


async def test_a_relay_that_renewed_since_the_backup_is_ended_whole(tmp_path: Path):
    async with enrolled(tmp_path) as (plane, _, relay):
        identity = await renewed(plane, "relays", relay.identity)
    async with restored(tmp_path) as plane:
        await plane.ok("PUT", "/api/2.0/relays/self", {"port": 443}, identity=identity)
        await plane.ok("DELETE", f"{plane.account}/relays/relay-1")
        revoked = await plane.ok("GET", "/api/2.0/revocations?kind=certificate")
        assert {row["id"] for row in revoked["revocations"]} == {identity.serial, relay.identity.serial}


async def test_what_enrolled_since_the_backup_stays_out(tmp_path: Path):
    async with enrolled(tmp_path) as (plane, _, _):
        relay = await plane.relay("relay-2")
    async with restored(tmp_path) as plane:
        answer = await plane.call("PUT", "/api/2.0/relays/self", {"port": 443}, identity=relay.identity)
        assert answer.status == 401
        assert not await plane.audit(action="certificate.take_back")


class LaterClock(SystemClock):
    """A clock some seconds after that by which the certificates of a test were issued."""

    def now(self) -> float:
        return super().now() + 5.0


@pytest.mark.parametrize("is_confirmed_first", [True, False])
async def test_a_bootstrap_ends_the_certificates_that_are_forgotten_too(tmp_path: Path, is_confirmed_first: bool):
    async with enrolled(tmp_path) as (plane, node, _):
        stolen = await renewed(plane, "nodes", node.identity)
    async with restored(tmp_path) as plane:
        issuance, clock = plane.control_plane.identities.issuance, LaterClock()
        renewals = Renewals(database=plane.database, issuance=issuance, clock=clock)
        async with plane.database.write() as session:
            row = await session.get(Node, node.node_id)
            assert row is not None
            csr = build_csr(generate_key())
            anew = await issuance.node_certificate(
                session, row, csr, origin="bootstrap", sealing_key=OTHER_SEALING_KEY, now=clock.now()
            )
        asks = ["confirm", "come"] if is_confirmed_first else ["come", "confirm"]
        for ask in asks:
            if ask == "confirm":
                await renewals.confirm(node.workspace_id, node.node_id, anew.serial, Actor("test"))
            else:
                await plane.call("POST", SECRETS, {"sealing_key": NEW_SEALING_KEY}, identity=stolen)
        answer = await plane.call("POST", "/api/2.0/nodes/self/listen-token", {}, identity=stolen)
        assert answer.status == 401, answer
        async with plane.database.read() as session:
            row = await session.get(Node, node.node_id)
            assert row is not None
            assert row.sealing_key == OTHER_SEALING_KEY

"""A certificate that ends while its request waits for the database gets no successor: it could renew its end away."""

from collections.abc import Awaitable, Callable

import pytest

from certs.identities import build_csr
from certs.keyfiles import generate_key
from control_plane.errors import ApiError, ErrorCode
from control_plane.identity import renewals as module
from control_plane.identity.renewals import Renewals
from control_plane.storage.audit import Actor
from tests.support.control_planes import EnrolledNode, EnrolledRelay, RunningControlPlane

ACTOR = Actor("test")
Ask = Callable[[Renewals, EnrolledNode, EnrolledRelay], Awaitable[object]]


def renew_node(renewals: Renewals, node: EnrolledNode, _: EnrolledRelay) -> Awaitable[object]:
    csr = build_csr(generate_key())
    return renewals.renew_node(node.workspace_id, node.node_id, node.identity.serial, csr, None, ACTOR)


def listen_token(renewals: Renewals, node: EnrolledNode, _: EnrolledRelay) -> Awaitable[object]:
    return renewals.listen_token(node.workspace_id, node.node_id, node.identity.serial, ACTOR)


def confirm_node(renewals: Renewals, node: EnrolledNode, _: EnrolledRelay) -> Awaitable[object]:
    return renewals.confirm(node.workspace_id, node.node_id, node.identity.serial, ACTOR)


def renew_relay(renewals: Renewals, _: EnrolledNode, relay: EnrolledRelay) -> Awaitable[object]:
    return renewals.renew_relay(relay.relay_id, relay.identity.serial, build_csr(generate_key()), ACTOR)


def confirm_relay(renewals: Renewals, _: EnrolledNode, relay: EnrolledRelay) -> Awaitable[object]:
    return renewals.confirm_relay(relay.relay_id, relay.identity.serial, ACTOR)


@pytest.mark.parametrize("ended", ["revocations", "locks"])
async def test_what_has_ended_meanwhile_gets_nothing(plane: RunningControlPlane, ended: str):
    """These calls begin where the handler does, after the credential was looked at."""
    node, relay = await plane.node(), await plane.relay()
    fields = {"lifetime_seconds": 60, "reason": "test"} if ended == "locks" else {}
    code = ErrorCode.PERMISSION_DENIED if ended == "locks" else ErrorCode.UNAUTHENTICATED
    renewals = Renewals(
        database=plane.database, issuance=plane.control_plane.identities.issuance, clock=plane.foundation.clock
    )
    asks: list[Ask] = [renew_node, listen_token, confirm_node, renew_relay, confirm_relay]
    for ask in asks:
        await ask(renewals, node, relay)
    for identity in (node.identity, relay.identity):
        body = {"kind": "certificate", "id": identity.serial, **fields}
        await plane.ok("POST", f"/api/2.0/{ended}", body)
    for ask in asks:
        with pytest.raises(ApiError, match=r"this certificate (was revoked|is locked)") as refusal:
            await ask(renewals, node, relay)
        assert refusal.value.code is code


@pytest.mark.parametrize("ask", [renew_node, renew_relay])
async def test_each_renews_so_often_in_the_lifetime_of_a_certificate(
    plane: RunningControlPlane, monkeypatch: pytest.MonkeyPatch, ask: Ask
):
    """Each certificate that is good is a row, and a revocation when its holder is deleted or comes back."""
    monkeypatch.setattr(module, "MOST_IN_A_LIFETIME", 4, raising=False)
    node, relay, others = await plane.node("vm-1"), await plane.relay("one"), (await plane.node("vm-2"))
    renewals = Renewals(
        database=plane.database, issuance=plane.control_plane.identities.issuance, clock=plane.foundation.clock
    )
    for _ in range(2):
        await ask(renewals, node, relay)
    with pytest.raises(ApiError) as refusal:
        await ask(renewals, node, relay)
    assert refusal.value.code is ErrorCode.RESOURCE_EXHAUSTED
    await ask(renewals, others, await plane.relay("two"))

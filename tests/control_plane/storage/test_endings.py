"""What has ended since its request was let in is given nothing more: no secrets, no init scripts."""

from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry

from control_plane.errors import ApiError, ErrorCode
from control_plane.init_scripts.node_inits import LastPlan, NodeInits
from control_plane.metrics import ControlPlaneMetrics
from control_plane.storage.audit import Actor
from tests.support.control_planes import SEALING_KEY, TRUST_DOMAIN, EnrolledNode, RunningControlPlane

ACTOR = Actor("test")
SECRETS = "/w/finance/api/2.0/secrets"
Ask = Callable[[RunningControlPlane, EnrolledNode], Awaitable[object]]


async def ask_for_secrets(plane: RunningControlPlane, node: EnrolledNode) -> None:
    bundles = plane.control_plane.secrets.bundles
    serial = node.identity.serial
    handed = await bundles.hand(
        node.node_id, node.workspace_id, serial, sealing_key=SEALING_KEY, held=None, actor=ACTOR
    )
    assert handed.sealed is not None


async def ask_for_scripts(plane: RunningControlPlane, node: EnrolledNode) -> None:
    inits = NodeInits(
        database=plane.database,
        trust_domain=TRUST_DOMAIN,
        metrics=ControlPlaneMetrics(CollectorRegistry()),
        clock=plane.foundation.clock,
    )
    await inits.hand(node.node_id, node.workspace_id, node.identity.serial, has=LastPlan("a" * 32, 0), actor=ACTOR)


@pytest.mark.parametrize("kind", ["certificate", "node", "workspace"])
@pytest.mark.parametrize("ended", ["revocations", "locks"])
async def test_what_has_ended_meanwhile_is_handed_nothing(plane: RunningControlPlane, ended: str, kind: str):
    """These calls begin where the handler does, after the credential was looked at and the body has come."""
    node = await plane.node()
    await plane.ok("POST", f"{SECRETS}/scopes/create", {"scope": "db"})
    await plane.ok("POST", f"{SECRETS}/put", {"scope": "db", "key": "password", "string_value": "hunter2"})
    await plane.ok("POST", f"{SECRETS}/grants/put", {"scope": "db", "target": {"all": True}})
    asks: list[Ask] = [ask_for_secrets, ask_for_scripts]
    for ask in asks:
        await ask(plane, node)
    name = {"certificate": node.identity.serial, "node": node.node_id, "workspace": node.workspace_id}[kind]
    fields = {"lifetime_seconds": 60, "reason": "test"} if ended == "locks" else {}
    await plane.ok("POST", f"/api/2.0/{ended}", {"kind": kind, "id": name, **fields})
    code = ErrorCode.PERMISSION_DENIED if ended == "locks" else ErrorCode.UNAUTHENTICATED
    for ask in asks:
        with pytest.raises(ApiError, match=rf"this {kind} (was revoked|is locked)") as refusal:
            await ask(plane, node)
        assert refusal.value.code is code

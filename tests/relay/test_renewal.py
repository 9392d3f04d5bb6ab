import asyncio
import random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from certs.identities import relay_id
from relay.control_plane_client import ControlPlaneClient
from relay.identity import OwnIdentity
from relay.metrics import RelayMetrics
from relay.renewal import RENEW_PATH, Renewal, renew_at
from tests.support.identities import IdentityKit
from tests.support.relay_trust import TrustPress
from tests.support.scripted_control_plane import ScriptedControlPlane
from trunkline.runtime.clock import ManualClock
from trunkline.runtime.logs import get_logger


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("identities"))


def test_it_is_time_in_the_middle_of_the_life(kit: IdentityKit):
    identity = kit.issue_relay(lifetime_seconds=86400)
    start, end = identity.chain.not_before, identity.not_after
    for seed in range(20):
        part = (renew_at(identity, random.Random(seed)) - start) / (end - start)
        assert 0.5 <= part <= 0.6


async def test_a_new_key_every_time_and_again_after_failures(kit: IdentityKit, tmp_path):
    control_plane = ScriptedControlPlane()
    requests: list[str] = []

    def answer(document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        requests.append(document["csr"])
        if len(requests) == 1:
            return 503, {}
        if len(requests) == 2:
            return 200, {"certificate_chain": kit.issue_relay().chain.pem}
        spiffe_id = relay_id(kit.trust_domain, "rl-one")
        chain = kit.authority.issue_relay(document["csr"], spiffe_id, ("localhost",), 86400, now=kit.now)
        return 200, {"certificate_chain": chain.pem}

    control_plane.answer("POST", RENEW_PATH, answer)
    own = OwnIdentity(kit.issue_relay(lifetime_seconds=7200), tmp_path / "identity.pem")
    before = own.current
    metrics = RelayMetrics(CollectorRegistry())
    renewed = asyncio.Event()
    own.subscribe(lambda _: renewed.set())
    async with control_plane.serve(kit.server_tls().context):
        client = ControlPlaneClient(control_plane.url, kit.client_tls(own.current))
        renewal = Renewal(
            client=client,
            identity=own,
            store=TrustPress(kit).store(),
            metrics=metrics,
            clock=ManualClock(now=kit.now + 5000),
            rng=random.Random(1),
            log=get_logger("test.renewal"),
        )
        task = asyncio.create_task(renewal.run())
        await renewed.wait()
        task.cancel()
        await asyncio.wait([task])
        await client.close()
    assert own.current.serial != before.serial
    assert len(set(requests)) == 3
    assert metrics.renewals.of("failed").count == 2
    assert metrics.renewals.of("renewed").count == 1

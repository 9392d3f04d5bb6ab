"""A feed whose events are dropped, doubled, reordered or rolled back: the relay resynchronises, or refuses."""

import asyncio
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from certs.trust import TrustDocument, verify_trust_document
from relay.control_plane.client import ControlPlaneClient
from relay.control_plane.events import ServerEvent
from relay.control_plane.trust_adoption import TrustAdoption
from relay.control_plane.trust_feed import TrustFeed
from relay.metrics import RelayMetrics
from relay.trust.in_force import TrustInForce
from relay.trust.uses import Uses
from tests.support.identities import IdentityKit
from tests.support.relay_trust import TrustPress
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import ManualClock
from trunkline.runtime.logs import get_logger

PUBLISHED = 8


class Links:
    def __init__(self) -> None:
        self.uses = Uses()

    def push_trust(self, document: str) -> None:
        pass


class Snapshots:
    """A control plane of which only the snapshot is asked."""

    def __init__(self, newest: str) -> None:
        self.newest = newest

    async def call(self, method: str, path: str, document: Any = None) -> dict[str, str]:
        return {"trust_document": self.newest}


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("identities"))


@pytest.fixture(scope="module")
def published(kit: IdentityKit) -> list[str]:
    """Documents 1 to 8; each revokes one token more."""
    press = TrustPress(kit)
    return [press.document(token_ids=[f"jti-{number}" for number in range(count)]) for count in range(PUBLISHED)]


def _feed(kit: IdentityKit, published: list[str]) -> tuple[TrustFeed, TrustAdoption, TrustInForce]:
    clock = ManualClock(now=kit.now)
    press = TrustPress(kit)
    store = press.store()
    trust = TrustInForce(store, clock, cache_entries=10)
    metrics = RelayMetrics(CollectorRegistry())
    adoption = TrustAdoption(
        store=store,
        trust=trust,
        registry=Links(),
        roots_changed=lambda: None,
        own_root=lambda: None,
        metrics=metrics,
        report=lambda kind, **members: None,
        clock=clock,
        log=get_logger("test.trust"),
    )
    client: ControlPlaneClient = Snapshots(published[-1])  # type: ignore[assignment]
    feed = TrustFeed(
        client=client, adopter=adoption, confirmed=lambda: None, refused=lambda *told: None,
        take_quotas=lambda text: None, metrics=metrics, clock=clock,
        backoff=Backoff(random.Random(1)), log=get_logger("test.trust"),
    )  # fmt: skip
    return feed, adoption, trust


def _content(kit: IdentityKit, text: str | None) -> TrustDocument:
    assert text is not None
    return verify_trust_document(text, kit.roots, kit.now)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.lists(st.integers(0, PUBLISHED - 1), max_size=24))
def test_whatever_arrives_trust_never_goes_back_and_the_next_heartbeat_completes_it(kit, published, order):
    """`order` is any selection of the published documents: dropped, doubled, and in any order."""
    feed, adoption, _ = _feed(kit, published)

    async def run() -> None:
        before = adoption.sequence
        for index in order:
            await feed._take(ServerEvent("trust_document", published[index]))
            assert adoption.sequence >= before
            before = adoption.sequence
            revoked = _content(kit, adoption.held).revocations.token_ids
            assert len(revoked) == adoption.sequence - 1
        await feed._take(ServerEvent("heartbeat", str(PUBLISHED)))

    asyncio.run(run())
    assert adoption.sequence == PUBLISHED
    assert len(_content(kit, adoption.held).revocations.token_ids) == PUBLISHED - 1


async def test_other_content_under_a_number_in_force_is_refused(kit, published):
    feed, adoption, trust = _feed(kit, published)
    await feed._take(ServerEvent("trust_document", published[4]))
    standing = trust.standing
    forgetful = TrustPress(kit).document(sequence=5)
    await feed._take(ServerEvent("trust_document", forgetful))
    assert trust.standing is standing
    assert adoption.held == published[4]

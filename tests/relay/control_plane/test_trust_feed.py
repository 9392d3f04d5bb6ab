import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from certs.errors import CertificateError
from certs.trust import fingerprint_of_text
from relay.control_plane.client import ControlPlaneClient
from relay.control_plane.trust_feed import SILENCE_SECONDS, SNAPSHOT_PATH, TrustFeed, feed_backoff
from relay.control_plane.trust_hand_over import HELD_PATH
from relay.metrics import RelayMetrics
from tests.support.identities import IdentityKit, none_ended
from tests.support.scripted_control_plane import ScriptedControlPlane
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock, SystemClock
from trunkline.runtime.logs import get_logger


class Adopter:
    """Adopts `doc-<n>` if n is not older; refuses everything else."""

    def __init__(self) -> None:
        self.sequence = 0
        self.held: str | None = None
        self.confirmations = 0
        self.changed = asyncio.Event()
        self.refused: list[str] = []
        self.quotas: list[str] = []

    def adopt(self, document: str) -> bool:
        number = document.removeprefix("doc-")
        self.changed.set()
        if not number.isdecimal() or int(number) < self.sequence:
            self.refused.append(document)
            raise CertificateError("refused")
        changed, self.sequence = int(number) != self.sequence, int(number)
        return changed

    def confirmed(self) -> None:
        self.confirmations += 1
        self.changed.set()

    async def reach(self, sequence: int) -> None:
        while self.sequence < sequence:
            self.changed.clear()
            await self.changed.wait()

    async def confirm(self, times: int) -> None:
        while self.confirmations < times:
            self.changed.clear()
            await self.changed.wait()


class Following:
    """A feed that runs against a fake control plane."""

    def __init__(
        self,
        client: ControlPlaneClient,
        control_plane: ScriptedControlPlane,
        adopter: Adopter,
        metrics: CollectorRegistry,
    ) -> None:
        self.client = client
        self.control_plane = control_plane
        self.adopter = adopter
        self._metrics = metrics

    def metric(self, line: str) -> bool:
        return f"\ntrunkline_relay_{line}" in generate_latest(self._metrics).decode()


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("identities"))


def feed_of(
    client: ControlPlaneClient,
    adopter: Adopter,
    registry: CollectorRegistry,
    clock: Clock,
    silence_seconds: float = SILENCE_SECONDS,
) -> TrustFeed:
    return TrustFeed(
        client=client,
        adopter=adopter,
        confirmed=adopter.confirmed,
        refused=lambda status, reason: None,
        take_quotas=adopter.quotas.append,
        metrics=RelayMetrics(registry),
        clock=clock,
        backoff=Backoff(random.Random(1), cap_seconds=0.01),
        log=get_logger("test.trust"),
        silence_seconds=silence_seconds,
    )


@asynccontextmanager
async def follow(kit: IdentityKit, *greeting: bytes, silence_seconds: float = 10.0) -> AsyncIterator[Following]:
    control_plane = ScriptedControlPlane()
    control_plane.greeting = list(greeting)
    registry = CollectorRegistry()
    adopter = Adopter()
    async with control_plane.serve(kit.server_tls().context):
        client = ControlPlaneClient(control_plane.url, kit.client_tls(kit.issue_relay()), verdict=none_ended)
        feed = feed_of(client, adopter, registry, SystemClock(), silence_seconds)
        task = asyncio.create_task(feed.run())
        yield Following(client, control_plane, adopter, registry)
        task.cancel()
        await asyncio.wait([task])
        await client.close()


def event(number: int) -> bytes:
    return f"event: trust_document\ndata: doc-{number}\n\n".encode()


def heartbeat(number: int) -> bytes:
    return f"event: heartbeat\ndata: {number}\n\n".encode()


async def test_documents_are_adopted_as_they_come(kit: IdentityKit):
    async with follow(kit, event(1)) as following:
        await following.adopter.reach(1)
        following.control_plane.feed(heartbeat(1) + event(2))
        await following.adopter.reach(2)
        assert following.metric('trust_feed_connects_total{result="connected"} 1.0')
        assert following.metric("trust_feed_last_heard_timestamp_seconds 1")
        assert following.control_plane.asked == []


def test_revocations_wait_no_longer_for_a_control_plane_that_is_back_the_longer_it_was_away():
    backoff, now, pauses = feed_backoff(random.Random(1)), 0.0, []
    while now < 3600:
        pauses.append(backoff.next_delay_seconds(now))
        now += pauses[-1] + 0.5
    assert 4 < max(pauses) <= 5


async def test_quotas_are_handed_on(kit: IdentityKit):
    async with follow(kit, event(1)) as following:
        await following.adopter.reach(1)
        following.control_plane.feed(b'event: quotas\ndata: {"ws-1": {}}\n\n' + event(2))
        await following.adopter.reach(2)
        assert following.adopter.quotas == ['{"ws-1": {}}']


async def test_a_gap_is_filled_by_a_snapshot(kit: IdentityKit):
    async with follow(kit, event(1)) as following:
        following.control_plane.answer("GET", SNAPSHOT_PATH, lambda _: (200, {"trust_document": "doc-5"}))
        await following.adopter.reach(1)
        following.control_plane.feed(heartbeat(5))
        await following.adopter.reach(5)


async def test_an_older_document_is_refused_and_the_feed_goes_on(kit: IdentityKit):
    async with follow(kit, event(7)) as following:
        await following.adopter.reach(7)
        following.control_plane.feed(event(6) + b"event: trust_document\ndata: garbage\n\n" + event(8))
        await following.adopter.reach(8)
        assert following.adopter.refused == ["doc-6", "garbage"]
        assert following.metric('trust_documents_refused_total{reason="CertificateError"} 2.0')


async def test_trust_is_confirmed_by_what_agrees_with_it_and_by_nothing_else(kit: IdentityKit):
    async with follow(kit, event(3)) as following:
        await following.adopter.confirm(1)
        following.control_plane.feed(
            heartbeat(3) + b"event: trust_document\ndata: garbage\n\n" + event(2) + heartbeat(3)
        )
        await following.adopter.confirm(3)
        assert following.adopter.refused == ["garbage", "doc-2"]
        assert following.adopter.confirmations == 3


async def test_it_says_what_it_holds_and_hands_it_over_where_that_is_not_known(kit: IdentityKit):
    held = kit.trust_document(12)
    async with follow(kit, event(14)) as following:
        await following.adopter.reach(14)
        following.adopter.held, following.adopter.sequence = held, 12
        taken = []

        def take(document: dict[str, str]) -> tuple[int, dict[str, int]]:
            taken.append(document["trust_document"])
            following.control_plane.unknown.clear()
            following.control_plane.greeting = [event(13)]
            return 200, {"sequence": 13}

        following.control_plane.unknown = {"12"}
        following.control_plane.answer("POST", HELD_PATH, take)
        with capture_logs() as lines:
            following.control_plane.feed(heartbeat(10))
            await following.adopter.reach(13)
        assert taken == [held]
        # Nothing has failed, after which there would be a pause: of half a minute, after a long outage.
        assert [line["event"] for line in lines] == ["trust.feed_lost", "trust.handed_over", "trust.following"]
        query = following.control_plane.queries[-1]
        assert query == {"sequence": "12", "fingerprint": fingerprint_of_text(held)}


async def test_a_document_that_is_not_taken_back_is_not_offered_again(kit: IdentityKit):
    async with follow(kit, event(14)) as following:
        await following.adopter.reach(14)
        following.adopter.held, following.adopter.sequence = kit.trust_document(12), 12
        following.control_plane.unknown = {"12"}
        following.control_plane.answer("POST", HELD_PATH, lambda _: (400, {"message": "not of this trust domain"}))
        following.control_plane.greeting = [heartbeat(10)]
        following.control_plane.followed.clear()
        following.control_plane.feed(heartbeat(10))
        await following.control_plane.followed.wait()
        assert following.control_plane.queries[-1] == {}
        # It follows on, is never taken back to an older number, and does not count itself as up to date.
        confirmations = following.adopter.confirmations
        following.control_plane.feed(heartbeat(10) + event(15))
        await following.adopter.reach(15)
        assert following.adopter.confirmations == confirmations + 1


async def test_it_connects_anew_when_the_stream_ends(kit: IdentityKit):
    async with follow(kit, event(1)) as following:
        await following.adopter.reach(1)
        following.control_plane.greeting = [event(2)]
        following.control_plane.hang_up()
        await following.adopter.reach(2)
        assert following.metric('trust_feed_connects_total{result="connected"} 2.0')


async def test_a_renewal_of_the_relays_own_identity_is_no_loss_of_the_feed(kit: IdentityKit):
    async with follow(kit, event(1)) as following:
        await following.adopter.reach(1)
        following.control_plane.greeting = [event(2)]
        closing = []
        with capture_logs() as lines:
            following.client.swap(kit.client_tls(kit.issue_relay()), closing.append)
            await closing[0]
            await following.adopter.reach(2)
        assert lines == []
        assert following.metric('trust_feed_connects_total{result="connected"} 1.0')


async def test_silence_ends_the_stream(kit: IdentityKit):
    async with follow(kit, event(1), silence_seconds=0.05) as following:
        await following.adopter.reach(1)
        following.control_plane.greeting = [event(2)]
        await following.adopter.reach(2)


@pytest.mark.parametrize("garbage", [b"event: heartbeat\ndata: soon\n\n", b"data: \xff\n\n"])
async def test_garbage_ends_the_stream_and_not_the_feed(kit: IdentityKit, garbage):
    async with follow(kit, event(1)) as following:
        await following.adopter.reach(1)
        following.control_plane.greeting = [event(2)]
        following.control_plane.feed(garbage)
        await following.adopter.reach(2)


async def test_a_control_plane_that_is_not_trusted_is_not_followed(kit: IdentityKit, tmp_path: Path):
    stranger = IdentityKit(tmp_path)
    control_plane = ScriptedControlPlane()
    control_plane.greeting = [event(1)]
    registry = CollectorRegistry()
    adopter = Adopter()
    failed = asyncio.Event()

    class FirstLook(SystemClock):
        def monotonic(self) -> float:
            failed.set()
            return 0.0

    async with control_plane.serve(stranger.server_tls().context):
        client = ControlPlaneClient(control_plane.url, kit.client_tls(kit.issue_relay()), verdict=none_ended)
        feed = feed_of(client, adopter, registry, FirstLook())
        with capture_logs() as lines:
            task = asyncio.create_task(feed.run())
            await failed.wait()
            task.cancel()
            await asyncio.wait([task])
        await client.close()
    assert [(line["log_level"], line["event"]) for line in lines] == [("warning", "trust.feed_unreachable")]
    assert "control_plane.ca_file" in lines[0]["reason"]
    assert adopter.sequence == 0
    assert control_plane.followers == []

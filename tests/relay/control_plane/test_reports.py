import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from relay.control_plane.client import ControlPlaneClient
from relay.control_plane.report_sender import REPORTS_PATH, ReportSender
from relay.control_plane.reports import MAX_REFUSAL_KINDS, Reports
from relay.metrics import RelayMetrics
from relay.settings import ReportsSettings
from relay.trust.credentials import Credential, Destination
from tests.support.identities import IdentityKit, none_ended
from tests.support.scripted_control_plane import ScriptedControlPlane
from trunkline.channel.outcomes import Outcome
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import ManualClock, SystemClock
from trunkline.runtime.logs import get_logger

HERE = Destination("finance", "vm-1", 80)


class Fixture:
    def __init__(self, **settings: Any) -> None:
        self.registry = CollectorRegistry()
        self.clock = ManualClock(now=1000.0)
        self.reports = Reports(
            settings=ReportsSettings(**settings), metrics=RelayMetrics(self.registry), clock=self.clock
        )

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0.001)

    def metric(self, line: str) -> bool:
        return f"\ntrunkline_relay_{line}" in generate_latest(self.registry).decode()


def test_events_come_out_in_order_and_in_batches():
    fixture = Fixture(max_batch=2)
    for number in range(3):
        fixture.reports.add("trust", sequence=number)
    first = fixture.reports.next_batch()
    assert first is not None
    assert first.items == [
        {"type": "trust", "time": 1_000_000, "sequence": 0},
        {"type": "trust", "time": 1_000_000, "sequence": 1},
    ]
    assert fixture.reports.next_batch() is first
    fixture.reports.taken(first)
    second = fixture.reports.next_batch()
    assert second is not None
    assert second.sequence == first.sequence + 1
    assert [item["sequence"] for item in second.items] == [2]
    fixture.reports.taken(second)
    assert fixture.reports.next_batch() is None
    assert fixture.metric("reports_sent_total 3.0")


def test_what_does_not_fit_is_counted():
    fixture = Fixture(max_waiting=5)
    for _ in range(100):
        fixture.reports.add("cut")
    batch = fixture.reports.next_batch()
    assert batch is not None
    assert (len(batch.items), batch.dropped) == (5, 95)
    fixture.reports.taken(batch)
    assert fixture.reports.next_batch() is None
    assert fixture.metric("reports_dropped_total 95.0")


def test_a_flood_of_refusals_becomes_a_few_items():
    fixture = Fixture(fold_seconds=10.0)
    known = Credential(None, subject="x", ends_at=0.0)
    known.token_id = "jti-1"
    for number in range(5000):
        fixture.reports.refused(Outcome.BAD_TOKEN, Destination(f"w{number}", f"n{number}", 80), None)
        fixture.reports.refused(Outcome.MISSING_SCOPE, HERE, known)
    assert fixture.reports.next_batch() is None
    fixture.clock.advance(10.0)
    batch = fixture.reports.next_batch()
    assert batch is not None
    assert [{name: item[name] for name in item if name not in ("time", "type")} for item in batch.items] == [
        {"count": 5000, "outcome": "bad_token"},
        {"count": 5000, "outcome": "missing_scope", "workspace": "finance", "token_id": "jti-1"},
    ]


def test_kinds_of_refusals_are_bounded_too():
    fixture = Fixture()
    for number in range(MAX_REFUSAL_KINDS * 3):
        credential = Credential(None, subject="x", ends_at=0.0)
        credential.token_id = f"jti-{number}"
        fixture.reports.refused(Outcome.MISSING_SCOPE, HERE, credential)
    fixture.reports.fold()
    assert fixture.metric(f"reports_waiting {MAX_REFUSAL_KINDS + 1}.0")


def test_a_batch_that_is_never_taken_is_dropped():
    fixture = Fixture()
    fixture.reports.add("cut")
    batch = fixture.reports.next_batch()
    assert batch is not None
    fixture.reports.abandon(batch)
    following = fixture.reports.next_batch()
    assert following is not None
    assert (following.items, following.dropped) == ([], 1)


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("identities"))


async def test_a_batch_is_sent_again_under_its_number_until_it_is_taken(kit: IdentityKit):
    fixture = Fixture()
    control_plane = ScriptedControlPlane()
    answers = iter([(503, {"error_code": "X", "message": "later"}), (500, {}), (200, {})])
    control_plane.answer("POST", REPORTS_PATH, lambda _: next(answers))
    async with control_plane.serve(kit.server_tls().context):
        client = ControlPlaneClient(control_plane.url, kit.client_tls(), verdict=none_ended)
        sender = ReportSender(
            client=client,
            reports=fixture.reports,
            reporter="rl-one",
            interval_seconds=0.001,
            clock=SystemClock(),
            backoff=Backoff(random.Random(1), cap_seconds=0.001),
            log=get_logger("test.reports"),
        )
        fixture.reports.add("cut", count=1)
        task = asyncio.create_task(sender.run())
        documents = await control_plane.wait_for(REPORTS_PATH, 3)
        await fixture.until(lambda: fixture.reports.next_batch() is None)
        fixture.reports.add("cut", count=2)
        control_plane.answer("POST", REPORTS_PATH, lambda _: (400, {"error_code": "X", "message": "bad"}))
        await control_plane.wait_for(REPORTS_PATH, 4)
        await fixture.until(lambda: fixture.metric("reports_dropped_total 1.0"))
        task.cancel()
        await asyncio.wait([task])
        control_plane.answer("POST", REPORTS_PATH, lambda _: (200, {}))
        await sender.flush(30.0)
        await client.close()
    assert documents[0] == documents[1] == documents[2]
    assert documents[0]["reporter"] == "rl-one"
    assert documents[0]["items"] == [{"type": "cut", "time": 1_000_000, "count": 1}]
    last = (await control_plane.wait_for(REPORTS_PATH, 5))[-1]
    assert (last["items"], last["dropped"]) == ([], 1)


async def test_at_the_end_what_cannot_be_sent_is_lost_in_time():
    fixture = Fixture()
    fixture.reports.add("cut")
    kept = fixture.reports

    class Nobody(ControlPlaneClient):
        def __init__(self) -> None: ...

        async def call(self, *_: Any) -> dict[str, Any]:
            await asyncio.Event().wait()
            return {}

    sender = ReportSender(
        client=Nobody(),
        reports=kept,
        reporter="rl-one",
        interval_seconds=1.0,
        clock=SystemClock(),
        backoff=Backoff(random.Random(1)),
        log=get_logger("test.reports"),
    )
    await sender.flush(0.01)

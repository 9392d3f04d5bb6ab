"""A document is adopted once every worker that serves has it in force, or has ended."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from certs.errors import CertificateError
from certs.trust import TrustStore
from relay.metrics import RelayMetrics
from relay.workers.adoption import SharedAdoption, added_up
from tests.support.identities import IdentityKit
from tests.support.relay_trust import TrustPress
from trunkline.runtime.clock import ManualClock
from trunkline.runtime.logs import get_logger


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("identities"))


class Fixture:
    def __init__(self, kit: IdentityKit) -> None:
        self.press = TrustPress(kit)
        self.clock = ManualClock(now=kit.now)
        self.store = TrustStore()
        self.store.replace(self.press.document(), kit.now)
        self.serving: set[int] = {1, 2}
        self.handed: list[str] = []
        self.reported: list[dict[str, Any]] = []
        self.registry = CollectorRegistry()
        self.adoption = SharedAdoption(
            store=self.store,
            serving=lambda: self.serving,
            hand_out=self.handed.append,
            own_root=lambda: "root",
            metrics=RelayMetrics(self.registry),
            report=lambda kind, **members: self.reported.append(members),
            clock=self.clock,
            log=get_logger("test"),
        )


def cause(name: str, **counts: int) -> dict[str, Any]:
    return {"cause": "revocation", "kind": "token", "id": name, **counts}


def test_it_is_reported_once_by_all_as_one_sum(kit: IdentityKit) -> None:
    fixture = Fixture(kit)
    document = fixture.press.document()
    assert fixture.adoption.adopt(document)
    assert fixture.handed == [document]
    sequence = fixture.adoption.sequence
    fixture.adoption.adopted(1, sequence, 2, [cause("jti-1", streams=2)])
    assert fixture.reported == []
    fixture.adoption.report_standing()
    assert fixture.reported.pop() == {"sequence": sequence - 1, "root": "root"}
    fixture.adoption.adopted(2, sequence, 4, [cause("jti-1", streams=1, links=2), cause("jti-2", streams=1)])
    [report] = fixture.reported
    assert (report["sequence"], report["cut"]) == (sequence, 6)
    assert report["cuts"] == [cause("jti-1", streams=3, links=2), cause("jti-2", streams=1)]
    fixture.adoption.adopted(2, sequence, 4, [])
    assert len(fixture.reported) == 1


def test_a_worker_that_ends_is_not_waited_for(kit: IdentityKit) -> None:
    fixture = Fixture(kit)
    fixture.adoption.adopt(fixture.press.document())
    fixture.adoption.adopted(1, fixture.adoption.sequence, 1, [])
    fixture.adoption.ended(2)
    assert [report["cut"] for report in fixture.reported] == [1]


def test_without_a_worker_that_serves_it_is_adopted_at_once(kit: IdentityKit) -> None:
    fixture = Fixture(kit)
    fixture.serving.clear()
    fixture.adoption.adopt(fixture.press.document())
    assert [report["sequence"] for report in fixture.reported] == [fixture.adoption.sequence]


def test_one_that_has_a_newer_one_has_the_older_too(kit: IdentityKit) -> None:
    fixture = Fixture(kit)
    first = fixture.adoption.sequence + 1
    fixture.adoption.adopt(fixture.press.document())
    fixture.adoption.adopt(fixture.press.document())
    for worker in (1, 2):
        fixture.adoption.adopted(worker, first + 1, 0, [])
    assert [report["sequence"] for report in fixture.reported] == [first, first + 1]


def test_what_is_refused_is_handed_to_nobody(kit: IdentityKit) -> None:
    fixture = Fixture(kit)
    with pytest.raises(CertificateError):
        fixture.adoption.adopt("nonsense")
    assert fixture.store.text is not None
    assert not fixture.adoption.adopt(fixture.store.text)
    assert fixture.handed == []


def test_causes_of_several_workers_are_one_item_each() -> None:
    assert added_up([cause("a", streams=1), cause("b", streams=1), cause("a", streams=2)]) == [
        cause("a", streams=3),
        cause("b", streams=1),
    ]

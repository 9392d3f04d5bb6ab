"""What a node does without end is told a few times a minute, with how often it happened; others miss nothing by it."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.links.link_events import MOST_ALARMS_OF_A_NODE, MOST_OF_A_NODE, MOST_REMEMBERED, WINDOW_SECONDS, LinkEvents
from relay.trust.credentials import Credential, ListenerGrant
from trunkline.runtime.logs import get_logger


def grant(node: str) -> ListenerGrant:
    return ListenerGrant(
        Credential(None, subject=node, ends_at=1e12), "ws-1", f"nd-{node}", "finance", node, "spiffe://x/y", "thumb"
    )


class Told:
    """Events, with what was reported of them, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reported: list[tuple[str, dict[str, Any]]] = []
        self.events = LinkEvents(self._report, get_logger("test.links"), lambda: self.now)

    def _report(self, kind: str, **members: Any) -> None:
        self.reported.append((kind, members))

    def of(self, node: str) -> list[int]:
        return [members.get("count", 1) for _, members in self.reported if members["node_id"] == f"nd-{node}"]


@pytest.mark.parametrize(("alarm", "most"), [(False, MOST_OF_A_NODE), (True, MOST_ALARMS_OF_A_NODE)])
def test_a_few_in_a_minute_and_then_how_many_there_were(alarm: bool, most: int) -> None:
    told = Told()

    def happen(node: str) -> None:
        if alarm:
            told.events.cloned(grant(node), "instance")
        else:
            told.events.attached(grant(node), "instance", 1)

    with capture_logs() as lines:
        for _ in range(most + 20):
            happen("vm-1")
        happen("vm-2")
        assert told.of("vm-1") == [1] * most
        told.now = WINDOW_SECONDS
        happen("vm-1")
    assert told.of("vm-1") == [*[1] * most, 21]
    assert told.of("vm-2") == [1]
    assert len(lines) == most + 2
    assert lines[-1]["count"] == 21


def test_one_kind_leaves_nothing_out_of_another() -> None:
    told = Told()
    for _ in range(MOST_OF_A_NODE + 1):
        told.events.attached(grant("vm-1"), "instance", 1)
    told.events.detached(grant("vm-1"), 1)
    told.events.refused(grant("vm-1"), "clone")
    assert [kind for kind, _ in told.reported[-2:]] == ["link_detached", "link_refused"]


def test_what_is_remembered_is_bounded() -> None:
    told = Told()
    for number in range(MOST_REMEMBERED + 10):
        told.events.refused(grant(f"vm-{number}"), "clone")
    assert len(told.events._told) == MOST_REMEMBERED

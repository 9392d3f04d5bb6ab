"""What the parent keeps of workers for one that is started later."""

from collections.abc import Coroutine
from typing import Any

from relay.admission.quota_form import Quota, WorkspaceQuotas
from relay.workers.shared_quotas import SharedQuotas
from relay.workers.switchboard import Switchboard


class Workers:
    """Notes what is said to workers."""

    def __init__(self) -> None:
        self.told: list[tuple[int, str, dict[str, Any]]] = []

    def send(self, place: int, kind: str, **members: Any) -> None:
        self.told.append((place, kind, members))

    def send_all(self, kind: str, *, but: int | None = None, **members: Any) -> list[int]:
        return []

    def link_again(self, one: int, other: int) -> None: ...


def spawn(coroutine: Coroutine[Any, Any, object]) -> None: ...


def test_a_worker_that_is_started_later_counts_what_is_open_at_others_under_quotas() -> None:
    workers = Workers()
    switchboard = Switchboard(workers, spawn=spawn, counted=lambda nodes: None, ping_seconds=3.0)
    for opened in (1, 0, 2):
        switchboard.on_used(1, [("ws-1", "ann", 1, 100, opened), ("ws-1", "bob", 1, 100, 0)])
    switchboard.on_serving(2)
    [(place, kind, members)] = workers.told
    assert (place, kind) == (2, "used")
    later = SharedQuotas(2)
    later.replace({"ws-1": WorkspaceQuotas(sender=Quota(concurrent_calls=2))})
    later.charge(now=0.0, **members)
    ann, bob = later.use("ws-1", "ann", 0.0), later.use("ws-1", "bob", 0.0)
    assert ann is not None
    assert ann.excess(0.0) == "this sender makes too many calls at once"
    assert bob is not None
    assert bob.excess(0.0) is None
    switchboard.ended(1)
    workers.told.clear()
    switchboard.on_serving(2)
    assert not workers.told

"""Quotas that hold for two workers together."""

from relay.admission.quota_form import Quota, WorkspaceQuotas
from relay.admission.quotas import BURST_SECONDS, MOST_OWED_SECONDS, Use
from relay.workers.shared_quotas import TELL_SECONDS, SharedQuotas

UNBOUNDED = Quota(None, None, None)


class Pair:
    """Two workers' meters; what is used is told every `TELL_SECONDS`."""

    def __init__(self, workspace: Quota = UNBOUNDED, sender: Quota = UNBOUNDED) -> None:
        self.workers = [SharedQuotas(2), SharedQuotas(2)]
        self.hold_to({"ws-1": WorkspaceQuotas(workspace, sender)})
        self.now = 0.0

    def use(self, worker: int, sender: str = "alice") -> Use:
        use = self.workers[worker].use("ws-1", sender, self.now)
        assert use is not None
        return use

    def hold_to(self, stated: dict[str, WorkspaceQuotas]) -> None:
        for quotas in self.workers:
            quotas.replace(stated)

    def tell(self) -> None:
        told = [quotas.used() for quotas in self.workers]
        for worker, used in enumerate(told):
            self.workers[1 - worker].charge(worker, used, self.now)
        self.now += TELL_SECONDS


def test_calls_a_second_hold_for_both_together():
    pair = Pair(workspace=Quota(calls_per_second=10, concurrent_calls=None, bytes_per_second=None))
    made = 0
    while pair.now < 60.0:
        for worker in (0, 1, 1):
            use = pair.use(worker)
            if use.excess(pair.now) is None:
                use.begin()
                use.end()
                made += 1
        pair.tell()
    # The rate, and the burst that a bucket begins with.
    assert 60 * 10 <= made <= 60 * 10 + BURST_SECONDS * 10 + 4


def test_one_worker_alone_may_use_all_of_it():
    pair = Pair(workspace=Quota(calls_per_second=10, concurrent_calls=None, bytes_per_second=None))
    made = 0
    while pair.now < 60.0:
        use = pair.use(0)
        if use.excess(pair.now) is None:
            use.begin()
            use.end()
            made += 1
        pair.tell()
    assert made >= 60 * 10


def test_calls_at_once_count_wherever_they_are_open_until_their_worker_ends():
    pair = Pair(sender=Quota(calls_per_second=None, concurrent_calls=2, bytes_per_second=None))
    first, second = pair.use(0), pair.use(1)
    first.begin()
    second.begin()
    pair.tell()
    assert first.excess(pair.now) == "this sender makes too many calls at once"
    assert pair.use(0, "bob").excess(pair.now) is None
    second.end()
    pair.tell()
    assert first.excess(pair.now) is None
    second.begin()
    pair.tell()
    pair.workers[0].forget(1)
    assert first.excess(pair.now) is None


def test_bytes_at_one_are_a_debt_at_the_other():
    pair = Pair(workspace=Quota(calls_per_second=None, concurrent_calls=None, bytes_per_second=1000))
    here, there = pair.use(0), pair.use(1)
    here.begin()
    here.spend(10_000)
    here.end()
    pair.tell()
    assert there.excess(pair.now) == "the workspace makes too many bytes a second"
    pair.now += 9.0
    assert there.excess(pair.now) is None


def test_what_is_for_turns_in_debt_is_divided_among_the_workers():
    pair = Pair(workspace=Quota(bytes_per_second=1000))
    uses = [pair.use(worker) for worker in (0, 1)]
    uses[0].spend(30_000)
    pair.tell()
    passed = 0
    while uses[0].meters[0].room_bytes(pair.now) <= 0:
        for use in uses:
            if use.waits_for(pair.now) is None:
                use.go_on(50)
                use.spend(50)
                passed += 50
        pair.tell()
    # Half of the rate went on, and half paid for what was owed.
    assert 27_000 <= passed <= 29_000


def test_calls_that_end_while_nothing_bounds_them_count_nowhere_under_a_later_quota():
    pair = Pair(sender=Quota(concurrent_calls=2))
    calls = [pair.use(worker) for worker in (0, 1)]
    for call in calls:
        call.begin()
        call.begin()
    pair.tell()
    pair.hold_to({})
    for call in calls:
        call.end()
        call.end()
    pair.tell()
    pair.hold_to({"ws-1": WorkspaceQuotas(UNBOUNDED, Quota(concurrent_calls=2))})
    assert [pair.use(worker).excess(pair.now) for worker in (0, 1)] == [None, None]


def test_what_another_worker_had_admitted_before_a_lower_quota_is_soon_paid_for():
    pair = Pair(workspace=Quota(calls_per_second=10_000))
    there = pair.use(1)
    for _ in range(5_000):
        there.begin()
        there.end()
    pair.hold_to({"ws-1": WorkspaceQuotas(Quota(calls_per_second=1))})
    pair.tell()
    here = pair.use(0)
    assert here.excess(pair.now) == "the workspace makes too many calls a second"
    pair.now += MOST_OWED_SECONDS + 1.0
    assert here.excess(pair.now) is None


def test_what_nothing_bounds_is_not_kept():
    pair = Pair()
    pair.workers[0].charge(1, [("ws-other", None, 5, 5, 5), ("ws-other", "alice", 5, 5, 5)], 0.0)
    assert pair.workers[0].use("ws-other", "alice", 0.0) is None
    assert pair.workers[0].used() == []

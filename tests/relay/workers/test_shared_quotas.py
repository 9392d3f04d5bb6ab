"""Quotas that hold for two workers together."""

from relay.admission.quota_form import Quota, WorkspaceQuotas
from relay.admission.quotas import BURST_SECONDS, Use
from relay.workers.shared_quotas import TELL_SECONDS, SharedQuotas

UNBOUNDED = Quota(None, None, None)


class Pair:
    """Two workers' meters; what is used is told every `TELL_SECONDS`."""

    def __init__(self, workspace: Quota = UNBOUNDED, sender: Quota = UNBOUNDED) -> None:
        self.workers = [SharedQuotas(), SharedQuotas()]
        for quotas in self.workers:
            quotas.replace({"ws-1": WorkspaceQuotas(workspace, sender)})
        self.now = 0.0

    def use(self, worker: int, sender: str = "alice") -> Use:
        use = self.workers[worker].use("ws-1", sender, self.now)
        assert use is not None
        return use

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


def test_what_nothing_bounds_is_not_kept():
    pair = Pair()
    pair.workers[0].charge(1, [("ws-other", None, 5, 5, 5), ("ws-other", "alice", 5, 5, 5)], 0.0)
    assert pair.workers[0].use("ws-other", "alice", 0.0) is None
    assert pair.workers[0].used() == []

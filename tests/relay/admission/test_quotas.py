"""Meters: rates with a burst, calls at once, bytes that put into debt; quotas that change while they are used."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.admission.quota_form import Quota, WorkspaceQuotas
from relay.admission.quotas import BURST_SECONDS, MAX_SENDERS, MOST_OWED_SECONDS, Meter, Quotas, Use
from tests.support.small_relay import SmallRelay, get, on_relay, reply, settle

WORKSPACE = "ws-1"


NO_BOUND = Quota()


def quotas(workspace: Quota = NO_BOUND, sender: Quota = NO_BOUND) -> Quotas:
    of = Quotas()
    of.replace({WORKSPACE: WorkspaceQuotas(workspace, sender)})
    return of


def use(of: Quotas, sender: str = "ann", now: float = 0.0) -> Use:
    found = of.use(WORKSPACE, sender, now)
    assert found is not None
    return found


def call(one: Use, now: float) -> str | None:
    """Make a call that ends at once, if it may begin."""
    excess = one.excess(now)
    if excess is None:
        one.begin()
        one.end()
    return excess


def test_who_is_not_bounded_has_no_meter() -> None:
    assert quotas().use("ws-2", "ann", 0.0) is None


def test_a_rate_with_its_burst() -> None:
    one = use(quotas(Quota(calls_per_second=5)))
    burst = int(5 * BURST_SECONDS)
    assert [call(one, 0.0) for _ in range(burst)] == [None] * burst
    assert call(one, 0.0) == "the workspace makes too many calls a second"
    assert call(one, 0.19) is not None
    assert call(one, 0.21) is None
    assert call(one, 0.21) is not None
    assert [call(one, 1000.0) for _ in range(burst + 1)][-1] is not None


def test_calls_at_once() -> None:
    one = use(quotas(sender=Quota(concurrent_calls=2)))
    one.begin()
    one.begin()
    assert one.excess(0.0) == "this sender makes too many calls at once"
    one.end()
    assert one.excess(0.0) is None


def test_no_call_begins_while_more_than_a_bursts_worth_of_bytes_is_owed() -> None:
    one = use(quotas(Quota(bytes_per_second=100)))
    assert call(one, 0.0) is None
    one.spend(1000)
    assert call(one, 0.0) == "the workspace makes too many bytes a second"
    assert call(one, 5.9) is not None
    assert call(one, 6.1) is None


def test_a_bucket_is_used_up_until_what_is_owed_has_come() -> None:
    of = quotas(Quota(bytes_per_second=100), Quota(bytes_per_second=50))
    one = use(of)
    workspace, sender = one.meters
    one.spend(99)
    assert (one.overdrawn, one.used_up(0.0)) == (False, None)
    one.spend(201)
    assert (one.overdrawn, one.used_up(0.0)) == (True, workspace)
    assert one.used_up(1.5) is sender
    assert one.used_up(4.1) is None
    assert not one.overdrawn


def test_nothing_is_used_up_where_no_bytes_are_bounded() -> None:
    one = use(quotas(Quota(concurrent_calls=1)))
    one.spend(10**12)
    assert (one.overdrawn, one.used_up(0.0)) == (False, None)
    assert one.meters[0].room_bytes(0.0) == float("inf")


def test_no_more_is_owed_than_ten_minutes_pay_for() -> None:
    one = use(quotas(Quota(bytes_per_second=100)))
    one.begin()
    for _ in range(1000):
        one.spend(10**6)
    one.end()
    assert one.excess(MOST_OWED_SECONDS - BURST_SECONDS - 0.1) == "the workspace makes too many bytes a second"
    assert one.excess(MOST_OWED_SECONDS - BURST_SECONDS + 0.1) is None


def test_who_is_not_refused_owes_no_more_calls_than_ten_minutes_pay_for() -> None:
    one = use(quotas(Quota(calls_per_second=1)))
    for _ in range(10_000):
        one.begin()
        one.end()
    assert one.excess(MOST_OWED_SECONDS) == "the workspace makes too many calls a second"
    assert one.excess(MOST_OWED_SECONDS + 1.1) is None


def test_under_a_lower_quota_what_was_owed_before_is_ten_minutes_worth_of_it_at_most() -> None:
    of = quotas(Quota(bytes_per_second=10**8))
    one = use(of)
    one.spend(10**9)
    of.replace({WORKSPACE: WorkspaceQuotas(Quota(bytes_per_second=1000))})
    assert one.excess(MOST_OWED_SECONDS - BURST_SECONDS - 0.1) == "the workspace makes too many bytes a second"
    assert one.excess(MOST_OWED_SECONDS - BURST_SECONDS + 0.1) is None


def test_senders_have_their_own_and_the_workspaces_together() -> None:
    of = quotas(Quota(concurrent_calls=3), Quota(concurrent_calls=2))
    ann, bob = use(of, "ann"), use(of, "bob")
    ann.begin()
    ann.begin()
    assert ann.excess(0.0) == "this sender makes too many calls at once"
    assert bob.excess(0.0) is None
    bob.begin()
    assert bob.excess(0.0) == "the workspace makes too many calls at once"


def test_two_tokens_of_a_sender_share_its_meter() -> None:
    of = quotas(sender=Quota(concurrent_calls=1))
    use(of, "ann").begin()
    assert use(of, "ann").excess(0.0) is not None


def test_other_bounds_count_at_once_and_calls_under_way_stay_counted() -> None:
    of = quotas(Quota(calls_per_second=1))
    one = use(of)
    one.begin()
    of.replace({WORKSPACE: WorkspaceQuotas(Quota(concurrent_calls=1))})
    assert one.excess(0.0) == "the workspace makes too many calls at once"
    of.replace({})
    assert one.excess(0.0) is None
    one.end()
    of.replace({WORKSPACE: WorkspaceQuotas(Quota(calls_per_second=1))})
    assert [call(one, 0.0) for _ in range(3)] == [None, None, "the workspace makes too many calls a second"]


def test_of_many_senders_the_idle_ones_are_forgotten() -> None:
    of = quotas(sender=Quota(concurrent_calls=1))
    busy = use(of, "busy")
    busy.begin()
    for number in range(MAX_SENDERS):
        use(of, f"sender-{number}")
    assert use(of, "busy").excess(0.0) is not None
    assert len(of._senders) < MAX_SENDERS


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 3)), max_size=60), st.integers(1, 20))
def test_never_more_than_the_rate_and_its_burst(steps: list[tuple[float, int]], rate: int) -> None:
    meter, now, begun = Meter(Quota(calls_per_second=rate), 0.0), 0.0, 0
    for pause, wanted in steps:
        now += pause
        for _ in range(wanted):
            if meter.excess(now) is None:
                meter.begin()
                begun += 1
    assert begun <= rate * (BURST_SECONDS + now) + 1e-6


@pytest.mark.parametrize("quota", [Quota(calls_per_second=1), Quota(bytes_per_second=1), Quota(concurrent_calls=1)])
def test_a_meter_that_was_used_is_not_idle_until_it_is_as_new(quota: Quota) -> None:
    meter = Meter(quota, 0.0)
    assert meter.idle(0.0)
    meter.begin()
    meter.spend(1)
    assert not meter.idle(0.0)
    meter.end()
    assert meter.idle(1000.0)


@on_relay()
async def test_a_call_is_counted_while_it_lasts_and_its_content_in_both_directions(relay: SmallRelay) -> None:
    of = quotas(Quota(concurrent_calls=1, bytes_per_second=1000))
    relay.admission.use = one = use(of, now=relay.loop.time())
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get(b"/", b"Content-Length: 900", method=b"POST") + b"x" * 900)
    await settle()
    assert one.excess(relay.loop.time()) == "the workspace makes too many calls at once"
    node.calls[0].answer(reply(b"y" * 3200))
    await settle()
    assert sender.received.startswith(b"HTTP/1.1 200 ")
    assert one.excess(relay.loop.time()) == "the workspace makes too many bytes a second"
    await asyncio.sleep(0.2)
    assert one.excess(relay.loop.time()) is None


@on_relay()
async def test_a_call_that_fails_is_counted_no_more(relay: SmallRelay) -> None:
    relay.admission.use = one = use(quotas(Quota(concurrent_calls=1)))
    node, sender, gone = relay.attach_node(), relay.connect(), relay.connect()
    sender.send(get())
    await settle()
    node.calls[0].stream.reset()
    await settle()
    assert one.excess(0.0) is None
    gone.send(get())
    await settle()
    assert one.excess(0.0) is not None
    gone.transport.abort()
    await settle()
    assert one.excess(0.0) is None

"""Who waits for a quota of bytes goes on by turns, for as much as there is, and nobody else waits for that."""

import asyncio

import pytest

from relay.admission.pacing import STEPS_AT_ONCE, TURN_BYTES, TURN_SECONDS, Pacing
from relay.admission.quota_form import Quota, WorkspaceQuotas
from relay.admission.quotas import Quotas, Use
from tests.support.virtual_time import in_virtual_time


class Transfer:
    """A call of which `left_bytes` are held back; it is charged for each turn at once."""

    def __init__(self, pacing: Pacing, use: Use, left_bytes: int) -> None:
        self.paced = False
        self.left_bytes = left_bytes
        self.turns: list[float] = []
        self._pacing = pacing
        self.use = use

    def start(self) -> None:
        self.paced = self._pacing.holds(self, self.use)

    def take_turn(self, most_bytes: int) -> int:
        self.turns.append(asyncio.get_running_loop().time())
        taken = min(self.left_bytes, most_bytes)
        self.left_bytes -= taken
        self.use.spend(taken)
        self.paced = taken == most_bytes
        return taken


class Stage:
    def __init__(self, workspace: Quota, sender: Quota = Quota()) -> None:  # noqa: B008 - it does not change
        loop = asyncio.get_running_loop()
        self.now = loop.time
        self.pacing = Pacing(loop, loop.time)
        self.quotas = Quotas()
        self.hold_to(workspace, sender)

    def hold_to(self, workspace: Quota, sender: Quota = Quota()) -> None:  # noqa: B008
        self.quotas.replace({"ws-1": WorkspaceQuotas(workspace, sender)})

    def use(self, sender: str = "ann") -> Use:
        use = self.quotas.use("ws-1", sender, self.now())
        assert use is not None
        return use

    def transfer(self, left_bytes: int, sender: str = "ann", *, spent: int = 0) -> Transfer:
        use = self.use(sender)
        use.spend(spent)
        transfer = Transfer(self.pacing, use, left_bytes)
        transfer.start()
        return transfer


@in_virtual_time
async def test_who_has_bytes_left_does_not_wait() -> None:
    stage = Stage(Quota(bytes_per_second=1000))
    assert not stage.transfer(10, spent=1999).paced
    assert stage.pacing.waiting == 0
    assert stage.transfer(10, spent=1).paced
    assert stage.pacing.waiting == 1


@in_virtual_time
async def test_a_bucket_that_was_filled_since_it_was_looked_at_is_not_empty() -> None:
    stage = Stage(Quota(bytes_per_second=1000))
    use = stage.use()
    use.spend(2000)
    await asyncio.sleep(0.5)
    assert use.overdrawn
    assert not stage.pacing.holds(Transfer(stage.pacing, use, 10), use)


@in_virtual_time
async def test_a_transfer_has_the_rate_and_no_more() -> None:
    stage = Stage(Quota(bytes_per_second=100_000))
    transfer = stage.transfer(3_000_000, spent=200_000)
    await asyncio.sleep(10)
    assert 3_000_000 - 1_000_000 - TURN_BYTES <= transfer.left_bytes <= 3_000_000 - 1_000_000 + 2 * TURN_BYTES
    await asyncio.sleep(21)
    assert (transfer.left_bytes, transfer.paced, stage.pacing.waiting) == (0, False, 0)


@in_virtual_time
async def test_transfers_share_by_turns() -> None:
    stage = Stage(Quota(bytes_per_second=100_000))
    stage.use("before").spend(200_000)
    transfers = [stage.transfer(3_000_000, f"sender-{number}") for number in range(4)]
    await asyncio.sleep(20)
    left = [transfer.left_bytes for transfer in transfers]
    assert max(left) - min(left) <= TURN_BYTES
    assert 12_000_000 - sum(left) == pytest.approx(2_000_000, abs=2 * TURN_BYTES)


@in_virtual_time
async def test_senders_share_however_many_transfers_they_make() -> None:
    stage = Stage(Quota(bytes_per_second=100_000))
    stage.use("before").spend(200_000)
    many, one = [stage.transfer(3_000_000, "ann") for _ in range(30)], stage.transfer(3_000_000, "bob")
    await asyncio.sleep(20)
    assert 3_000_000 - one.left_bytes == pytest.approx(1_000_000, abs=2 * TURN_BYTES)
    left = [transfer.left_bytes for transfer in many]
    assert max(left) - min(left) <= TURN_BYTES
    stage.pacing.forget(one, one.use)
    for transfer in many:
        stage.pacing.forget(transfer, transfer.use)
    assert stage.pacing.waiting == 0


@in_virtual_time
async def test_half_of_the_rate_is_for_turns_whatever_is_owed() -> None:
    stage = Stage(Quota(bytes_per_second=100_000))
    transfer = stage.transfer(10**7, spent=5_200_000)
    await asyncio.sleep(40)
    assert 10**7 - transfer.left_bytes == pytest.approx(2_000_000, abs=2 * TURN_BYTES)
    await asyncio.sleep(80)
    # What was owed is paid, and the rate is exact.
    assert 10**7 - transfer.left_bytes == pytest.approx(120 * 100_000 - 5_000_000, abs=2 * TURN_BYTES)


@in_virtual_time
async def test_a_call_that_fails_keeps_nobody_from_his_turn() -> None:
    class Failing(Transfer):
        def take_turn(self, most_bytes: int) -> int:
            raise ValueError("a mistake")

    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context.get("exception")))
    stage = Stage(Quota(bytes_per_second=100_000))
    use = stage.use()
    use.spend(200_000)
    Failing(stage.pacing, use, 10).start()
    transfer = stage.transfer(TURN_BYTES)
    await asyncio.sleep(1)
    assert (transfer.left_bytes, stage.pacing.waiting, len(failures)) == (0, 0, 1)


@in_virtual_time
async def test_a_sender_who_has_used_up_his_own_waits_while_others_go_on() -> None:
    stage = Stage(Quota(bytes_per_second=100_000), Quota(bytes_per_second=20_000))
    ann, bob = stage.transfer(10**6, "ann", spent=240_000), stage.transfer(10**6, "bob", spent=40_000)
    await asyncio.sleep(9.5)
    assert 10**6 - bob.left_bytes == pytest.approx(190_000, abs=2 * TURN_BYTES)
    assert 10**6 - ann.left_bytes == pytest.approx(95_000, abs=2 * TURN_BYTES)
    await asyncio.sleep(20)
    assert 10**6 - ann.left_bytes == pytest.approx(30 * 20_000 - 200_000, abs=2 * TURN_BYTES)


@in_virtual_time
async def test_who_waits_goes_on_at_once_where_the_quota_is_lifted() -> None:
    stage = Stage(Quota(bytes_per_second=1))
    transfers = [stage.transfer(10 * TURN_BYTES, f"sender-{number}", spent=1000) for number in range(20)]
    await asyncio.sleep(60)
    assert sum(len(transfer.turns) for transfer in transfers) == 1
    stage.quotas.replace({})
    await asyncio.sleep(2 * TURN_SECONDS)
    assert not any(transfer.left_bytes or transfer.paced for transfer in transfers)
    assert stage.pacing.waiting == 0


@in_virtual_time
async def test_however_many_wait_one_go_is_short() -> None:
    stage = Stage(Quota(bytes_per_second=1))
    transfers = [stage.transfer(2 * TURN_BYTES, f"sender-{number % 300}", spent=1000) for number in range(1000)]
    stage.quotas.replace({})
    await asyncio.sleep(2 * TURN_SECONDS)
    turns = [at for transfer in transfers for at in transfer.turns]
    assert max(map(turns.count, set(turns))) <= STEPS_AT_ONCE
    assert not any(transfer.left_bytes for transfer in transfers)


@in_virtual_time
async def test_very_many_meters_are_gone_round_by_parts() -> None:
    stage = Stage(Quota(), Quota(bytes_per_second=10_000))
    transfers = [stage.transfer(1000, f"sender-{number}", spent=30_000) for number in range(1000)]
    await asyncio.sleep(1.2)
    assert not any(transfer.paced for transfer in transfers)
    ends = [transfer.turns[-1] for transfer in transfers]
    assert max(map(ends.count, set(ends))) <= STEPS_AT_ONCE


@in_virtual_time
async def test_a_call_that_is_over_waits_no_more() -> None:
    stage = Stage(Quota(bytes_per_second=1000))
    gone, stays = stage.transfer(10**5, spent=3000), stage.transfer(100)
    stage.pacing.forget(gone, gone.use)
    await asyncio.sleep(2)
    assert (gone.turns, stays.left_bytes, stage.pacing.waiting) == ([], 0, 0)


@in_virtual_time
async def test_nothing_ticks_while_nobody_waits() -> None:
    stage = Stage(Quota(bytes_per_second=1000))
    stage.transfer(10, spent=2000)
    await asyncio.sleep(1)
    assert stage.pacing._timer is None

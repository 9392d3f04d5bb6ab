"""Quotas in force: how much each bounded workspace, and each of its senders, uses of this relay now.

Theory of operation. A grant holds the `Use` that its calls count towards, or None where nobody bounds them, so that
calls without a quota cost nothing. A use is a workspace's meter and a sender's. Rates are token buckets that hold
`BURST_SECONDS` of the rate. Bytes are known only once they have passed: they put the bucket into debt. While it is
empty, calls in progress go on by turns (see `pacing`); once `BURST_SECONDS` of the rate are owed, by calls too small to
be held back or by what was under way, further ones are refused. Calls of whoever is not refused leave a debt as well.
Of what the bucket fills with, `TURN_SHARE` is for turns whatever is owed: small calls, which may keep it in debt for as
long as they like, leave transfers that much.
No more is owed than `MOST_OWED_SECONDS` of the rate pay for: what has passed cannot be taken back, and who owed days of
it could do nothing.

Other quotas change the bounds of the meters that are there, and grants are decided anew; what is in a bucket, or is
owed, stays as far as the new rate's bounds allow. Senders are remembered up to a bound; those without an open call and
with nothing used up go first, and are equal to new ones.
"""

from collections.abc import Mapping
from math import inf
from typing import Final

from relay.admission.quota_form import UNBOUNDED, Quota, WorkspaceQuotas

BURST_SECONDS: Final = 2.0
MOST_OWED_SECONDS: Final = 600.0
"""What was taken beyond a rate is paid for as far as somebody can be made to wait. It is the windows of many calls, or
was taken under a far higher quota."""
TURN_SHARE: Final = 0.5
"""Of a rate, so much is for those who wait for their turn, whatever is owed."""
TURNS_SECONDS: Final = 0.1
"""What may be saved up of that: they have a turn more often."""
MAX_SENDERS: Final = 20_000

Party = tuple[str, str | None]
"""A workspace's id, and a sender in it, or None for the workspace itself."""


class Meter:
    """One party's use against its bounds; times in seconds of one monotonic clock."""

    __slots__ = (
        "_at", "_bytes", "_bytes_per_second", "_calls", "_calls_per_second", "_concurrent", "_turn_bytes",
        "_turn_share", "open",
    )  # fmt: skip

    def __init__(self, quota: Quota, now: float, turn_share: float = TURN_SHARE) -> None:
        """Begin with nothing used; `turn_share` of the rate of bytes is for turns."""
        self.open = 0
        self._turn_share = turn_share
        self._turn_bytes = 0.0
        self._at = now
        self._calls = 0.0
        self._bytes = 0.0
        self._calls_per_second = 0.0
        self._bytes_per_second = 0.0
        self._concurrent = 0
        self.bound(quota)

    def bound(self, quota: Quota) -> None:
        """Hold to other bounds from now on; a bucket begins full where there was none, else with what was in it."""
        calls, size = float(quota.calls_per_second or 0), float(quota.bytes_per_second or 0)
        if not self._calls_per_second:
            self._calls = calls * BURST_SECONDS
        if not self._bytes_per_second:
            self._bytes = size * BURST_SECONDS
        self._calls, self._bytes = _within(self._calls, calls), _within(self._bytes, size)
        self._calls_per_second, self._bytes_per_second = calls, size
        self._concurrent = quota.concurrent_calls or 0

    def excess(self, now: float) -> str | None:
        """Return what there is too much of for another call, in a word or two; None if there is room."""
        if self._concurrent and self.open >= self._concurrent:
            return "calls at once"
        self._fill(now)
        if self._calls_per_second and self._calls < 1.0:
            return "calls a second"
        if self._bytes_per_second and self._bytes <= -BURST_SECONDS * self._bytes_per_second:
            return "bytes a second"
        return None

    @property
    def overdrawn(self) -> bool:
        """Whether there were no bytes left when it was last looked; `room_bytes` says whether there are now."""
        return self._bytes <= 0.0 and self._bytes_per_second > 0.0

    def room_bytes(self, now: float) -> float:
        """Return how many bytes may pass; 0 or less if none, and infinity where nothing bounds them."""
        if not self._bytes_per_second:
            return inf
        self._fill(now)
        return self._bytes

    def turn_bytes(self, now: float) -> float:
        """Return how many bytes those who wait may go on by; as `room_bytes`, or what is theirs though more is owed."""
        return max(self.room_bytes(now), self._turn_bytes)

    def go_on(self, size: int) -> None:
        """Count bytes that one who waited goes on by; they are spent when they pass."""
        if self._turn_bytes > 0.0:
            self._turn_bytes -= size

    def begin(self) -> None:
        """Count a call that begins."""
        self.open += 1
        self._spend_calls(1)

    def end(self) -> None:
        """Count its end."""
        self.open -= 1

    def spend(self, size: int) -> None:
        """Count bytes that have passed."""
        if self._bytes_per_second:
            self._bytes = max(self._bytes - size, -MOST_OWED_SECONDS * self._bytes_per_second)

    def _spend_calls(self, count: int) -> None:
        if self._calls_per_second:
            self._calls = max(self._calls - count, -MOST_OWED_SECONDS * self._calls_per_second)

    def idle(self, now: float) -> bool:
        """Whether it is in the state of a new one."""
        self._fill(now)
        full = self._calls >= self._calls_per_second * BURST_SECONDS
        return not self.open and full and self._bytes >= self._bytes_per_second * BURST_SECONDS

    def _fill(self, now: float) -> None:
        elapsed, self._at = now - self._at, now
        calls, size = self._calls_per_second, self._bytes_per_second
        self._calls = min(calls * BURST_SECONDS, self._calls + elapsed * calls)
        self._bytes = min(size * BURST_SECONDS, self._bytes + elapsed * size)
        share = size * self._turn_share
        self._turn_bytes = min(share * TURNS_SECONDS, self._turn_bytes + elapsed * share)


def _within(held: float, rate: float) -> float:
    """Return what a bucket of a rate has of what was held, or owed."""
    return max(min(held, BURST_SECONDS * rate), -MOST_OWED_SECONDS * rate)


class Use:
    """What the calls of one sender in one workspace count towards."""

    __slots__ = ("_sender", "_workspace")

    def __init__(self, workspace: Meter, sender: Meter) -> None:
        self._workspace = workspace
        self._sender = sender

    def excess(self, now: float) -> str | None:
        """Return why no further call may begin, for its sender to read; None if it may."""
        what = self._sender.excess(now)
        if what is not None:
            return f"this sender makes too many {what}"
        what = self._workspace.excess(now)
        return None if what is None else f"the workspace makes too many {what}"

    @property
    def meters(self) -> tuple[Meter, Meter]:
        """The workspace's and the sender's."""
        return self._workspace, self._sender

    @property
    def overdrawn(self) -> bool:
        """Whether there may be no bytes left; `used_up` says whether there are."""
        return self._workspace.overdrawn or self._sender.overdrawn

    @property
    def sender(self) -> Meter:
        """The sender's."""
        return self._sender

    def used_up(self, now: float) -> Meter | None:
        """Return a meter that has no bytes left, the workspace's first; None if both have."""
        if self._workspace.room_bytes(now) <= 0:
            return self._workspace
        return self._sender if self._sender.room_bytes(now) <= 0 else None

    def waits_for(self, now: float) -> Meter | None:
        """Return a meter that has nothing for another turn, the workspace's first; None if both have."""
        if self._workspace.turn_bytes(now) <= 0:
            return self._workspace
        return self._sender if self._sender.turn_bytes(now) <= 0 else None

    def go_on(self, size: int) -> None:
        """Count bytes that one who waited goes on by."""
        self._workspace.go_on(size)
        self._sender.go_on(size)

    def begin(self) -> None:
        """Count a call that begins."""
        self._workspace.begin()
        self._sender.begin()

    def end(self) -> None:
        """Count its end."""
        self._workspace.end()
        self._sender.end()

    def spend(self, size: int) -> None:
        """Count bytes that have passed, in either direction."""
        self._workspace.spend(size)
        self._sender.spend(size)


class Quotas:
    """The meters of this relay."""

    def __init__(self) -> None:
        self._quotas: Mapping[str, WorkspaceQuotas] = {}
        self._workspaces: dict[str, Meter] = {}
        self._senders: dict[tuple[str, str], Meter] = {}

    def replace(self, quotas: Mapping[str, WorkspaceQuotas]) -> None:
        """Hold to other quotas; open calls keep counting."""
        self._quotas = quotas
        for workspace_id, meter in self._workspaces.items():
            meter.bound(quotas.get(workspace_id, UNBOUNDED).workspace)
        for (workspace_id, _), meter in self._senders.items():
            meter.bound(quotas.get(workspace_id, UNBOUNDED).sender)

    def use(self, workspace_id: str, sender: str, now: float) -> Use | None:
        """Return what a sender's calls in a workspace count towards; None where nothing bounds them."""
        stated = self._quotas.get(workspace_id)
        if stated is None:
            return None
        workspace = self._workspaces.get(workspace_id)
        if workspace is None:
            workspace = self._workspaces[workspace_id] = self._meter((workspace_id, None), stated.workspace, now)
        return Use(workspace, self._sender((workspace_id, sender), stated.sender, now))

    def _meter(self, party: Party, quota: Quota, now: float) -> Meter:
        """Make the meter of a party."""
        return Meter(quota, now)

    def _sender(self, key: tuple[str, str], quota: Quota, now: float) -> Meter:
        meter = self._senders.get(key)
        if meter is None:
            if len(self._senders) >= MAX_SENDERS:
                self._forget(now)
            meter = self._senders[key] = self._meter(key, quota, now)
        return meter

    def _forget(self, now: float) -> None:
        """Forget the senders that are like new ones; if all are busy, the one that has been here longest."""
        idle = [key for key, meter in self._senders.items() if meter.idle(now)]
        for key in idle or [next(iter(self._senders))]:
            del self._senders[key]

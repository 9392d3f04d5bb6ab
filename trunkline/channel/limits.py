"""The bounds of a session: sizes, counts and rates, and the credit that all sessions of a process share."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from trunkline.channel.errors import ChannelError
from trunkline.channel.frames import INITIAL_WINDOW_BYTES

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """What one session allows, checked before any state is made. Sizes in bytes, times in seconds.

    Raises:
        ValueError: a bound that cannot work, for instance a first window above the largest one.
    """

    max_streams: int = 4096
    """Streams open at once, whoever opened them; a stream of the peer beyond that is reset."""
    max_unacked_streams: int = 256
    """Streams opened here that the peer has not acknowledged; 256 is the accept backlog of hashicorp/yamux."""
    reserved_streams: int = 0
    """Of `max_streams`, so many are for those that this side opens for no sender, and as large a part of the others."""
    initial_window_bytes: int = INITIAL_WINDOW_BYTES
    """The receive window that the peer takes for granted when a stream opens: 256 KiB, or what was agreed."""
    max_window_bytes: int = 4 * MIB
    """A receive window grows to this at most."""
    link_budget_bytes: int = 16 * MIB
    """What all receive windows of the session may grow by, together."""
    max_control_backlog_bytes: int = 256 * KIB
    """Frames without payload that may wait to be sent; a peer that makes more and reads none breaks the protocol."""
    ping_timeout_seconds: float = 5.0
    """A peer from which nothing arrives for so long after a ping is gone."""
    max_pings_in_flight: int = 16
    acknowledge_after_seconds: float = 0.2
    """An accepted stream that has sent nothing by then is acknowledged by a frame of its own."""
    max_unsent_acks: int = 32
    """As many accepted streams without an acknowledgement, and all of them are acknowledged at once."""
    tuning_floor_seconds: float = 0.0005
    """Round trips shorter than this count as this long when windows grow.

    Fewer, larger grants cost less, and a frame behind full windows waits for up to four times as long.
    """
    reset_burst: int = 5000
    resets_per_second: float = 500.0
    """Streams that the peer opens and that end by a reset, at most."""
    ping_burst: int = 200
    pings_per_second: float = 20.0
    idle_frame_burst: int = 10_000
    idle_frames_per_second: float = 1000.0
    """Frames that bring nothing, at most: empty DATA, credit below `min_credit_bytes`, frames for ended streams."""
    min_credit_bytes: int = KIB

    def __post_init__(self) -> None:
        if not 0 < self.initial_window_bytes <= self.max_window_bytes < 2**31:
            raise ValueError(
                "initial_window_bytes must be positive, and max_window_bytes at least that and below 2 GiB"
            )
        counts = (self.max_streams, self.max_unacked_streams, self.max_control_backlog_bytes, self.max_pings_in_flight)
        if min(counts) < 1:
            raise ValueError("max_streams, max_unacked_streams, max_control_backlog_bytes and max_pings_in_flight >= 1")
        if not 0 <= self.reserved_streams < self.max_streams:
            raise ValueError("reserved_streams must be below max_streams, and not negative")


class RateBound:
    """A token bucket: `burst` at once, then `per_second`. One count and one time; nothing grows."""

    __slots__ = ("_burst", "_per_second", "_tokens", "_updated_at")

    def __init__(self, burst: int, per_second: float, now: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._tokens = float(burst)
        self._updated_at = now

    def spend(self, now: float) -> bool:
        """Count one event at `now` (seconds, never going back); False if it is one too many."""
        if self._tokens < 1:
            self._tokens = min(self._burst, (now - self._updated_at) * self._per_second + self._tokens)
            self._updated_at = now
            if self._tokens < 1:
                return False
        elif self._tokens == self._burst:
            self._updated_at = now
        self._tokens -= 1
        return True


class Held(Protocol):
    """What holds bytes: a stream of a link, or what waits for somebody without one."""

    def cut(self, error: ChannelError) -> None:
        """Let go of them, and of whom they wait for."""
        ...


class Holder(Protocol):
    """A session, or what counts like one, as its budget sees it."""

    def held_bytes(self) -> int:
        """Bytes delivered to the owner that the owner has not handed back yet."""
        ...

    def largest_holder(self) -> object | None:
        """The stream, or other `Held`, that holds most of them."""
        ...


class CreditBudget:
    """The memory that the peers of a whole process can fill: credit beyond the first windows, and bytes really held.

    Credit is reserved before a window grows, and given back when its stream ends; a reservation that does not fit is
    refused and the window stays as it is. Held bytes are counted too, since the first windows of very many streams
    can add up to more than the machine has: when they pass `held_limit_bytes` the budget is `overdrawn`, and the
    streams that hold most are to be reset, until no more than `relieved_bytes` are held: a little less, since to find
    them takes a look at all that there are.
    """

    __slots__ = ("_holders", "held_bytes", "held_limit_bytes", "limit_bytes", "reserved_bytes", "streams_cut")

    def __init__(self, limit_bytes: int = 256 * MIB, held_limit_bytes: int = 512 * MIB) -> None:
        self.limit_bytes = limit_bytes
        self.held_limit_bytes = held_limit_bytes
        self.reserved_bytes = 0
        self.held_bytes = 0
        self.streams_cut = 0
        """How many streams were reset since the budget was overdrawn."""
        self._holders: dict[Holder, None] = {}

    def reserve(self, size_bytes: int) -> bool:
        """Take credit of this size; False, and nothing taken, if it does not fit."""
        if self.reserved_bytes + size_bytes > self.limit_bytes:
            return False
        self.reserved_bytes += size_bytes
        return True

    def release(self, size_bytes: int) -> None:
        """Give reserved credit back."""
        self.reserved_bytes -= size_bytes

    @property
    def overdrawn(self) -> bool:
        """Whether more is held than allowed."""
        return self.held_bytes > self.held_limit_bytes

    def attach(self, holder: Holder) -> None:
        """Take a session into account."""
        self._holders[holder] = None

    def detach(self, holder: Holder) -> None:
        """Forget a session that has ended."""
        self._holders.pop(holder, None)

    @property
    def relieved_bytes(self) -> int:
        """Down to so much is to be held once the budget was overdrawn."""
        return self.held_limit_bytes - self.held_limit_bytes // 64

    def largest_first(self) -> Iterator[object]:
        """What holds most of the session that holds most (a `Held`), again and again, while there is anything.

        Each is to be cut before the next is asked for. The sessions are looked at once, and then those that lost one.
        """
        sessions = [(-holder.held_bytes(), number, holder) for number, holder in enumerate(self._holders)]
        heapq.heapify(sessions)
        while sessions:
            _, number, holder = sessions[0]
            held = holder.largest_holder()
            if held is None:
                heapq.heappop(sessions)
            else:
                yield held
                heapq.heapreplace(sessions, (-holder.held_bytes(), number, holder))

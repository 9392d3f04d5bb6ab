"""Two sessions and a slow wire between them, driven step by step: what one sends is what the other gets.

Each step may be asked for at any time; one that makes no sense then does nothing. `check` holds after every step, and
`conclude` brings everything to its end and looks at what is left.
"""

from collections import deque
from typing import Any

import pytest

from tests.support.sessions import new_session
from trunkline.channel.errors import LimitExceeded, LocalProtocolError
from trunkline.channel.events import (
    DataReceived,
    PongReceived,
    SessionFailed,
    StreamEnded,
    StreamOpened,
    StreamResetReceived,
)
from trunkline.channel.limits import CreditBudget, Limits
from trunkline.channel.session import Role

MOST_PINGS = 16


class End:
    """One side: the session, what it has sent and got on each stream, and what is on the wire from it."""

    def __init__(self, role, limits, peer_window, compact):
        self.budget = CreditBudget(limit_bytes=2000)
        self.session = new_session(
            role, limits=limits, compact=compact, send_window_bytes=peer_window, budget=self.budget
        )
        self.limits = limits
        self.sent = {}
        self.received = {}
        self.ended = set()
        self.finished = set()
        self.reset = set()
        self.pings = set()
        self.wire: deque[bytes] = deque()
        self.peer: Any = None
        self.written = 0

    def flush(self):
        data = b"".join(self.session.data_to_send())
        if data:
            self.wire.append(data)

    def take(self, events):
        for event in events:
            match event:
                case StreamOpened():
                    assert event.stream.id not in self.received
                    self.received[event.stream.id] = bytearray()
                    self.sent[event.stream.id] = bytearray()
                case DataReceived():
                    assert event.stream.id not in self.ended
                    self.received[event.stream.id] += event.data
                    if event.ended:
                        self.ended.add(event.stream.id)
                case StreamEnded():
                    assert event.stream.id not in self.ended
                    self.ended.add(event.stream.id)
                case StreamResetReceived():
                    self.reset.add(event.stream.id)
                case PongReceived():
                    self.pings.discard(event.ping_id)  # the session also pings by itself, to tune its windows
                case SessionFailed():
                    pytest.fail(f"the session failed: {event.error}")


class SessionPair:
    """Both sides; `side` is 0 or 1 everywhere."""

    def __init__(self, windows, compact):
        self.now = 0.0
        self.ends = []
        for role, own, peer in ((Role.CLIENT, *windows), (Role.SERVER, *reversed(windows))):
            limits = Limits(
                initial_window_bytes=own,
                max_window_bytes=4000,
                link_budget_bytes=3000,
                max_streams=20,
                max_unacked_streams=10,
                tuning_floor_seconds=1.0,
                ping_timeout_seconds=1e6,
            )
            self.ends.append(End(role, limits, peer, compact))
        left, right = self.ends
        left.peer, right.peer = right, left

    def open_stream(self, side):
        end = self.ends[side]
        try:
            stream = end.session.open_stream()
        except LimitExceeded:
            assert not end.session.can_open
            return None
        end.sent[stream.id] = bytearray()
        end.received[stream.id] = bytearray()
        return stream.id

    def _stream(self, side, stream_id):
        return self.ends[side].session.streams.get(stream_id)

    def send(self, side, stream_id, size, last):
        end, stream = self.ends[side], self._stream(side, stream_id)
        if stream is None:
            return
        data = bytes((end.written + i) % 251 for i in range(size))
        try:
            end.session.send_data(stream, data, end=last)
        except LocalProtocolError:
            assert size > stream.send_window or stream_id in end.finished
            return
        assert stream_id not in end.finished or not (data or last)
        end.written += size
        end.sent[stream_id] += data
        if last:
            end.finished.add(stream_id)

    def finish(self, side, stream_id):
        end, stream = self.ends[side], self._stream(side, stream_id)
        if stream is not None and stream_id not in end.finished:
            end.session.end_stream(stream)
            end.finished.add(stream_id)

    def reset(self, side, stream_id):
        stream = self._stream(side, stream_id)
        if stream is not None:
            self.ends[side].session.reset_stream(stream)
            self.ends[side].reset.add(stream_id)

    def consume(self, side, stream_id, share):
        stream = self._stream(side, stream_id)
        if stream is not None:
            self.ends[side].session.consumed(stream, int(stream.unconsumed_bytes * share), self.now)

    def withhold(self, side, stream_id, share):
        stream = self._stream(side, stream_id)
        if stream is not None:
            self.ends[side].session.withhold(stream, int(stream.unconsumed_bytes * share))

    def give(self, side, stream_id, share):
        stream = self._stream(side, stream_id)
        if stream is not None:
            self.ends[side].session.give(stream, int(stream.withheld_bytes * share), self.now)

    def ping(self, side):
        end = self.ends[side]
        if len(end.pings) < MOST_PINGS:
            end.pings.add(end.session.ping(self.now))

    def wait(self, seconds):
        self.now += seconds
        for end in self.ends:
            end.take(end.session.handle_deadline(self.now))

    def deliver(self, side, size):
        end = self.ends[side]
        end.flush()
        if end.wire:
            piece = end.wire.popleft()
            if len(piece) > size:
                end.wire.appendleft(piece[size:])
            end.peer.take(end.peer.session.receive_data(piece[:size], self.now))

    def check(self):
        """Bytes arrive in order; credit and memory are bounded."""
        for end in self.ends:
            for stream_id, received in end.received.items():
                assert end.peer.sent.get(stream_id, b"")[: len(received)] == received
            session = end.session
            assert len(session.streams) <= end.limits.max_streams
            assert end.budget.held_bytes == session.held_bytes()
            extra = 0
            for stream in session.streams.values():
                credit = stream.receive_window + stream.unconsumed_bytes + stream.withheld_bytes
                assert credit <= stream.window_bytes <= 4000
                other = end.peer.session.streams.get(stream.id)
                if other is not None:
                    assert 0 <= stream.send_window <= other.receive_window
                extra += stream.window_bytes - end.limits.initial_window_bytes
            assert extra == end.budget.reserved_bytes <= 2000

    def _settle(self):
        """Deliver all that is on the wire, consuming everything, until both are quiet."""
        quiet = 0
        while quiet < 2:
            quiet += 1
            self.wait(1.0)
            for end in self.ends:
                for stream in list(end.session.streams.values()):
                    end.session.consumed(stream, stream.unconsumed_bytes, self.now)
                    end.session.give(stream, stream.withheld_bytes, self.now)
                end.flush()
                while end.wire:
                    quiet = 0
                    end.peer.take(end.peer.session.receive_data(end.wire.popleft(), self.now))

    def conclude(self):
        """Everything that was sent has arrived, and when all streams are gone nothing is left of them."""
        self._settle()
        left, right = self.ends
        assert set(left.session.streams) == set(right.session.streams)
        for end in self.ends:
            assert not end.pings
            cut = end.reset | end.peer.reset
            for stream_id, data in end.sent.items():
                if stream_id not in cut:
                    assert end.peer.received[stream_id] == data
                    assert (stream_id in end.finished) == (stream_id in end.peer.ended)
            for stream in end.session.streams.values():
                assert stream.send_window == end.peer.session.streams[stream.id].receive_window
        for end in self.ends:
            for stream in list(end.session.streams.values()):
                end.session.reset_stream(stream)
        self._settle()
        for end in self.ends:
            assert end.session.streams == {}
            assert end.budget.held_bytes == end.budget.reserved_bytes == 0
            assert end.session._unacknowledged == 0

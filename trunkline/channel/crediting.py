"""The half of a session that gives credit: what the owner hands back, the peer may send again."""

from trunkline.channel.errors import LocalProtocolError
from trunkline.channel.frames import WINDOW_UPDATE
from trunkline.channel.pings import MEASURE_SECONDS
from trunkline.channel.sending import S, SendingSession
from trunkline.channel.windows import GRANT_BYTES, LEAST_GIVEN_BYTES


class CreditingSession(SendingSession[S]):
    """Receive windows: which bytes the owner holds, and when the peer has credit for more."""

    __slots__ = ()

    def consumed(self, stream: S, size: int, now: float) -> None:
        """Hand back `size` delivered bytes: the owner holds them no more, and the peer may send as many again.

        Of a stream that is over nothing is counted any more, and nothing happens.

        Raises:
            LocalProtocolError: more than was delivered.
        """
        if not stream.readable and not stream.writable:
            return
        self._let_go(stream, size)
        self._grant_if_due(stream, GRANT_BYTES, now)

    def withhold(self, stream: S, size: int) -> None:
        """Hand back `size` delivered bytes as `consumed` does, but let the peer wait for the credit until `give`.

        Raises:
            LocalProtocolError: more than was delivered.
        """
        if stream.readable or stream.writable:
            self._let_go(stream, size)
            stream.withheld_bytes += size

    def give(self, stream: S, size: int, now: float) -> None:
        """Withhold `size` bytes less: they are credit at once, unless they come to less than `LEAST_GIVEN_BYTES`.

        Raises:
            LocalProtocolError: more than was withheld.
        """
        if not 0 <= size <= stream.withheld_bytes:
            raise LocalProtocolError(f"stream {stream.id}: credit for {size} of {stream.withheld_bytes} withheld bytes")
        stream.withheld_bytes -= size
        self._grant_if_due(stream, LEAST_GIVEN_BYTES, now)

    def _let_go(self, stream: S, size: int) -> None:
        """Count `size` bytes of a stream as held no more."""
        unconsumed = stream.unconsumed_bytes - size
        if unconsumed < 0 or size < 0:
            raise LocalProtocolError(f"stream {stream.id}: {size} bytes consumed, {stream.unconsumed_bytes} delivered")
        stream.unconsumed_bytes = unconsumed
        if self._budget is not None:
            self._budget.held_bytes -= size

    def _grant_if_due(self, stream: S, worth_bytes: int, now: float) -> None:
        """Give back what was let go, once that is two fifths of the window or `worth_bytes`; the window may grow."""
        due = stream.window_bytes - stream.receive_window - stream.unconsumed_bytes - stream.withheld_bytes
        if (due * 5 < stream.window_bytes * 2 and due < worth_bytes) or not stream.readable:
            return
        self._measure(now, MEASURE_SECONDS)
        grant = due + self._growth.grow(stream, due, now, self._pings.rtt_seconds)
        stream.receive_window += grant
        self._send_control(WINDOW_UPDATE | self._take_first_flags(stream), stream.id, grant)

"""The session of a link, whose streams are the link's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trunkline.channel.limits import CreditBudget, Limits
from trunkline.channel.link_stream import LinkStream
from trunkline.channel.session import Role, Session

if TYPE_CHECKING:
    from trunkline.channel.link_output import LinkOutput


TURN_FRAMES: Final = 256
"""What a link takes in before all others have their turn: calls of some 85 new streams, or a twentieth of a read of
nothing but small frames. Whoever sends good traffic hardly ever has more in one read."""


class LinkSession(Session[LinkStream]):
    """A session that makes each stream by calling its class: through a callable that costs as much as opening it."""

    __slots__ = ("_link",)

    def __init__(
        self,
        link: LinkOutput,
        role: Role,
        *,
        limits: Limits,
        now: float,
        send_window_bytes: int,
        compact: bool,
        budget: CreditBudget | None,
        keepalive_seconds: float | None,
    ) -> None:
        """Begin the session of `link`; for the rest see `Session`."""
        Session.__init__(
            self,
            role,
            limits=limits,
            now=now,
            send_window_bytes=send_window_bytes,
            compact=compact,
            budget=budget,
            keepalive_seconds=keepalive_seconds,
            turn_frames=TURN_FRAMES,
        )
        self._link = link

    def _new_stream(self, stream_id: int, first_flags: int) -> LinkStream:
        window_bytes = self._limits.initial_window_bytes
        return LinkStream(self._link, stream_id, self._send_window_bytes, window_bytes, first_flags)

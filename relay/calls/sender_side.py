"""What an exchange needs of its sender, be it a connection or a stream of a link."""

from typing import Final, Protocol

from trunkline.channel.bodies import Chunk
from trunkline.channel.outcomes import Outcome


class SenderSide(Protocol):
    """What an exchange needs of its sender. None of the calls may raise."""

    @property
    def congested(self) -> bool:
        """Whether the sender takes no more bytes at present; `Exchange.sender_ready` follows."""

    @property
    def closing(self) -> bool:
        """Whether the response must be the last on this connection."""

    def deliver(self, data: Chunk) -> None:
        """Sends bytes of the response."""

    def deliver_pieces(self, pieces: list[Chunk]) -> None:
        """Sends bytes of the response that lie in several pieces."""

    def call_ended(self, *, keep_alive: bool) -> None:
        """The response was sent to its end."""

    def call_refused(self, outcome: Outcome, message: str) -> None:
        """Nothing of the response was sent: the relay answers itself."""

    def call_broken(self) -> None:
        """Part of the response was sent, and the rest will not come."""

    def request_passed(self) -> None:
        """What came of the request is held no more, and it is not the call's turn; `request_taken` follows."""

    def request_taken(self) -> None:
        """More of the request may come: the node has room for it, and it is the call's turn."""

    def became_raw(self) -> None:
        """From here on both sides send raw bytes."""

    def raw_ended(self) -> None:
        """The node sends no more raw bytes."""


class _Nobody:
    """Stands in for a sender that has gone while the node still takes its last bytes."""

    congested = False
    closing = True

    def deliver(self, data: Chunk) -> None:
        pass

    def deliver_pieces(self, pieces: list[Chunk]) -> None:
        pass

    def call_ended(self, *, keep_alive: bool) -> None:
        pass

    def call_refused(self, outcome: Outcome, message: str) -> None:
        pass

    def call_broken(self) -> None:
        pass

    def request_passed(self) -> None:
        pass

    def request_taken(self) -> None:
        pass

    def became_raw(self) -> None:
        pass

    def raw_ended(self) -> None:
        pass


NOBODY: Final = _Nobody()

"""What is left of content in very many chunks: it waits for the next turns of the loop, in order.

Theory of operation. `TURN_CHUNKS` chunks are taken in at once, then everybody else on the loop has a turn. What comes
meanwhile waits behind the rest, and so does the end of the stream. No credit is given for what waits, so that it is
never more than the window of its stream; small pieces are joined, so that each costs hardly more than its bytes.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from trunkline.channel.bodies import Chunk
from trunkline.channel.errors import ChannelError

TURN_CHUNKS: Final = 2048
"""Of content so many chunks are taken in before everybody else on the loop has a turn: half a millisecond's worth."""
TURN_BYTES: Final = 6 * TURN_CHUNKS
"""Of small pieces so much is taken in at once: as many chunks of a byte (RFC 9112 section 7.1)."""
JOINED_BYTES: Final = 4096


class ContentRest:
    """The rest of one stream's content.

    Attributes:
        pieces: of the content, as they came.
        ended: whether the end of the stream came behind them.
        lost: why the stream is lost, if that came behind them.
    """

    __slots__ = ("_room_bytes", "ended", "lost", "pieces")

    def __init__(self, first: Chunk) -> None:
        self.pieces: deque[Chunk] = deque((first,))
        self.ended = False
        self.lost: ChannelError | None = None
        self._room_bytes = 0

    def add(self, piece: Chunk) -> None:
        """Have a piece wait behind the others."""
        pieces = self.pieces
        if pieces and len(pieces[-1]) + len(piece) <= JOINED_BYTES:
            pieces[-1] = b"".join((pieces[-1], piece))
        else:
            pieces.append(piece)

    def begin_turn(self) -> None:
        """Have pieces of `TURN_BYTES` taken, or one that is larger."""
        self._room_bytes = max(TURN_BYTES, len(self.pieces[0]) if self.pieces else 0)

    def take(self) -> Chunk | None:
        """Take out the next piece; None if there is none for this turn."""
        pieces = self.pieces
        if not pieces or len(pieces[0]) > self._room_bytes:
            return None
        piece = pieces.popleft()
        self._room_bytes -= len(piece)
        return piece

    def put_back(self, left: Chunk) -> None:
        """Have what was too much of a piece for this turn, if anything was, be the first of another."""
        if left:
            self.pieces.appendleft(left)
            self._room_bytes = 0

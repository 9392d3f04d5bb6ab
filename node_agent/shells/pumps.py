"""Between a shell's descriptors and its flow: input written as it is taken, output read only while there is room."""

import asyncio
import contextlib
import os
import termios
from collections import deque
from collections.abc import Callable

PIECE_BYTES = 32 * 1024
_LOCAL_FLAGS, _CHARACTERS = 3, 6  # of what tcgetattr returns


class InputPump:
    """Writes to the shell what its caller sends. A pipe is closed here; a terminal is closed by its reader."""

    def __init__(
        self, descriptor: int, taken: Callable[[int], None], *, terminal: bool, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Write to `descriptor`; `taken` is told of each byte that the shell has, or will never have."""
        self._descriptor = descriptor
        self._taken = taken
        self._terminal = terminal
        self._loop = loop
        self._waiting: deque[memoryview] = deque()
        self._writing = False
        self._ending = False
        self.ended = False

    def write(self, content: bytes) -> None:
        """Write now, or when the shell reads."""
        if self.ended:
            self._taken(len(content))
            return
        self._waiting.append(memoryview(content))
        if not self._writing:
            self._flush()

    def end(self) -> None:
        """End the input behind what waits: on a terminal, the character that means it."""
        if not self._ending:
            self._ending = True
            if not self._waiting:
                self._end_now()

    def close(self) -> None:
        """Write no more; what waits will not be had."""
        if not self.ended:
            self._finish()
            self._drop()

    def _flush(self) -> None:
        while self._waiting and not self.ended:
            piece = self._waiting[0]
            try:
                size = os.write(self._descriptor, piece)
            except BlockingIOError:
                break
            except OSError:  # nobody reads any more
                self._drop()
                break
            self._waiting[0] = piece[size:]
            if not self._waiting[0]:
                self._waiting.popleft()
            self._taken(size)
        self._watch(writing=bool(self._waiting))
        if self._ending and not self._waiting:
            self._end_now()

    def _end_now(self) -> None:
        if self.ended:
            return
        if self._terminal:
            with contextlib.suppress(OSError, termios.error):
                attributes = termios.tcgetattr(self._descriptor)
                if attributes[_LOCAL_FLAGS] & termios.ICANON:
                    os.write(self._descriptor, attributes[_CHARACTERS][termios.VEOF])
        else:
            self._finish()

    def _finish(self) -> None:
        self.ended = True
        self._watch(writing=False)
        if not self._terminal:
            os.close(self._descriptor)

    def _drop(self) -> None:
        size = sum(map(len, self._waiting))
        self._waiting.clear()
        if size:
            self._taken(size)

    def _watch(self, *, writing: bool) -> None:
        if writing and not self._writing:
            self._loop.add_writer(self._descriptor, self._flush)
        elif not writing and self._writing:
            self._loop.remove_writer(self._descriptor)
        self._writing = writing


class OutputPump:
    """Reads what the shell writes, as long as there is room for it."""

    def __init__(
        self,
        descriptor: int,
        room_bytes: Callable[[], int],
        take: Callable[[bytes], None],
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Read `descriptor` while `room_bytes` says that there is room; `take` gets what was read, `b""` at the end."""
        self._descriptor = descriptor
        self._room_bytes = room_bytes
        self._take = take
        self._loop = loop
        self._reading = False
        self._last = False
        self.ended = False

    def go_on(self) -> None:
        """Read if there is room, now and whenever something comes."""
        wanted = not self.ended and self._room_bytes() > 0
        if wanted and not self._reading:
            self._loop.add_reader(self._descriptor, self._read)
        elif not wanted and self._reading:
            self._loop.remove_reader(self._descriptor)
        self._reading = wanted
        if wanted and self._last:
            self._loop.call_soon(self._read)

    def expect_no_more(self) -> None:
        """What is there now is the last: nobody is left who writes."""
        self._last = True
        self.go_on()

    def close(self) -> None:
        """Read no more, and close the descriptor."""
        if not self.ended:
            self.ended = True
            self.go_on()
            os.close(self._descriptor)

    def _read(self) -> None:
        size = min(self._room_bytes(), PIECE_BYTES)
        if self.ended or size <= 0:
            return
        try:
            content = os.read(self._descriptor, size)
        except BlockingIOError:
            if not self._last:
                return
            content = b""
        except OSError:  # EIO: nobody has the terminal open any more
            content = b""
        if not content:
            self.close()
        self._take(content)
        self.go_on()

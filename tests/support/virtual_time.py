"""An event loop whose time jumps: when nothing is ready it does not wait for the next timer, it sets its clock to it.

A two-hour call takes milliseconds, and two runs do the same things at the same times. Real file descriptors still
work: they are looked at before each jump, but are not waited for while a timer is pending, so use it with in-memory
transports, not with sockets. The same goes for threads.

With a runner:

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())

With pytest-asyncio, in the test module (or in a conftest.py for a whole folder):

    @pytest.fixture
    def event_loop_policy():
        return VirtualTimePolicy()

`asyncio.get_running_loop().time()` is the virtual time, from 0.
"""

import asyncio
import selectors


class _JumpingSelector(selectors.DefaultSelector):
    """Looks at the file descriptors and, if none is ready, lets the time pass at once instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            # No timer at all: only a file descriptor or another thread can go on.
            return super().select(None)
        ready = super().select(0)
        if not ready and timeout > 0:
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        # A jump lands where the timer is due, but for rounding.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._jumping.now


class VirtualTimePolicy(asyncio.DefaultEventLoopPolicy):
    """Makes virtual-time loops; for pytest-asyncio's `event_loop_policy` fixture."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return VirtualTimeLoop()

"""An event loop whose time jumps: when nothing is ready it does not wait for the next timer, it sets its clock to it.

A two-hour call takes milliseconds, and two runs do the same things at the same times. Real file descriptors still
work: they are looked at before each jump, but are not waited for while a timer is pending, so use it with in-memory
transports, not with sockets. Threads are waited for: while one of the loop's works, no time passes.

With a runner:

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())

As a test, with or without fixtures (which must not need a loop of their own):

    @in_virtual_time
    async def test_a_long_call(): ...

With something that is made for each test, and given to it as its first argument:

    @given_in_virtual_time(a_running_relay)
    async def test_a_call(relay): ...

`asyncio.get_running_loop().time()` is the virtual time, from 0.
"""

import asyncio
import concurrent.futures
import functools
import inspect
import selectors
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, ParamSpec, TypeVar, TypeVarTuple

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _JumpingSelector(selectors.DefaultSelector):
    """Looks at the file descriptors and, if none is ready, lets the time pass at once instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.threads_at_work = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or (timeout > 0 and self.threads_at_work):
            # No timer at all: only a file descriptor or another thread can go on. Or one that does, which tells us.
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

    def run_in_executor(
        self, executor: concurrent.futures.Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._jumping.threads_at_work += 1
        future.add_done_callback(self._thread_is_free)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the threads however long they take: `timeout`, of newer Pythons, would be over in no time."""
        await super().shutdown_default_executor()

    def _thread_is_free(self, future: asyncio.Future[Any]) -> None:
        self._jumping.threads_at_work -= 1


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make an async test an ordinary one that runs on a loop of its own, in virtual time, and leaves no task."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(_alone(test(*args, **kwargs)))

    return run


def given_in_virtual_time(
    making: Callable[[], AbstractAsyncContextManager[Any]],
) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Decorates tests to run in virtual time with what `making` makes, and ends after them, as their first argument."""

    def decorate(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
        @functools.wraps(test)
        async def given(*arguments: Any, **named: Any) -> None:
            async with making() as made:
                await test(made, *arguments, **named)

        run = in_virtual_time(given)
        signature = inspect.signature(test)
        rest = list(signature.parameters.values())[1:]
        # What is left is for pytest to give.
        run.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined]
        return run

    return decorate


async def _alone(test: Coroutine[Any, Any, None]) -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    await test
    assert not failures, f"the loop was told of {failures}"
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"the test left {left}"

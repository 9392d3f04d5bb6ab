"""The SDK for programs without an event loop: the same objects, their coroutines awaited on a thread of its own.

`Blocking` stands in front of any object of the SDK: methods that would be awaited return their result, asynchronous
iterators become plain ones, asynchronous context managers plain ones, and what they give is stood in front of in turn.

    with connect(url, token, ca_file=ca_file) as control_plane:
        for node in control_plane.workspace("main").list_nodes():
            print(node.node, node.state)
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self

from trunkline.client.control_plane import ControlPlane

STOP_SECONDS = 10.0
# What comes from here is a plain value, in front of which nothing needs to stand.
PLAIN = ("trunkline.client.records.", "trunkline.client.errors", "trunkline.client.sync")


class LoopThread:
    """An event loop on a thread of its own, for calls from all other threads; `stop` ends it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._process_id = os.getpid()
        self._thread = threading.Thread(target=self._loop.run_forever, name="trunkline-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Wait for the result of `work`, which is cancelled if the waiting thread is interrupted.

        Raises:
            RuntimeError: nobody would ever do the work: the client is closed, was made before a fork, or it is its own
                thread that would wait.
        """
        problem = self._problem()
        if problem is not None:
            work.close()
            raise RuntimeError(problem)
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def finish(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do what ends something; where nobody can wait for it, it is begun, or has no use any more."""
        if self._problem() is None:
            self.run(work)
        elif self._is_own_thread():
            asyncio.run_coroutine_threadsafe(work, self._loop)
        else:
            work.close()

    def _problem(self) -> str | None:
        if os.getpid() != self._process_id:
            return "this client was made before the process forked, which took no thread along: connect in each process"
        if self._loop.is_closed():
            return "this client is closed: connect again"
        return "what the SDK calls back cannot wait for the SDK" if self._is_own_thread() else None

    def _is_own_thread(self) -> bool:
        return threading.get_ident() == self._thread.ident

    def stop(self) -> None:
        """End the loop and its thread; calls under way are cancelled."""
        self.run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_SECONDS)
        self._loop.close()


class Blocking:
    """A blocking face on one object; attributes and methods are the object's own."""

    def __init__(self, wrapped: Any, thread: LoopThread) -> None:
        self._wrapped = wrapped
        self._thread = thread

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._wrapped, name)
        if not callable(value) or inspect.isclass(value):
            return self._face(value)

        def call(*arguments: Any, **options: Any) -> Any:
            return self._settle(value, arguments, options)

        return call

    def __iter__(self) -> Iterator[Any]:
        return self._iterate(self._wrapped.__aiter__())

    def __enter__(self) -> Self:
        self._thread.run(self._wrapped.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.run(self._wrapped.__aexit__(kind, error, trace))

    def __repr__(self) -> str:
        return f"Blocking({self._wrapped!r})"

    def _settle(self, function: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if inspect.iscoroutinefunction(function):
            return self._face(self._thread.run(function(*arguments, **options)))
        result = self._thread.run(_call(function, arguments, options))
        if isinstance(result, AsyncIterator):
            return self._iterate(result)
        return self._face(result)

    def _iterate(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        try:
            while True:
                try:
                    item = self._thread.run(_next(items))
                except StopAsyncIteration:
                    return
                yield self._face(item)
        finally:
            if isinstance(items, AsyncGenerator):
                self._thread.finish(_close(items))

    def _face(self, value: Any) -> Any:
        """Stand in front of what has asynchronous methods of its own; records and plain values pass."""
        if isinstance(value, asyncio.StreamReader | asyncio.StreamWriter):
            return Blocking(value, self._thread)
        if type(value) is tuple:
            return tuple(map(self._face, value))
        module = type(value).__module__
        if module.startswith("trunkline.client.") and not module.startswith(PLAIN):
            return Blocking(value, self._thread)
        return value


class BlockingControlPlane(Blocking):
    """A `ControlPlane` with a thread of its own, which ends with the ``with`` block."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._thread.stop()


def connect(url: str, token: str, *, ca_file: str | os.PathLike[str] | None = None) -> BlockingControlPlane:
    """A blocking client of a control plane, to be used in a ``with`` block; the arguments are those of `ControlPlane`.

    Raises:
        ValueError: `url` is not an https address.
        CertificateError: `ca_file` cannot be used.
    """
    control_plane = ControlPlane(url, token, ca_file=ca_file)
    return BlockingControlPlane(control_plane, LoopThread())


async def _next(items: AsyncIterator[Any]) -> Any:
    """Ask for the next only here: what a generator gives to be awaited cannot be let go of quietly; a coroutine can."""
    return await anext(items)


async def _close(items: AsyncGenerator[Any, None]) -> None:
    await items.aclose()


async def _call(function: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Call on the loop's thread, where objects of the SDK have to be made."""
    return function(*arguments, **options)


async def _cancel_others() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)

"""The event loop of a daemon: which one runs, and what becomes of exceptions that nobody awaits."""

import asyncio
import functools
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any, Literal, TypeVar

from trunkline.runtime.accepting import resting
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger
from trunkline.runtime.writing_turns import WritingTurns

T = TypeVar("T")

EventLoopName = Literal["auto", "uvloop", "asyncio"]

# aiofastnet's own default is 16 TLS records each way, 512 KiB a connection. What is not touched takes no memory.
TLS_INCOMING_BYTES = 8 * (16 * 1024 + 22)
"""Of one read: eight whole records of TLS 1.3, for which the peer needs to be told once that they have arrived."""
TLS_OUTGOING_BYTES = 64 * 1024
"""Of one write: as much as the kernel sends in one piece, and as a link writes at a time."""
LAG_INTERVAL_SECONDS = 0.5
_MAKERS_OF_CONNECTIONS = (
    "connect_accepted_socket",
    "create_connection",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
)


def run(
    main: Callable[[], Coroutine[Any, Any, T]], *, event_loop: EventLoopName = "auto", log: Logger | None = None
) -> T:
    """Run the coroutine that `main` makes to its end, and return its result.

    Args:
        main: makes the main coroutine.
        event_loop: `auto` is uvloop with aiofastnet's TLS if both are installed, else asyncio; `uvloop` is uvloop
            with its own TLS; `asyncio` is the standard library's. The TLS transports of these two do not count what
            lies in the transport below, so that a peer which stands still at the very end of what it is sent, and says
            something before it reads on, can lose up to 128 KiB of it.
        log: where exceptions that nobody awaits are reported, one line each.
    """
    factory = loop_factory(event_loop)
    with asyncio.Runner(loop_factory=factory) as runner:
        if log is not None:
            runner.get_loop().set_exception_handler(functools.partial(_report_unhandled, log))
        if factory is not asyncio.new_event_loop:
            runner.run(_threads_of_uvloop())
        return runner.run(main())


def loop_factory(event_loop: EventLoopName) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes a new event loop of the kind that is named.

    Raises:
        ModuleNotFoundError: `uvloop` is asked for and not installed.
    """
    if event_loop == "auto" and find_spec("uvloop") and find_spec("aiofastnet"):
        return _fast_loop
    if event_loop == "uvloop":
        return _uvloop
    return asyncio.new_event_loop


async def _threads_of_uvloop() -> None:
    """Have uvloop make the threads in which names are looked up: where there are none to be had, it aborts the process.

    That would be at the first look-up, which for a control plane may be days later.
    """
    # Without a type of socket it does not read the address by itself, and of figures no server is asked.
    await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 0, flags=socket.AI_NUMERICHOST)


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    loop = uvloop.new_event_loop()
    # As asyncio's does. Its own tells whole milliseconds, and a near peer is not even one away.
    setattr(loop, "time", time.monotonic)  # noqa: B010
    return loop


def _fast_loop() -> asyncio.AbstractEventLoop:
    import aiofastnet

    loop = aiofastnet.patch_loop(_uvloop())
    # Which it does not patch by itself: without it, accepted sockets would get uvloop's own transports.
    setattr(loop, "connect_accepted_socket", functools.partial(aiofastnet.connect_accepted_socket, loop))  # noqa: B010
    for name in _MAKERS_OF_CONNECTIONS:
        setattr(loop, name, _with_small_buffers(getattr(loop, name)))
    sizes: dict[str, Any] = {"ssl_incoming_bio_size": TLS_INCOMING_BYTES, "ssl_outgoing_bio_size": TLS_OUTGOING_BYTES}
    setattr(loop, "start_tls", functools.partial(loop.start_tls, **sizes))  # noqa: B010 - not in the type's signature
    setattr(loop, "add_reader", resting(loop, _unless_closed(loop.add_reader)))  # noqa: B010
    writing = WritingTurns(loop)
    setattr(loop, "add_writer", writing.add_writer)  # noqa: B010
    setattr(loop, "remove_writer", writing.remove_writer)  # noqa: B010
    return loop


def _unless_closed(add_reader: Callable[..., None]) -> Callable[..., None]:
    """Watch no descriptor for a plain transport that is closing.

    aiofastnet asks for a plain connection's descriptor to be watched after `connection_made`, even where that has
    closed the connection. The loop would go on taking the number for watched once it is closed, and whatever was given
    the same number next would never be told anything. (With TLS it asks before, when the transport is not open yet.)
    """
    from aiofastnet.selector_transport import SelectorSocketTransport

    @functools.wraps(add_reader)
    def checked(descriptor: Any, callback: Callable[..., object], *arguments: Any) -> None:
        transport = getattr(callback, "__self__", None)
        if not isinstance(transport, SelectorSocketTransport) or not transport.is_closing():
            add_reader(descriptor, callback, *arguments)

    return checked


def _with_small_buffers(call: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Give every TLS connection made by `call` the smaller buffers; plain ones must not be given any."""

    @functools.wraps(call)
    def sized(*arguments: Any, **options: Any) -> Coroutine[Any, Any, Any]:
        if options.get("ssl"):
            options.setdefault("ssl_incoming_bio_size", TLS_INCOMING_BYTES)
            options.setdefault("ssl_outgoing_bio_size", TLS_OUTGOING_BYTES)
        return call(*arguments, **options)

    return sized


def _report_unhandled(log: Logger, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    # A peer that breaks off or garbles a TLS handshake is no error of ours, and must not fill the log.
    write = log.debug if _is_peers_doing(context, error) else log.error
    write(
        "event_loop.unhandled_exception",
        message=str(context.get("message", "")),
        error=(error if isinstance(error, type) else type(error)).__name__ if error is not None else None,
        reason=str(error) if error is not None else None,
        where=_where(error),
    )


def _is_peers_doing(context: dict[str, Any], error: object) -> bool:
    if not {"transport", "protocol"} & context.keys():
        return False
    kind = error if isinstance(error, type) else type(error)
    return issubclass(kind, (ConnectionError, TimeoutError, ssl.SSLError))


def _where(error: object) -> str | None:
    """Return the file and line where the exception was raised: enough to find it, on one line."""
    trace = error.__traceback__ if isinstance(error, BaseException) else None
    if trace is None:
        return None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


async def watch_lag(observe_seconds: Callable[[float], None], clock: Clock) -> None:
    """Tell `observe_seconds`, twice a second and for ever, by how much the loop ran late."""
    while True:
        start = clock.monotonic()
        await asyncio.sleep(LAG_INTERVAL_SECONDS)
        observe_seconds(max(0.0, clock.monotonic() - start - LAG_INTERVAL_SECONDS))
